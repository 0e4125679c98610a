"""Texts -> which of the codebook's traps they hold: titles, metaphors, namesakes.

A trap is a word of a topic in a sentence that may not be about it: the minister of energy, the
energy of our youth, the football club of Karabakh. A passage that holds one may still take the
topic for another sentence; the slices exist to show how a model copes, not to say the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

TRAPS = ("titles", "metaphors", "namesakes")

_FOLD = str.maketrans(
    "يىئكةأإآٱؤıİ\u200c\u00a0",
    "یییکهااااوii  ",
    "\u0640\u0307\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652",  # tatweel, vowels
)

_TITLES = (
    # Persian
    r"(?:کمیسیون|شورای|شورای عالی|کمیته) (?:امنیت|انرژی|دفاع)",
    r"(?:وزیر|وزرای|وزارت) (?:نیرو|نفت|انرژی|دفاع|اطلاعات|راه|ترابری|حمل ?و ?نقل)\b",
    r"(?:مدیرکل|معاون|رییس) (?:حمل ?و ?نقل|راهداری|گمرک|ترانزیت|بنادر)|وابسته نظامی",
    # Arabic
    r"(?:مجلس|لجنه) (?:ال)?(?:امن|طاقه|دفاع)",
    r"وزیره? (?:الطاقه|النفط|البترول|الدفاع|النقل|المواصلات|الکهرباء)",
    # Azerbaijani, Turkish
    r"təhlükəsizlik(?:,? (?:və )?[\w ]{0,40}?)? (?:şura|komitə|komissiya)\w*",
    r"(?:energetika|neft|müdafiə|nəqliyyat)(?: və [\w ]{0,30}?)? nazir(?!liy)\w*",
    r"güvenlik (?:kurul|konsey|komisyon)\w*",
    r"(?:enerji|petrol|savunma|ulaştırma)(?: ve [\w ]{0,30}?)? bakan(?!lı)\w*",
    # English, Russian
    r"\bsecurity(?: and [\w ]{0,20}?)? (?:council|commission|committee|advis[eo]r)",
    r"\b(?:council|commission|committee) on (?:national )?(?:security|energy|defen[cs]e)",
    r"\b(?:energy|oil|petroleum|defen[cs]e|transport(?:ation)?|roads?)"
    r"(?: and [\w ]{0,30}?)? minister",
    r"\b(?:minister|secretary) (?:of|for) "
    r"(?:energy|oil|petroleum|defen[cs]e|transport\w*|roads?)\b",
    r"совет\w* безопасности",
    r"министр\w* (?:энергетики|обороны|транспорта|нефти)",
)
_METAPHORS = (
    r"انرژی (?:من|او|(?:خود|این جوانان|جوانان|مثبت|منفی|بازیکنان|تیم|مضاعف|هواداران)"
    r"(?:ی|م|ت|ش|مان|تان|شان)?)\b",
    r"\bپر ?انرژی",
    r"\bپلی? (?:میان|بین) (?:دو )?(?:ملت|فرهنگ|تمدن|مردم|نسل)",
    r"\bپل دوستی|\bپل زدن\b|باید پل زد",
    r"اتش ?بس تعرفه|جنگ (?:تعرفه|قیمت|روانی|ستارگان)",
    r"ریل ?گذاری",
    r"(?:در|به) مسیر (?:درست|توسعه|پیشرفت|صلح|گفت)",
    r"\bقطار (?:مذاکرات|پیشرفت|توسعه|صلح)",
    r"\b(?:بمب|انفجار) (?:خبری|شادی|قیمت|جمعیت|نقل ?و ?انتقالات)",
    r"طاق(?:ه|ات) (?:هولا )?(?:ال)?(?:شباب|شبابیه|ایجابیه|سلبیه|بشریه)",
    r"الطاقات (?:الشبابیه|البشریه|الابداعیه)",
    r"\bجسرا? (?:بین|للتواصل|للتفاهم|للصداقه|الصداقه|للحوار)",
    r"طریق السلام|المسار الصحیح|\bقطار (?:السلام|التنمیه|التطبیع)",
    r"(?:gənclərin|müsbət|pozitif|pozitiv|olumlu|gençlerin|takımın) enerjisi?|enerjimizi",
    r"(?:xalqlar|mədəniyyətlər|ölkələr) arasında(?:ki)? körpü|körpü rolu",
    r"körpü salmaq|körpüləri yandır",
    r"(?:halk|kültür|millet|ülke)\w* arasında(?:ki)? (?:bir )?köprü",
    r"sülhə (?:gedən )?yol|barışa giden yol|doğru yolda|düzgün yolda",
    r"\b(?:positive|negative|youthful|fresh|creative) energy",
    r"\benerg(?:y|ies) of (?:the|our|its) (?:young|youth|team|players|crowd)",
    r"\bbridge between (?:the )?(?:two )?(?:nations|peoples|cultures|civili[sz]ations)",
    r"\bon the right track|\b(?:road|path) to (?:peace|victory|recovery)",
    r"\b(?:war of words|price war|bombshell)\b",
    r"(?:положительн|позитивн|творческ|молод)\w* энерги|хвати\w+ энергии",
    r"мост\w* между (?:народами|культурами|странами)",
    r"пут[ьи] к миру|на верном пути",
)
_NAMESAKES = (
    r"امنیت (?:غذایی|شغلی|اجتماعی|روانی|اخلاقی|سرمایه)",
    r"(?:باشگاه|تیم|فوتبال|مقابل|برابر|اسب|اسبهای|اسب های|موغام|مقام|فرش|قالی|روستای|ولسوالی)"
    r" (?:فوتبال )?قر[هو] ?باغ",
    r"قر[هو] ?باغ (?:اقدام|اغدام)|قره ?باغی\b|قاراباغ شیکسته",
    r"الامن (?:الغذایی|الوظیفی|الاجتماعی|المایی)",
    r"(?:نادی|فریق|مباراه|خیول|سجاد) (?:قره|قرا|کارا) ?باغ",
    r"(?:ərzaq|qida|sosial|gıda|sosyal|\biş) (?:təhlükəsizli|güvenli)\w*",
    r"[\"'«“](?:qarabağ|qarabag|karabağ)[\"'»”]",
    r"qarabağ (?:fk|klub|komanda|at[ıi]|atlar|xalça|muğam)\w*",
    r"\bqarabag?h? ?(?:fk|fc|agdam)|karabağ (?:fk|at[ıi]|atlar|halı|mugam)\w*",
    r"\b(?:food|job|social|water|investment) security\b|\bsecurity of investments?",
    r"\bqaraba(?:gh|ğ|g) (?:fk|fc|agdam|ağdam|players?|coach|beat|drew|lost|side|goal)",
    r"\b(?:against|beat|vs?\.?) qaraba(?:gh|ğ|g)\b",
    r"\bkarabakh (?:horses?|carpets?|rugs?|mugham)",
    r"(?:продовольственн|социальн|инвестиционн)\w+ безопасност",
    r"[«\"]карабах\w?[»\"]|карабахск\w+ (?:скакун|лошад|ков[её]?р|мугам)",
)
_PATTERNS = dict(zip(TRAPS, (_TITLES, _METAPHORS, _NAMESAKES), strict=True))
_REMARKS = {
    "titles": re.compile(r"\btitles?\b"),
    "metaphors": re.compile(r"metaphor|figures? of speech"),
    "namesakes": re.compile(r"namesake"),
}


def fold(text: str) -> str:
    """Fold what writers vary: letter case, Arabic letter forms, half-spaces, dotless i."""
    return " ".join(text.translate(_FOLD).casefold().replace("\u0307", "").split())


def has_trap(texts: Sequence[str], trap: str, *, notes: Sequence[str | None] = ()) -> np.ndarray:
    """Mark the passages that hold a trap.

    Parameters
    ----------
    texts : the passages, as read, in any of the languages served.
    trap : one of TRAPS.
    notes : the annotator's remarks, one a passage; a remark that names the trap counts too.

    Returns
    -------
    Shape (n_passages,), bool.

    Raises
    ------
    ValueError
        If the trap is not one of TRAPS, or there are notes for another number of passages.
    """
    if trap not in TRAPS:
        raise ValueError(f"Got trap={trap!r} but expected one of {', '.join(TRAPS)}.")
    if notes and len(notes) != len(texts):
        raise ValueError(f"Got {len(notes)} notes but expected one for each of {len(texts)} texts.")
    pattern, remark = _compiled(trap), _REMARKS[trap]
    marks = [bool(pattern.search(fold(text))) for text in texts]
    for position, note in enumerate(notes):
        marks[position] |= bool(note and remark.search(note.casefold()))
    return np.array(marks, dtype=bool)


@lru_cache(maxsize=len(TRAPS))
def _compiled(trap: str) -> re.Pattern[str]:
    return re.compile("|".join(source.translate(_FOLD) for source in _PATTERNS[trap]))
