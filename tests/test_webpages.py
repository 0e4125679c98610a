import datetime

import pytest

from relclass.errors import DataError
from relclass.webpages import read_page

FIRST = "مدیر گمرک گفت کامیون\u200cها از فردا بدون توقف از پل تازه می\u200cگذرند و صف کوتاه است."
SECOND = "به گفته او کار پایانه نیز تا نیمه\u200cشب ادامه دارد و رانندگان روادید یک ساله گرفته اند."
PAGE = f"""<!DOCTYPE html>
<html lang="fa"><head><meta charset="{{charset}}">
<title>پل تازه باز شد | راه\u200cنامه</title>
<meta property="og:title" content="پل تازه باز شد">
<meta property="og:site_name" content="راه\u200cنامه"></head>
<body><div>امروز: شنبه ۱ مهر ۱۴۰۲</div><nav><a href="/">خانه</a> <a href="/s">ورزش</a></nav>
<article><h1>پل تازه باز شد</h1>
<div><span>کد خبر: ۱۲۳۴۵</span> <span>تاریخ انتشار:</span> <span>۰۱ دی ۱۴۰۰</span></div>
<p>{FIRST}</p><p>{SECOND}</p></article>
<footer>کلیه حقوق محفوظ است</footer></body></html>"""


def test_the_article_is_taken_out_of_the_page_with_its_half_spaces() -> None:
    page = read_page(PAGE.replace("{charset}", "utf-8").encode())
    assert FIRST in page.text and SECOND in page.text
    assert "ورزش" not in page.text and "کلیه حقوق" not in page.text
    assert (page.title, page.source) == ("پل تازه باز شد", "راه\u200cنامه")
    assert "کد خبر: ۱۲۳۴۵" in page.visible_text
    assert "تاریخ انتشار:   ۰۱ دی ۱۴۰۰" in page.visible_text


@pytest.mark.parametrize("reference", ["&zwnj;", "&#8204;", "&#x200C;"])
def test_half_spaces_written_as_references_are_kept(reference: str) -> None:
    page = PAGE.replace("{charset}", "utf-8").replace("\u200c", reference)
    assert FIRST in read_page(page.encode()).text


def test_a_declared_code_page_is_believed() -> None:
    page = PAGE.replace("{charset}", "windows-1256").replace("ی", "ي").replace("ک", "ك")
    text = read_page(page.encode("cp1256", errors="xmlcharrefreplace")).text
    assert "مدير گمرك گفت كاميون\u200cها" in text


@pytest.mark.parametrize("charset", ["undefined", "rot13", "iso-8859-1", "utf-8"])
def test_a_charset_that_the_page_is_not_in_does_not_spoil_it(charset: str) -> None:
    page = PAGE.replace("{charset}", charset).replace("ی", "ي").replace("ک", "ك")
    text = read_page(page.encode("cp1256", errors="xmlcharrefreplace")).text
    assert "مدير گمرك گفت كاميون\u200cها" in text


def test_the_date_of_the_metadata_is_taken() -> None:
    published = '<meta property="article:published_time" content="2021-12-22T10:00:00+03:30">'
    page = read_page(
        PAGE.replace("{charset}", "utf-8").replace("<title>", f"{published}<title>").encode()
    )
    assert page.date == datetime.date(2021, 12, 22)


@pytest.mark.parametrize(
    "published",
    [
        '<meta content="1400-10-01T10:00:00+03:30" property="article:published_time">',
        '<meta itemprop="datePublished" content="۱ دی ۱۴۰۰">',
        '<script type="application/ld+json">{"datePublished": "2021-12-22T10:00"}</script>',
        '<meta property="article:published_time" content="0001-01-01">'
        '<meta property="article:published_time" content="2021-12-22">',
    ],
)
def test_the_day_of_publishing_is_read_in_each_form_and_calendar(published: str) -> None:
    page = PAGE.replace("{charset}", "utf-8").replace("<title>", f"{published}<title>")
    assert read_page(page.encode()).date == datetime.date(2021, 12, 22)


def test_any_other_date_is_a_guess() -> None:
    footer = '<footer><time datetime="2023-05-06">Last updated</time>'
    page = PAGE.replace("{charset}", "utf-8").replace("<footer>", footer)
    found = read_page(page.encode())
    assert (found.date, found.guessed_date) == (None, datetime.date(2023, 5, 6))


def test_nul_and_direction_marks_do_not_cut_the_page() -> None:
    broken = PAGE.replace("{charset}", "utf-8").replace("گمرک گفت", "گمرک\x00 \u202eگفت")
    text = read_page(broken.encode()).text
    assert "گمرک\ufffd \u202eگفت" in text and SECOND in text


@pytest.mark.parametrize(
    "page", ["<html></html>", "<html><body><script>f()</script></body></html>", "<"]
)
def test_a_page_without_an_article_is_refused(page: str) -> None:
    with pytest.raises(DataError, match="no article text found in the page"):
        read_page(page.encode())
