import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.dates import find_date, parse_date

WINTER = datetime.date(2021, 12, 22)


@pytest.mark.parametrize(
    "text",
    [
        "۰۱ دی ۱۴۰۰ - ۲۱:۵۸",
        "چهارشنبه ۱ دی‌ماه ۱۴۰۰",
        "١ دي ماه سال ١٤٠٠",
        "۱ دیماه ۱۴۰۰",
        "1 دی 1400",
        "1400/10/01",
        "۱۴۰۰-۱۰-۰۱",
        "01.10.1400",
        "۲۲ دسامبر ۲۰۲۱",
        "22 ديسمبر 2021",
        "٢٢ ديسمبر/كانون الأول ٢٠٢١",
        "22 كانون الأول 2021",
        "22 كانون\tالأول 2021",
        "22 Aralık 2021 Çarşamba",
        "22 ARALIK 2021",
        "22 dekabr 2021",
        "22 декабря 2021 г.",
        "Wednesday, 22 December 2021",
        "Dec. 22, 2021",
        "December 22nd, 2021",
        "2021-12-22T18:28:00+03:30",
        "2021/12/22",
        "22.12.2021 18:28",
        "22/12/2021",
    ],
)
def test_one_day_is_found_however_it_is_written(text: str) -> None:
    assert parse_date(text) == WINTER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "۳۱ مهر ۱۴۰۰",
        "2021-13-01",
        "ساعت ۲۱:۵۸",
        "تلفن ۰۲۱-۸۸-۱۴۰۰۱",
        "1400 10",
        "3 محرم 1443",
        "التاريخ: 15/09/1442 هـ",
        "22 مهر 2021",
        "۲۲ دسامبر ۱۴۰۰",
        "December 22, 1400",
    ],
)
def test_what_no_calendar_has_is_no_date(text: str) -> None:
    assert parse_date(text) is None


def test_spring_months_with_a_half_space_are_read() -> None:
    assert parse_date("۳۱ اردی\u200cبهشت ۱۳۹۹") == datetime.date(2020, 5, 20)
    assert parse_date("30 اسفند 1399") == datetime.date(2021, 3, 20)  # a leap year


def test_a_wrong_date_does_not_hide_a_right_one() -> None:
    assert parse_date("99/99/1400 و ۰۱ دی ۱۴۰۰") == WINTER


def test_offsets_point_at_the_date() -> None:
    text = "انتشار: ۰۱ دی ۱۴۰۰ - ۲۱:۵۸"
    found = find_date(text)
    assert found is not None
    assert text[found.start : found.end] == "۰۱ دی ۱۴۰۰"
    assert find_date(text, 0, found.end - 1) is None


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2051, 1, 1)))
def test_every_day_survives_the_way_through_the_jalali_calendar(day: datetime.date) -> None:
    import jdatetime

    jalali = jdatetime.date.fromgregorian(date=day)
    assert parse_date(f"{jalali.year}/{jalali.month:02}/{jalali.day:02}") == day


@given(st.text(alphabet="0123456789۰۱۴/.- دیمهرMayſ\x00", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    found = find_date(text)
    assert found is None or 0 <= found.start < found.end <= len(text)
