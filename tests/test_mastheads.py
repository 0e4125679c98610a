import pytest

from relclass.furniture import find_furniture
from relclass.mastheads import find_source, find_title

BODY = "مدیر گمرک در گفت‌وگو با خبرنگاران گفت کامیون‌ها از فردا بدون توقف از پل تازه می‌گذرند و " * 2


def title(text: str) -> str | None:
    return find_title(text, find_furniture(text).spans)


def source(text: str) -> str | None:
    return find_source(text, find_furniture(text).spans)


def test_a_short_first_line_above_the_body_is_the_title() -> None:
    assert title(f"\n\nپل تازه آستارا باز شد\n\n{BODY}.\n{BODY}.") == "پل تازه آستارا باز شد"


def test_furniture_above_the_title_is_passed_over_and_the_kicker_is_not_the_title() -> None:
    text = f"کد خبر: ۱۲\nدر نشست آستارا\n\nپل تازه آستارا برای کامیون‌ها باز شد\n\n{BODY}."
    assert title(text) == "پل تازه آستارا برای کامیون‌ها باز شد"


@pytest.mark.parametrize(
    "text",
    [
        f"{BODY}.\n{BODY}.",
        "پل تازه آستارا باز شد",
        f"پل باز شد.\n{BODY}.",
        "این خط اول است\n" * 40,
        "",
    ],
)
def test_where_no_line_stands_out_there_is_no_title(text: str) -> None:
    assert title(text) is None


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("به گزارش راه نیوز به نقل از گمرک، پل باز شد.", "راه نیوز"),
        ("به گزارش خبرنگار مهر از آستارا، پل باز شد.", "مهر"),
        ("به گزارش خبرگزاري فارس، پل باز شد.", "خبرگزاري فارس"),
        ("وافادت وكالة الجسر للأنباء ان المعبر افتتح.", "وكالة الجسر للأنباء"),
        ("آستارا - ایرنا - پل باز شد.", "ایرنا"),
        ("TEHRAN (IRNA) – The bridge was opened.", "IRNA"),
        ("پل باز شد.", None),
        ("به گزارش", None),
    ],
)
def test_the_source_is_whom_the_first_lines_name(first: str, expected: str | None) -> None:
    assert source(f"{first}\n{BODY}.") == expected


def test_a_bare_domain_above_the_article_is_its_source() -> None:
    assert source(f"www.Example.ir\n\nبه گزارش مهر، پل باز شد.\n{BODY}") == "example.ir"
