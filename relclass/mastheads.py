"""The first lines of an article -> its title and its source, where the text carries them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from relclass.furniture_labels import fold
from relclass.records import Span

_MAX_TITLE_CHARS = 160
_MIN_TITLE_WORDS = 3
_MIN_BODY_CHARS = 100
_N_LINES = 6

_LINE = re.compile(r"[^\n\r\v\f\u2028\u2029]+")
_DOMAIN = re.compile(
    r"(?:https?://)?(?:www\.)?((?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,8})(?:/\S*)?$", re.I
)
_NAME = r"([^\s،,؛:.]+(?:\s[^\s،,؛:.]+){0,3}?)"
# Matched against folded text, at the start of a paragraph.
_REPORTED_BY = (
    re.compile(
        rf"به گزارش\s(?:خبرنگار\s)?{_NAME}(?=\s?[،,؛:]|\s(?:به نقل از|از|به استناد|و به نقل)\s)"
    ),
    re.compile(r"و?(?:افادت|ذکرت|نقلت|افاد)\s((?:وکاله|صحیفه|قناه|موقع)\s\S+(?:\sللانباء)?)"),
    re.compile(
        r"(?:[^\s-]+\s?[-–/]\s?)?(ایرنا|ایسنا|ایلنا|فارس|تسنیم|مهر|اقتصاد[۲2][۴4]|ارنا|واس)\s?[-–/:]"
    ),
    re.compile(
        r"(?:[^\s(]+\s)?\(?(irna|isna|fna|mna|ap|afp|reuters|apa|report|trend|tass)\)?\s?[-–—]"
    ),
)


def find_title(text: str, furniture: Sequence[Span]) -> str | None:
    """Find the headline among an article's first lines.

    Returns
    -------
    A short line without a full stop that longer ones follow, or None. Of two such lines the
    longer: the other is the line above or below the headline.
    """
    short: list[str] = []
    for line in _first_lines(text, furniture):
        if len(line) > _MAX_TITLE_CHARS or line[-1] in ".:؛،,":
            break
        if len(line.split()) >= _MIN_TITLE_WORDS:
            short.append(line)
    has_body = len(text) - sum(map(len, short)) >= _MIN_BODY_CHARS
    if not short or len(short) == _N_LINES or not has_body:
        return None
    return max(short[:2], key=len)


def find_source(text: str, furniture: Sequence[Span]) -> str | None:
    """Find whom an article's first lines name as its source: a site, an agency, "reported by"."""
    for span in furniture[:3]:
        domain = _DOMAIN.match(text[span.start : span.end]) if span.kind == "url" else None
        if domain:
            return domain.group(1).lower()
    for line in _first_lines(text, furniture):
        folded = fold(line[:200])
        for pattern in _REPORTED_BY:
            match = pattern.match(folded)
            if match:
                return line[match.start(1) : match.end(1)]
    return None


def _first_lines(text: str, furniture: Sequence[Span]) -> Iterator[str]:
    """Yield the first lines that are not furniture."""
    n_lines, at = 0, 0
    for match in _LINE.finditer(text):
        line = match.group().strip()
        while at < len(furniture) and furniture[at].end <= match.start():
            at += 1
        is_furniture = at < len(furniture) and furniture[at].start < match.end()
        if line and not is_furniture:
            yield line
            n_lines += 1
            if n_lines == _N_LINES:
                return
