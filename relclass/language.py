"""Text -> language code, by script, letters and the commonest words.

The six languages served are told apart by what is most frequent in them, so a passage costs some
tens of microseconds and no model is loaded. Other languages come out as "other" where their own
letters or commonest words show it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

LANGUAGES = ("fa", "ar", "az", "tr", "en", "ru", "other")

# ی stands for ي too.
_CODES = {
    "fas": "fa", "per": "fa", "pes": "fa", "prs": "fa", "persian": "fa", "farsi": "fa",
    "dari": "fa", "فارسی": "fa", "الفارسیة": "fa",
    "ara": "ar", "arb": "ar", "arabic": "ar", "العربیة": "ar", "عربیة": "ar", "عربی": "ar",
    "aze": "az", "azb": "az", "azj": "az", "azerbaijani": "az", "azeri": "az",
    "azərbaycan": "az", "azərbaycanca": "az", "آذری": "az", "آذربایجانی": "az",
    "tur": "tr", "turkish": "tr", "türkçe": "tr", "turkce": "tr",
    "eng": "en", "english": "en", "انگلیسی": "en", "الإنجلیزیة": "en",
    "rus": "ru", "russian": "ru", "русский": "ru", "روسی": "ru", "الروسیة": "ru",
}  # fmt: skip
_NOT_GIVEN = frozenset({"", "und", "mul", "unknown", "n/a", "na", "none", "null", "nan"})

MAX_CHARS = 1_500
"""How much of a text is looked at: more changes no decision and costs time."""

# Evidence is counted in words: a common word of a language is 1, a letter of its own about as much.
_SHORT_LETTERS = 60
_VERY_SHORT_LETTERS = 30
_FIRM_MARGIN = 2.0
_WEAK_MARGIN = 0.5
# Where this many Latin words hold fewer English ones than this share, they are not English.
_MANY_WORDS = 8
_ENGLISH_SHARE = 0.08

Scores = dict[str, float]


def _span(*ranges: tuple[int, int]) -> frozenset[str]:
    codes = (code for first, last in ranges for code in range(first, last + 1))
    return frozenset(filter(str.isalpha, map(chr, codes)))


_SCRIPTS: Mapping[str, str] = {
    **dict.fromkeys(
        _span((0x620, 0x64A), (0x66E, 0x6D5), (0x6EE, 0x77F), (0xFB50, 0xFEFC)), "arabic"
    ),
    **dict.fromkeys(_span((0x41, 0x24F), (0x250, 0x2AF), (0x1E00, 0x1EFF)), "latin"),
    **dict.fromkeys(_span((0x400, 0x52F)), "cyrillic"),
}

_PERSIAN_LETTERS = frozenset("پچژگ")  # and of Azerbaijani
_ARABIC_ONLY = frozenset("ةأإً")
_ARABIC_ARTICLE = (" ال", " وال", " بال", " لل")
_AZERI_LETTERS = frozenset("ؤۆۇێې")
# Letters of Urdu, Pashto, Sindhi, Uyghur and Kurdish that none of fa, ar, az writes. U+06D5 is the
# commonest letter of Sorani and Uyghur.
_FOREIGN_ARABIC = frozenset("ٹڈڑےںھہۂۓښځڅړټۍګڕڵەڭۈۋڪڄڃڏڊڌ")
# Ukrainian, Belarusian, Serbian, Macedonian, and what else is written in Cyrillic.
_FOREIGN_CYRILLIC = frozenset("іїєґўјљњћђџѓќѕәғқңөұүһҳҷҹҝҗӣӯІЇЄҐЎЈЉЊЋЂЏӘҒҚҢӨҰҮҺҲҶҸҜ")
_FOREIGN_LATIN = frozenset("àáãäåæèéêëìíïñòóôõøùúûýÿœßąćęłńśźżčďěňřšťůžőűțășāēīļķņūģ")
_SCHWA = frozenset("əƏ")
_TURKIC_LETTERS = frozenset("ığşİĞŞçöüÇÖÜ")
_AZERI_LATIN = frozenset("qxQX")


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


_ARABIC_WORDS: Mapping[str, frozenset[str]] = {
    # ی and ک stand for ي and ك too: the text is folded before it is looked up.
    "fa": _words(
        "به از که را این با است های می شد کرد برای آن تا بر خود وی یک هم نیز شده باید گفت دو کند"
        " ما اند ها شود کشور دارد ایران پس هر بود چه اگر یا دیگر کرده بین باشد گزارش روز او سال"
        " نمی کنیم دارند خواهد بوده می‌شود کنند داد داشت مورد بیشتر چند ای سازی همه ولی رئیس"
    ),
    "ar": _words(
        "فی من على إلى الى أن ان التی الذی عن مع هذا هذه ما لا إن كما کما بین أو او ذلک بعد قال لم"
        " قد خلال قبل کان کانت کل حول حیث تم عبر وقد أنه انه لها له ولا بها به غیر أکثر لن وفی ومن"
        " أکد واکد وأضاف مؤکدا وأن وان هو هی یوم الذین لدى أمام ضد منذ عام أی وهو وهی علیها"
    ),
    "az": _words(
        "بو بیر اوچون اوْچون ایله اولان اولاراق گؤره کیمی داها اولوب ائدیب ائدن ائدیر دئییب دئدی"
        " اوز اؤز ایل ایلده ایلین سونرا اونون اولدو ائتدی اولور اولار آنجاق بؤیوک یئنی ان چوخ دا ده"
        " ایکی اوچ ایکینجی قدر هله ایندی دئییل یوخ وار ائتمک اوزره طرفیندن بوتون اونلار بونو ایسه"
        " بیلدیریب وئریب وئریر گون گونو باش یئر مین جومهوریتی بیلدیردی ائدیله جک ائدیلیب"
    ),
}
_LATIN_WORDS: Mapping[str, frozenset[str]] = {
    "az": _words(
        "və üçün ilə bu bir olan olub edib deyib bildirib ki də da həm onun sonra ilə ildə ilin"
        " görə qədər azərbaycan daha çox ən öz isə olaraq edilib edir olunub kimi yeni iki biz"
        " onlar üzrə arasında tərəfindən ucun uchun deyil hissə sayılı edən olunan"
        " edilir bildirdi etmək yaxşı ümumi dedi var idi heç hər nə artıq indi ve"
        " ile sonra daha"
    ),
    "tr": _words(
        "ve için ile bu bir olan olarak de da daha çok en gibi sonra göre kadar ise olduğunu dedi"
        " ifade etti oldu eden ancak olduğu tarafından türkiye o ne değil her başkanı arasında"
        " yıl yılında büyük şekilde üzerinde ilk içinde iki var nin nın devam söyledi konusunda"
        " belirten açıklamada olduğuna kendi biz ama yapılan olduğu ın in"
        " icin degil uzerine gore cok gunluk oldugunu turkiye yil"  # marks lost
    ),
    "en": _words(
        "the of and to in that is for on with by was as at it from are be has have said an this"
        " will not which were their its after been but they his he we would had also more who than"
        " between all or there into over you about she her our what when"
    ),
    "other": _words(
        "le la les des et du une dans que qui pour est sur der die und das den mit von ist nicht"
        " auf ein eine el los las una por con del para il di che della per non het een van"
        " je se na nie jest och att som det ett og til av på não em uma dos as și este care din"
        " pe yang dan untuk dengan dari ini va uchun bilan bo‘yicha ham ku û li ji bi ya wa kwa"
        " au plus avec sont ont aux ce cette sich auch es im dem zu y se lo su al"
    ),
}
_RUSSIAN_WORDS = _words(
    "и в на с что по не из к о для за от как это а его он до но также года году при во мы со"
    " их все у был было между я только уже или том об"
)
_WORD = re.compile(r"[^\W\d_]+(?:\u200c[^\W\d_]+)*")
_AZERI_ENDING = re.compile(  # in Arabic script
    r"(?:\w{2}(?:ل[اه]?ر[یه]?ن?|لارا|دیر|میش|موش|ینین|نین|ینده|ونون|یندن|یندان|لیق|لیک|جاق)"
    r"|[یلدرت]یب)\b"
)
_TURKIC_ENDING = re.compile(  # in Latin script, its marks often lost
    r"\w{3}(?:l[aeə]r[iı]?n?|n[iı]n|d[ae]n|[iı]nd[ae]|d[iıuü]r|m[ae]k|s[iı]n[iıae]|l[iı][kq])\b"
)
_AZERI_LATIN_ENDING = re.compile(r"\w{3}[dtlrnşs][iıuü]b\b")
_TURKISH_ENDING = re.compile(r"\w{2}(?:[iıuü]yor|[ae]c[ae]k|d[iı][gğ][iı])\w*")


def detect_language(text: str, *, fallback: str | None = None) -> str:
    """Tell the language of a text.

    Parameters
    ----------
    text : a passage; only its first `MAX_CHARS` characters are looked at.
    fallback : the article's language, taken where the text is too short to tell or has no letters.

    Returns
    -------
    "fa", "ar", "az" (Latin or Arabic script), "tr", "en", "ru" or "other".
    """
    text = text[:MAX_CHARS]
    chars = Counter(text)
    n_letters = dict.fromkeys(_SCORERS, 0)
    for char, n in chars.items():
        if char.isalpha():
            n_letters[_SCRIPTS.get(char, "unknown")] += n
    script = max(n_letters, key=n_letters.__getitem__)
    if n_letters[script] == 0:
        return fallback or "other"
    scores = _SCORERS[script](text, chars)
    best, second = sorted(scores, key=scores.__getitem__, reverse=True)[:2]
    margin = scores[best] - scores[second]
    if fallback and _is_doubtful(n_letters[script], margin, is_possible=fallback in scores):
        return fallback
    return best


def detect_languages(texts: Sequence[str], *, fallback: str | None = None) -> list[str]:
    """Tell the language of each text, in order, as `detect_language` does."""
    return [detect_language(text, fallback=fallback) for text in texts]


def normalize_code(code: str) -> str | None:
    """Map a language's code or name as others write it ("fas", "az-Latn", "Persian") to ours.

    Returns
    -------
    One of `LANGUAGES`; "other" for what is none of them; None for what names no language ("und",
    "mul", "unknown").
    """
    first = re.split(r"[-_\s(]", code.strip().lower().replace("ي", "ی"), maxsplit=1)[0]
    if first in _NOT_GIVEN:
        return None
    return _CODES.get(first, first if first in LANGUAGES else "other")


def count_common_words(text: str) -> int:
    """Count the words of two letters and more that are among the commonest of a language.

    A text read in the wrong code page has next to none.
    """
    text = text[:MAX_CHARS].replace("ي", "ی").replace("ك", "ک").lower()
    tables = (*_ARABIC_WORDS.values(), *_LATIN_WORDS.values(), _RUSSIAN_WORDS)
    words = [word for word in _WORD.findall(text) if len(word) > 1]
    return max(sum(map(table.__contains__, words)) for table in tables)


def _is_doubtful(n_letters: int, margin: float, *, is_possible: bool) -> bool:
    """Tell whether the fallback knows better than the text; another script wins sooner."""
    if is_possible:
        return margin < (_FIRM_MARGIN if n_letters < _SHORT_LETTERS else _WEAK_MARGIN)
    return n_letters < _VERY_SHORT_LETTERS and margin < _FIRM_MARGIN


def _count(chars: Mapping[str, int], letters: frozenset[str]) -> int:
    if letters.isdisjoint(chars):
        return 0
    return sum([n for char, n in chars.items() if char in letters])


def _count_words(words: Sequence[str], tables: Mapping[str, frozenset[str]]) -> Scores:
    return {language: float(sum(map(table.__contains__, words)))
            for language, table in tables.items()}  # fmt: skip


def _score_arabic_script(text: str, chars: Mapping[str, int]) -> Scores:
    text = text.replace("ي", "ی").replace("ك", "ک")
    words = _WORD.findall(text)
    scores = _count_words(words, _ARABIC_WORDS)
    persian_letters = 0.3 * _count(chars, _PERSIAN_LETTERS)
    scores["ar"] += _count(chars, _ARABIC_ONLY)
    scores["ar"] += 0.5 * sum(map(text.count, _ARABIC_ARTICLE))
    scores["az"] += _count(chars, _AZERI_LETTERS)
    if max(scores["fa"], scores["ar"]) < max(6 * scores["az"], 0.1 * len(words)):  # it is slow
        scores["az"] += 0.7 * len(_AZERI_ENDING.findall(text))
    scores["fa"] += persian_letters + 0.1
    scores["az"] += persian_letters
    scores["other"] = 1.5 * _count(chars, _FOREIGN_ARABIC)
    return scores


def _score_latin_script(text: str, chars: Mapping[str, int]) -> Scores:
    text = text.replace("İ", "i").lower()
    words = _WORD.findall(text)
    scores = _count_words(words, _LATIN_WORDS)
    schwas = _count(chars, _SCHWA)
    marks = _count(chars, _TURKIC_LETTERS)
    turkic = 0.5 * marks + 0.5 * len(_TURKIC_ENDING.findall(text))
    scores["az"] += turkic + 2.0 * schwas + len(_AZERI_LATIN_ENDING.findall(text))
    scores["tr"] += turkic + len(_TURKISH_ENDING.findall(text))
    if not schwas:  # a twelfth of the letters of Azerbaijani, where marks are kept
        scores["tr"] += 0.3 * marks
    scores["other"] += 0.7 * _count(chars, _FOREIGN_LATIN)
    if scores["az"] + scores["tr"] > scores["en"] + scores["other"]:
        scores["az"] += 0.7 * _count(chars, _AZERI_LATIN)
    if len(words) < _MANY_WORDS or scores["en"] >= _ENGLISH_SHARE * len(words):
        scores["en"] += 0.1
    else:
        scores["other"] += 0.2
    return scores


def _score_cyrillic_script(text: str, chars: Mapping[str, int]) -> Scores:
    words = _WORD.findall(text.lower())
    russian = float(sum(map(_RUSSIAN_WORDS.__contains__, words)))
    other = 1.5 * _count(chars, _FOREIGN_CYRILLIC)
    if chars["ъ"] > 1 and not (chars["ы"] or chars["э"]):  # Bulgarian
        other += len(words)
    return {"ru": russian + 0.2, "other": other}


def _score_unknown_script(text: str, chars: Mapping[str, int]) -> Scores:
    return {"other": float(len(text)), "en": 0.0}


_SCORERS: Mapping[str, Callable[[str, Mapping[str, int]], Scores]] = {
    "arabic": _score_arabic_script,
    "latin": _score_latin_script,
    "cyrillic": _score_cyrillic_script,
    "unknown": _score_unknown_script,
}
