"""HTML -> the article's text, title, date and source; trafilatura's one importer."""

from __future__ import annotations

import datetime
import html
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from relclass.dates import parse_date
from relclass.decoding import HEAD_BYTES, decode, detect_encoding
from relclass.errors import DataError

_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_INVISIBLE = re.compile(r"<(script|style|noscript)\b.*?</\1\s*>|<!--.*?-->", re.S | re.I)
_INLINE_TAG = re.compile(r"</?(?:a|b|bdi|em|font|i|label|small|span|strong|time|u)\b[^<>]*>", re.I)
_TAG = re.compile(r"<[^<>]*>")
_MAX_VISIBLE_CHARS = 300_000
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


@dataclass(frozen=True, slots=True)
class Page:
    """What a web page says, without its navigation.

    Parameters
    ----------
    visible_text : all that the page shows, line by line: dates and codes outside the article.
    """

    text: str
    title: str | None
    date: datetime.date | None
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
    found = trafilatura.bare_extraction(
        page,
        with_metadata=True,
        include_comments=False,
        include_tables=True,
        date_extraction_params={"extensive_search": False, "original_date": True},
    )
    text = found.text if found else None
    if not text or not text.strip():
        raise DataError("no article text found in the page")
    host = urlsplit(found.url).hostname if found.url else None
    return Page(
        text=text,
        title=found.title or None,
        date=parse_date(found.date) if found.date else None,
        source=found.sitename or found.hostname or host or None,
        visible_text=_show(page[:_MAX_VISIBLE_CHARS]),
    )


def _show(page: str) -> str:
    page = _INLINE_TAG.sub(" ", _INVISIBLE.sub("\n", page))
    return html.unescape(_TAG.sub("\n", page))
