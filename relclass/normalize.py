"""Text -> normalised text, by language; the only importer of hazm.

A step touches only the languages it is right for, and running twice changes nothing. No letter is
lost: letters are replaced one for one, a ligature by its letters; only tatweel, which stretches
a word and is no letter of it, goes. NUL and other control characters become spaces, direction
characters go, and a lone surrogate, which no tokenizer can encode, becomes U+FFFD.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from relclass.config import NormalizeSettings
from relclass.errors import MissingExtraError

ZWNJ = "\u200c"

PERSIAN_LIKE = ("fa", "az")
"""Languages whose Arabic script has Persian letters and half-spaces; az Latin has neither."""

_PERSIAN_FORMS = str.maketrans("يىكةۀہھ", "ییکهههه")
_ARABIC_FORMS = str.maketrans("یکہھ", "يكهه")
_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩٫٬", "01234567890123456789.,")
_SHORT_VOWELS = "\u064e\u064f\u0650\u0651\u0652"
"""Fatha, damma, kasra, shadda, sukun; the three tanwin before them are spelling and stay."""
_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_INVISIBLE = "\u00ad\u200b\u2060\u2061\u2062\u2063\u2064\ufeff"
_HALF_SPACE_STAND_INS = "\u00ad\u200b\u200c\u200d"
"""What old pages have where Persian wants a half-space."""
_CP1252 = dict(zip(range(0x91, 0x98), "‘’“”•–—", strict=True)) | {0x85: "…"}
"""Control characters that were windows-1252 punctuation before a wrong decoding."""

_ARABIC_SCRIPT = "\u0620-\u063f\u0641-\u065f\u066e-\u06d3\u06d5\u06ee\u06ef\u06fa-\u06fc"
_JOINABLE = _ARABIC_SCRIPT + "0-9\u0660-\u0669\u06f0-\u06f9"
_LOOSE_ZWNJ = re.compile(
    f"(?<![{_JOINABLE}{ZWNJ}]){ZWNJ}+|{ZWNJ}+(?![{_JOINABLE}{ZWNJ}])|(?<={ZWNJ}){ZWNJ}+"
)
_NOT_SIGN = re.compile(f"(?<=[{_ARABIC_SCRIPT}])¬(?=[{_ARABIC_SCRIPT}])")
_SPACE_RUN = re.compile(r"\s{2,}|[^\S \n]")
_COMBINING = re.compile(r"[^\W\d_][\u0300-\u036f\u0653-\u0655]+")


def normalize_all(
    texts: Sequence[str], languages: Sequence[str], settings: NormalizeSettings
) -> list[str]:
    """Normalise passages, each by its language.

    Raises
    ------
    MissingExtraError
        As `normalize` does.
    ValueError
        If `languages` has another length than `texts`.
    """
    return [
        normalize(text, language, settings) for text, language in zip(texts, languages, strict=True)
    ]


def normalize(text: str, language: str, settings: NormalizeSettings) -> str:
    """Return the text as a model reads it.

    Parameters
    ----------
    text : a passage as read; any string, lone surrogates included.
    language : "fa", "ar", "az", "tr", "en", "ru" or "other".
    settings : the steps to run, as stored with the model.

    Returns
    -------
    The text after the steps; running it again changes nothing.

    Raises
    ------
    MissingExtraError
        If the settings ask for hazm, the text is Persian and hazm is not installed.
    """
    pattern, replacement = _characters(language, settings)
    text = pattern.sub(replacement, text)
    if settings.letters:
        text = _COMBINING.sub(_compose_persian if language == "fa" else _compose, text)
    if settings.spaces:
        text = _fold_spaces(text, language)
    if language in PERSIAN_LIKE:
        text = _space_persian(text, language, settings)
    return text


def _space_persian(text: str, language: str, settings: NormalizeSettings) -> str:
    if language == "fa" and settings.hazm:
        text = _apply_hazm(text)
    if language == "fa" and settings.compounds:
        text = _join_compounds(text)
    if settings.half_spaces == "keep" or ZWNJ not in text:
        return text
    text = text.replace(ZWNJ, " " if settings.half_spaces == "space" else "")
    return _fold_spaces(text, language) if settings.spaces else text


def _fold_spaces(text: str, language: str) -> str:
    if language in PERSIAN_LIKE:
        text = _LOOSE_ZWNJ.sub("", _NOT_SIGN.sub(ZWNJ, text))
    return _SPACE_RUN.sub(_one_space, text).strip()


def _one_space(match: re.Match[str]) -> str:
    return "\n" if "\n" in match[0] else " "


def _compose(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match[0])


def _compose_persian(match: re.Match[str]) -> str:
    """Compose, with yeh + hamza as Arabic has it; the hamza of izafe on a final heh goes."""
    letter, marks = match[0][0], match[0][1:]
    if letter == "ه":
        return letter + marks.replace("\u0654", "")
    letter = "ي" if letter == "ی" and marks[0] == "\u0654" else letter
    return unicodedata.normalize("NFC", letter + marks)


@cache
def _characters(
    language: str, settings: NormalizeSettings
) -> tuple[re.Pattern[str], Callable[[re.Match[str]], str]]:
    """Build the one pass that replaces single characters.

    A pattern of the characters to replace is quicker than `str.translate`, which looks up
    every character of the text.
    """
    table = {chr(code): "\ufffd" for code in range(0xD800, 0xE000)}
    if settings.letters:
        table |= _letter_table(language)
    if settings.spaces:
        table |= _space_table(language)
    if settings.marks and language in (*PERSIAN_LIKE, "ar"):
        vowels = str.maketrans("", "", _SHORT_VOWELS)  # a presentation form may hold some
        table = {char: new.translate(vowels) for char, new in table.items()}
        table |= dict.fromkeys(_SHORT_VOWELS, "")
    if settings.digits:
        table = {char: new.translate(_DIGITS) for char, new in table.items()}
        table |= {chr(code): chr(new) for code, new in _DIGITS.items()}
    pattern = re.compile("[" + "".join(map(re.escape, sorted(table))) + "]")
    return pattern, lambda match: table[match[0]]


def _letter_table(language: str) -> dict[str, str]:
    forms = _ARABIC_FORMS if language == "ar" else {}
    if language in PERSIAN_LIKE:
        forms = _PERSIAN_FORMS
    table = {"ـ": ""} | {chr(code): chr(new) for code, new in forms.items()}
    for code in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFEFF)):
        folded = unicodedata.normalize("NFKC", chr(code))
        if folded != chr(code):
            # A mark's own form decomposes to a carrier, space or tatweel, and the mark.
            table[chr(code)] = folded.lstrip(" ـ").replace("ـ", "").translate(forms)
    return table


def _space_table(language: str) -> dict[str, str]:
    table = {chr(code): " " for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x0A}
    table |= {chr(code): char for code, char in _CP1252.items()}
    table |= {"\u2028": "\n", "\u2029": "\n"}
    table |= dict.fromkeys(_DIRECTION + _INVISIBLE, "")
    if language in PERSIAN_LIKE:
        table |= dict.fromkeys(_HALF_SPACE_STAND_INS, ZWNJ)
    elif language != "other":  # scripts of other languages may spell with joiners
        table |= {ZWNJ: "", "\u200d": ""}
    return table


# --- Persian compounds and affixes, however spaced ---

_COMPOUNDS = (
    "رئیس جمهور", "نخست وزیر", "قره باغ", "آتش بس", "راه آهن", "حمل و نقل", "گفت و گو",
    "بین المللی", "بین الملل", "زیر ساخت", "برون مرزی", "مرز بان", "مین روبی", "صلح بان",
    "جنگ افزار", "نیرو گاه", "پالایش گاه", "فرود گاه", "بزرگ راه", "آزاد راه", "نفت کش",
    "برق آبی", "گاز رسانی", "سوخت رسانی", "برق رسانی", "پترو شیمی", "هم مرز", "هم جوار",
    "هم کاری", "پیش نویس", "تمامیت ارضی", "آب راه", "گذر گاه", "باز سازی", "جدایی طلب",
)  # fmt: skip
_SUFFIXES = "ها|های|هایی|هایش|هایم|هایشان|هایمان|هایتان|تر|ترین"


@cache
def _compound_patterns() -> tuple[re.Pattern[str], re.Pattern[str], dict[str, str]]:
    joined = {compound.replace(" ", ""): compound.replace(" ", ZWNJ) for compound in _COMPOUNDS}
    spellings = [f"[ {ZWNJ}]?".join(compound.split()) for compound in _COMPOUNDS]
    spellings[0] = spellings[0].replace("رئیس", "ر[ئی]یس")
    no_letter_before, no_letter_after = f"(?<![{_ARABIC_SCRIPT}])", f"(?![{_ARABIC_SCRIPT}])"
    compounds = re.compile(no_letter_before + "(?:" + "|".join(spellings) + ")")
    affixes = re.compile(
        f"{no_letter_before}(ن?می) (?=[{_ARABIC_SCRIPT}]{{2}})"
        f"|(?<=[{_ARABIC_SCRIPT}]{{2}}) (?=(?:{_SUFFIXES}){no_letter_after})"
    )
    return compounds, affixes, joined


def _join_compounds(text: str) -> str:
    compounds, affixes, joined = _compound_patterns()

    def join(match: re.Match[str]) -> str:
        glued = re.sub(f"[ {ZWNJ}]", "", match[0]).replace("رییس", "رئیس")
        return joined[glued]

    text = compounds.sub(join, text)
    return affixes.sub(lambda match: (match[1] or "") + ZWNJ, text)


# --- hazm ---

_HAZM_MAX_CHARS = 2_000
"""hazm's time grows with the square of what it gets (measured on 0.10.0), so it gets pieces."""
_HAZM_SKIPS = re.compile(
    r"([A-Za-z]\w*://\S+|www\.\S+|[\w.+-]+@\S+|\S{60,}|[^ " + _ARABIC_SCRIPT + ZWNJ + r"]+)",
    re.ASCII,
)
"""What hazm would spoil (URLs, e-mails, Latin words, digits, punctuation) or choke on."""
_HAZM_ROUNDS = 3
"""A joined pair may join the next word in turn; three rounds settle what was seen."""


def _apply_hazm(text: str) -> str:
    """Space Persian affixes as hazm does, in the stretches of Persian only."""
    parts = _HAZM_SKIPS.split(text)
    parts[::2] = [
        "".join(_space_by_hazm(piece) for piece in _cut(part)) if len(part) > 2 else part
        for part in parts[::2]
    ]
    return "".join(parts)


def _cut(text: str) -> list[str]:
    """Cut a stretch into pieces of bounded length, at spaces where there are any."""
    pieces = []
    while len(text) > _HAZM_MAX_CHARS:
        end = text.rfind(" ", 0, _HAZM_MAX_CHARS) + 1 or _HAZM_MAX_CHARS
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]


def _space_by_hazm(piece: str) -> str:
    core = piece.strip(" " + ZWNJ)
    if not core:
        return piece
    spaced = core
    for _ in range(_HAZM_ROUNDS):
        before, spaced = spaced, _hazm_normalizer().normalize(spaced)
        if spaced == before:
            break
    if _without_spaces(spaced) != _without_spaces(core):  # it may space, not spell
        return piece
    start = piece.index(core)
    return piece[:start] + spaced + piece[start + len(core) :]


def _without_spaces(text: str) -> str:
    return text.replace(" ", "").replace(ZWNJ, "")


@cache
def _hazm_normalizer() -> Any:
    try:
        from hazm import Normalizer
    except ImportError as error:
        raise MissingExtraError("hazm", "persian") from error
    return Normalizer(
        remove_diacritics=False,
        remove_specials_chars=False,
        decrease_repeated_chars=False,
        persian_style=False,
        persian_numbers=False,
        unicodes_replacement=False,
    )
