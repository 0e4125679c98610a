"""HTML -> the article's text, title, date and source; trafilatura's one importer."""

from __future__ import annotations

import datetime
import html
import re
import unicodedata
from dataclasses import dataclass

from relclass.dates import parse_date
from relclass.decoding import HEAD_BYTES, decode, detect_encoding
from relclass.errors import DataError

_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_INVISIBLE = re.compile(r"<(script|style|noscript)\b.*?</\1\s*>|<!--.*?-->", re.S | re.I)
_INLINE_TAG = re.compile(r"</?(?:a|b|bdi|em|font|i|label|small|span|strong|time|u)\b[^<>]*>", re.I)
_TAG = re.compile(r"<[^<>]*>")
_MARK_REFERENCE = re.compile(r"&(?:zwnj|zwj|lrm|rlm|#8204|#8205|#820[67]|#x200[c-f]);", re.I)
# <meta property="article:published_time" content="...">, "datePublished": "..."
_PUBLISHED = re.compile(
    r"""<meta\b(?=[^<>]*[\s"'=](?:article:published_time|datePublished)\b)"""
    r"""[^<>]*?\scontent\s*=\s*["']([^"'<>]+)|"datePublished"\s*:\s*"([^"<>]+)""",
    re.I,
)
_MAX_VISIBLE_CHARS = 300_000
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


@dataclass(frozen=True, slots=True)
class Page:
    """What a web page says, without its navigation.

    Parameters
    ----------
    date : as the page's metadata give it.
    guessed_date : the likeliest of the page's dates; perhaps that of another article.
    visible_text : all that the page shows, line by line: dates and codes outside the article.
    """

    text: str
    title: str | None
    date: datetime.date | None
    guessed_date: datetime.date | None
    source: str | None
    visible_text: str


def read_page(data: bytes) -> Page:
    """Extract the article of a web page.

    Raises
    ------
    DataError
        If the page is not text, or no article is found in it.
    """
    import trafilatura

    declared = _CHARSET.search(data[:4096])
    encoding = detect_encoding(
        data[:HEAD_BYTES], declared=declared.group(1).decode("ascii") if declared else None
    )
    # XML has no place for control characters, so libxml2 would cut the page at the first.
    page = _FORBIDDEN.sub("\ufffd", _DECLARATION.sub("", decode(data, encoding)))
    page = _MARK_REFERENCE.sub(lambda match: html.unescape(match.group()), page)
    stand_ins = _stand_ins(page)
    found = trafilatura.bare_extraction(
        page.translate(str.maketrans("".join(stand_ins), "".join(stand_ins.values()))),
        with_metadata=True,
        include_comments=False,
        include_tables=True,
        date_extraction_params={"extensive_search": False, "original_date": True},
    )
    text = found.text if found else None
    if not text or not text.strip():
        raise DataError("no article text found in the page")
    marks = str.maketrans("".join(stand_ins.values()), "".join(stand_ins))
    return Page(
        text=text.translate(marks),
        title=found.title.translate(marks) if found.title else None,
        date=_find_published(page),
        guessed_date=parse_date(found.date) if found.date else None,
        source=(found.sitename or found.hostname or "").translate(marks) or None,
        visible_text=_show(page[:_MAX_VISIBLE_CHARS]),
    )


def _find_published(page: str) -> datetime.date | None:
    """Read when the page says, to machines, that it was published; also Jalali dates."""
    dates = (parse_date(match[1] or match[2]) for match in _PUBLISHED.finditer(page))
    return next(filter(None, dates), None)


def _stand_ins(page: str) -> dict[str, str]:
    """Choose letters that the page has not for its half-spaces and direction marks.

    trafilatura drops every character that Python does not call printable, half-spaces included.
    """
    present = set(page)
    marks = sorted(char for char in present if unicodedata.category(char) == "Cf")
    yi_syllables = (chr(code) for code in range(0xA000, 0xA48D))
    return dict(zip(marks, (char for char in yi_syllables if char not in present), strict=False))


def _show(page: str) -> str:
    page = _INLINE_TAG.sub(" ", _INVISIBLE.sub("\n", page))
    return html.unescape(_TAG.sub("\n", page))
