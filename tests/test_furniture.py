import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.furniture import find_furniture
from relclass.furniture_labels import fold

SENTENCE = "مدیر گمرک گفت کامیون‌ها از فردا بدون توقف از پل تازه می‌گذرند."


def marked(text: str) -> list[str]:
    return [text[span.start : span.end] for span in find_furniture(text).spans]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("کد خبر: ۱۴۰۰۱۰۰۲", "news_code"),
        ("كد مطلب : 4491/2", "news_code"),
        ("رمز الخبر: 81093377", "news_code"),
        ("Haber Kodu: 55120", "news_code"),
        ("تاریخ انتشار : ۰۱ دی ۱۴۰۰ - ۲۱:۵۸", "date"),
        ("Дата публикации: 08.12.2021 17:32", "date"),
        ("سه‌شنبه ۵ مهر ۱۴۰۱ | ساعت ۱۲:۴۰", "bare_date"),
        ("انتهای پیام/", "end_mark"),
        ("انتهاي پيام/۳۰۷۱/ز", "end_mark"),
        ("/انتهى/", "end_mark"),
        ("منبع: خبرگزاری راه", "source"),
        ("المصدر : وكالة الجسر", "source"),
        ("Kaynak: Köprü Ajansı", "source"),
        ("بیشتر بخوانید: آمار گذر کامیون‌ها در تابستان", "read_more"),
        ("بيشتر بخوانيد:آمار گذر كاميون ها", "read_more"),
        ("همچنین بخوانید » پل تازه آستارا", "read_more"),
        ("اقرأ أيضا: افتتاح معبر جديد", "read_more"),
        ("إقرأ ايضاً : افتتاح معبر جديد", "read_more"),
        ("Read more: Ten bridges of the Aras", "read_more"),
        ("Devamını oku", "read_more"),
        ("DEVAMINI OKU »", "read_more"),
        ("Oxşar xəbərlər: Körpü açıldı", "read_more"),
        ("Читайте также: Мост открыт", "read_more"),
        ("برچسب‌ها: پل، گمرک، ترانزیت", "tags"),
        ("Teqlər: körpü, gömrük", "tags"),
        ("به اشتراک بگذارید", "share"),
        ("Paylaş: Facebook | WhatsApp", "share"),
        ("Share | Print | Comments (12)", "widget"),
        ("چاپ | ارسال به دوستان | بازدید: ۱۲۰۴", "widget"),
        ("news.example.ir", "url"),
        ("https://example.com/fa/news/12", "url"),
        ("@examplechannel", "url"),
        ("© 2012 All rights reserved.", "copyright"),
        ("Copyright 2012 Bridge Agency", "copyright"),
        ("Copyright (c) Bridge Agency", "copyright"),
        ("Copyright: Bridge Agency", "copyright"),
        ("کلیه حقوق این وب‌سایت متعلق به خبرگزاری راه است.", "copyright"),
        ("تمامی حقوق مادی و معنوی محفوظ است", "copyright"),
        ("شارك هذا الخبر", "share"),
        ("شارك هذا:", "share"),
        ("اشترك في قناتنا على تلغرام", "share"),
        ("خبرنگار: زهرا | دبیر: رضا", "byline"),
        ("* * *", "rule"),
        ("\u200f", "rule"),
        ("$(document).ready(function() {", "script"),
    ],
)
def test_a_line_of_the_page_is_furniture(line: str, kind: str) -> None:
    text = f"{SENTENCE}\n{line}\n{SENTENCE}"
    assert marked(text) == [line]
    assert find_furniture(text).spans[0].kind == kind


@pytest.mark.parametrize(
    "line",
    [
        SENTENCE,
        "منبع آگاه گفت قطار از مرز گذشت",
        "تاریخ روابط دو کشور به سده‌ها پیش بازمی‌گردد",
        "تاریخ ۲۲ بهمن ۱۳۵۷ در یادها مانده است",
        "۲۲ بهمن ۱۳۵۷ روز بزرگی بود",
        "خبرنگار: آیا راه‌آهن تا پایان سال به مرز می‌رسد؟",
        "کد ۱۱۰ برای تماس با پلیس مرز است",
        "چاپ اسکناس تازه آغاز شد",
        "انتهای خط آهن در آستارا است",
        "بیشتر مسافران از مرز زمینی می‌گذرند",
        "انتهى الاجتماع بعد ساعتين من المحادثات",
        "كان الوزير قد أكد أن العمل انتهى",
        "Read the agreement before the vote, he said",
        "Source of the gas is the Caspian",
        "Related talks were held in Baku",
        "کلیه حقوق کارکنان پالایشگاه گاز تا پایان سال پرداخت می‌شود.",
        "تمامی حقوق ملت‌های منطقه باید در کریدور زنگزور رعایت شود.",
        "اشترك في الاجتماع وزير الطاقة ووزير النقل الإيرانيان في باكو.",
        "شارك هذا العام وزير الطاقة الإيراني في اجتماع باكو",
        "Copyright holders and the energy ministry met in Baku to discuss the pipeline.",
        "Haberde köprünün açıldığı yazıldı",
        "اخبار مرتبط با پل در شهر پیچید و همه از آن گفتند",
        "۱۲۵ کیلومتر",
        "1.",
    ],
)
def test_a_line_of_the_article_is_not(line: str) -> None:
    assert marked(line) == []


@pytest.mark.parametrize(
    "tail",
    [
        "/انتهى/",
        "انتهای پیام/",
        "انتهای پیام/ ۶۰۰۲۱",
        "(انتهای پیام)",
        "کد خبر: ۱۲۳۴۵۶",
        "منبع: خبرگزاری راه",
        "(Source: Bridge Agency)",
        "بیشتر بخوانید: آمار گذر کامیون‌ها",
        "HJ/MA",
        "/ خبرگزاری راه",
    ],
)
@pytest.mark.parametrize("gap", ["", " "])
def test_behind_a_sentence_only_the_tail_is_furniture(tail: str, gap: str) -> None:
    if tail == "HJ/MA" and not gap:
        return
    assert marked(SENTENCE + gap + tail) == [tail]


def test_a_code_before_a_sentence_on_its_line_is_furniture_and_the_sentence_is_not() -> None:
    assert marked(f"کد خبر: ۱۲۳۴ {SENTENCE}") == ["کد خبر: ۱۲۳۴"]


def test_headlines_below_a_lone_read_more_belong_to_it() -> None:
    lines = ["بیشتر بخوانید:", "- پل تازه آستارا", "- آمار گذر کامیون‌ها"]
    text = "\n".join([SENTENCE, *lines, SENTENCE, "این خط کوتاه می‌ماند"])
    assert marked(text) == lines


def test_short_lines_behind_the_end_mark_belong_to_the_page() -> None:
    text = f"{SENTENCE}\nانتهای پیام/\nپل تازه آستارا\n{SENTENCE}"
    assert marked(text) == ["انتهای پیام/", "پل تازه آستارا"]


def test_text_glued_to_a_read_more_is_left() -> None:
    headline = "بیشتر بخوانید: پل تازه کجاست؟"
    assert marked(headline + SENTENCE) == [headline]
    assert marked("بیشتر بخوانید: " + "پل تازه و راه آهن " * 20) == ["بیشتر بخوانید"]


def test_what_the_furniture_says_is_kept() -> None:
    found = find_furniture(
        "شنبه ۱ آبان ۱۴۰۰\nکد خبر: ۱۲۳-۴\nتاریخ انتشار: ۰۱ دی ۱۴۰۰\nمنبع: ایسنا\nمنبع: مهر"
    )
    assert found.date == datetime.date(2021, 12, 22)
    assert (found.source, found.news_code, found.is_date_labelled) == ("ایسنا", "123-4", True)
    assert not find_furniture("شنبه ۱ آبان ۱۴۰۰").is_date_labelled


PIECES = [
    "کد خبر", ":", " ", "۱۲۳", "انتهای پیام", "/", "منبع", "بیشتر بخوانید", "تاریخ", "۰۱ دی ۱۴۰۰",
    "\n", "\n\n", "وزیر گفت", ".", "|", "ایسنا", "Share", "@a", "x.ir", "İ", "\x00", "/انتهى/",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=200))
def test_spans_ascend_and_point_into_the_text(text: str) -> None:
    spans = find_furniture(text).spans
    assert len(fold(text)) == len(text)
    position = 0
    for span in spans:
        assert position <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        position = span.end


@pytest.mark.parametrize(
    "unit", ["۱ ", "کد خبر: ۱۲۳ ", "ا", ". ", "منبع: ", "@a ", "انتهای پیام ", "://"]
)
def test_a_huge_line_takes_linear_time(unit: str) -> None:
    seconds = []
    for n_chars in (20_000, 200_000):
        started = time.process_time()
        find_furniture(unit * (n_chars // len(unit)))
        seconds.append(time.process_time() - started)
    assert seconds[1] < 40 * seconds[0] + 0.1
