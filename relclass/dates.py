"""Text -> date: Jalali and Gregorian, months named in six languages, digits of any script."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_JALALI_MONTHS = (
    "فروردین", "اردیبهشت اردی_بهشت", "خرداد", "تیر", "مرداد امرداد", "شهریور",
    "مهر", "آبان ابان", "آذر اذر", "دی", "بهمن", "اسفند",
)  # fmt: skip
_GREGORIAN_MONTHS = (
    "january jan yanvar ocak января ژانویه ینایر کانون_الثانی",
    "february feb fevral şubat subat февраля фев فوریه فبرایر شباط",
    "march mar mart марта مارس آذار اذار",
    "april apr aprel nisan апреля апр آوریل اوریل ابریل أبریل إبریل نیسان",
    "may mayıs mayis мая می مه مایو أیار ایار",
    "june jun iyun haziran июня ژوئن یونیو حزیران",
    "july jul iyul temmuz июля ژوئیه ژوییه جولای یولیو تموز",
    "august aug avqust ağustos agustos августа авг اوت آگوست اگوست أغسطس اغسطس آب",
    "september sept sep sentyabr eylül eylul сентября сен سپتامبر سبتمبر أیلول ایلول",
    "october oct oktyabr ekim октября окт اکتبر أکتوبر اکتوبر تشرین_الأول تشرین_الاول",
    "november nov noyabr kasım kasim ноября نوامبر نوفمبر تشرین_الثانی",
    "december dec dekabr aralık aralik декабря дек دسامبر دیسمبر کانون_الأول کانون_الاول",
)
_GAP = "[\\s\u200c]*"  # "_" above: a space, a half-space or nothing
_LETTER_FORMS = {"ی": "[یيى]", "ک": "[کك]", "_": _GAP}
_FOLD = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "İ": "i"})

_JALALI_YEARS = range(1250, 1430)  # to 2051; from 1430 on (2009) a year is rather Hijri
_GREGORIAN_YEARS = range(1850, 2151)


@dataclass(frozen=True, slots=True)
class FoundDate:
    """A date and where it stands: characters of the text, half-open."""

    date: datetime.date
    start: int
    end: int


def _fold(month: str) -> str:
    return re.sub(_GAP, "", month).translate(_FOLD).casefold()


def _month_numbers(months: Sequence[str]) -> Mapping[str, int]:
    return {
        _fold(name.replace("_", "")): number
        for number, names in enumerate(months, start=1)
        for name in names.split()
    }


def _month_pattern(months: Sequence[str]) -> str:
    names = sorted((name for names in months for name in names.split()), key=len, reverse=True)
    return "|".join("".join(_LETTER_FORMS.get(char, char) for char in name) for name in names)


_MONTH_NUMBERS = (_month_numbers(_JALALI_MONTHS), _month_numbers(_GREGORIAN_MONTHS))
_JALALI = _month_pattern(_JALALI_MONTHS)
_GREGORIAN = _month_pattern(_GREGORIAN_MONTHS)
_DATE = re.compile(
    # 21 December 2021; ۰۱ دی ماه ۱۴۰۰; 21 ديسمبر/كانون الأول 2021
    rf"(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th|[.]|[\s\u200c]?ا?م\b)?[\s\u200c,-]{{0,3}}"
    rf"(?:(?P<jalali>{_JALALI})|(?P<month>{_GREGORIAN}))(?:{_GAP}ماه)?\b\.?"
    rf"(?:\s?[/(]\s?(?:{_GREGORIAN})\)?)?[\s\u200c,،-]{{0,3}}(?:(?:سال|عام)\s)?"
    r"(?P<year>\d{4})(?!\d)"
    # December 21, 2021
    rf"|\b(?P<month_first>{_GREGORIAN})\.?\s(?P<day_second>\d{{1,2}})(?:st|nd|rd|th)?,?\s"
    r"(?P<year_last>\d{4})(?!\d)"
    # 1400/10/01, 2021-12-22, 01.10.1400, 22/12/2021
    r"|(?<![\d/.-])(?P<y1>\d{4})(?P<sep>[-/.])(?P<m1>\d{1,2})(?P=sep)(?P<d1>\d{1,2})(?!\d)"
    r"|(?<![\d/.-])(?P<d2>\d{1,2})(?P<sep2>[-/.])(?P<m2>\d{1,2})(?P=sep2)(?P<y2>\d{4})(?!\d)",
    re.IGNORECASE,
)


def find_date(text: str, start: int = 0, end: int | None = None) -> FoundDate | None:
    """Find the first date in a stretch of text.

    Parameters
    ----------
    text : digits may be Persian, Arabic or Latin.
    start, end : where to look, characters, half-open; the whole text by default.

    Returns
    -------
    The date as Gregorian, or None. A numeric date is read day first or year first; a year from
    1250 to 1429 is Jalali. Passed over are days that no calendar has (31 Mehr), a month of one
    calendar with a year of the other, and later Hijri years.
    """
    for match in _DATE.finditer(text, start, len(text) if end is None else end):
        date = _to_date(match)
        if date is not None:
            return FoundDate(date, *match.span())
    return None


def parse_date(value: str) -> datetime.date | None:
    """Read the first date in a record's field; None if there is none."""
    found = find_date(value)
    return found.date if found else None


def _to_date(match: re.Match[str]) -> datetime.date | None:
    part = match.groupdict()
    if part["y1"]:
        return _make_date(int(part["y1"]), int(part["m1"]), int(part["d1"]))
    if part["y2"]:
        return _make_date(int(part["y2"]), int(part["m2"]), int(part["d2"]))
    name = part["jalali"] or part["month"] or part["month_first"]
    month = _MONTH_NUMBERS[0 if part["jalali"] else 1].get(_fold(name), 0)
    year = int(part["year"] or part["year_last"])
    if (year in _JALALI_YEARS) != bool(part["jalali"]):
        return None
    return _make_date(year, month, int(part["day"] or part["day_second"]))


def _make_date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        if year in _JALALI_YEARS:
            return _from_jalali(year, month, day)
        if year in _GREGORIAN_YEARS:
            return datetime.date(year, month, day)
    except ValueError:
        pass
    return None


def _from_jalali(year: int, month: int, day: int) -> datetime.date:
    import jdatetime

    date: datetime.date = jdatetime.date(year, month, day).togregorian()
    return date
