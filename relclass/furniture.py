"""Text -> page furniture: what a page's template adds to an article, by line and at line ends.

A line is furniture when it is made of nothing but items such as a news code, a date, a source or
sharing buttons, or begins with a label that rules the whole line ("read more: ..."). Furniture
behind a real sentence ("... said. /End/") is only those characters.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from relclass import furniture_labels as labels
from relclass.dates import find_date
from relclass.furniture_labels import fold, label_pattern
from relclass.records import Span

_MAX_OPEN_CHARS = 200  # a longer line has lost its line break, and holds real text
_MAX_TAIL_CHARS = 200
_MAX_DATE_CHARS = 50
_MAX_LISTED_LINES = 8
_MAX_LISTED_CHARS = 120
_MAX_INITIALS = 3
_MAX_ITEMS = 60  # a longer line of numbers is a table

# All but the sign-off are matched against folded text.
_LINE = re.compile(r"[^\n\r\v\f\u2028\u2029]+")
_SEPARATORS = re.compile(r"(?:[^\w@#$©<]|_)*")
_WORD = re.compile(r"\w")
_YEAR = re.compile(r"\d{4}")
_WEEKDAY = re.compile(label_pattern(labels.WEEKDAY))
_CODE = rf"(?:{label_pattern(labels.CODE)})[\s:：.#\u200c-]{{0,4}}(?P<code>\d[\d/-]+)(?!\w)"
_DATE = rf"(?:{label_pattern(labels.DATE)})\s?[:：-]?\s?(?=\w)"
_SOURCE = (
    rf"(?:{label_pattern(labels.SOURCE)})\s?[:：]\s?"
    r"(?P<name>[^|/()\n:]{2,45}?)(?=$|[|)]|/|\s{2}|\s-\s|[.]$)"
)
_END = rf"(?:{label_pattern(labels.END)})(?!\w)|/\s?انتهی|انتهی\s?/|انتهی$"
_COLON = r"\s*+(?:[:：»›←⬅]|$)"
_NO_LETTER = r"(?:(?<!\w)|(?!\w))"
_ITEM = re.compile(
    "|".join(
        [
            rf"(?P<news_code>{_CODE})",
            rf"(?P<date>{_DATE})",
            rf"(?P<source>{_SOURCE})",
            rf"(?P<end_mark>{_END})",
            rf"(?P<byline>(?:{label_pattern(labels.BYLINE)})\s?[:：]\s?"
            r"(?:[^\s|؟?:]{1,15}\s?){1,3}(?=$|[|)]|--|\s))",
            r"(?P<url>(?:https?://|www\.)\S+|\S{1,64}@\S+\.\w+|[@#][\w\u200c]+"
            r"|[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){0,4}\.[a-z]{2,8}(?:/\S*)?(?=\s|$))",
            *(
                rf"(?P<open_{kind}>(?:{label_pattern(words)}){_NO_LETTER})"
                for kind, words in labels.OPEN.items()
            ),
            *(
                rf"(?P<colon_{kind}>(?:{label_pattern(words)}){_COLON})"
                for kind, words in labels.OPEN_WITH_COLON.items()
            ),
            rf"(?P<widget>(?:{label_pattern(labels.WIDGET)})(?!\w))",
            rf"(?P<weekday>(?:{label_pattern(labels.WEEKDAY)})(?!\w))",
            r"(?P<number>\d[\d.,:٫]*(?!\w))",
        ]
    )
)
_INITIALS = re.compile(r"[\w.\u200c]{1,7}(?!\w)")
_TAIL = re.compile(
    r"[\s.!؟?»”\"/()|،…](?P<label>"
    + "|".join(
        label_pattern(words)
        for words in (labels.END, labels.CODE, labels.SOURCE, labels.OPEN["read_more"])
    )
    + rf"|انتهی\s?/|(?<=/)انتهی|(?:{label_pattern(labels.DATE)})\s?:)"
)
# "... said. HJ/MA", "... است./ نام خبرگزاری", "... است.1424/1577"
_SIGN_OFF = re.compile(
    r"(?<=[.!؟”»])(?:\s+[A-Z]{2,4}/[A-Z]{2,4}|\s?/\s?[\u0600-\u06ff\u200c]{2,15}"
    r"(?:\s[«»\u0600-\u06ff\u200c…]{2,15}){0,2}/?|\s?[/*]{0,2}\d{3,6}(?:[/*]+\d{3,6})+[/*]{0,2})$"
)
_GLUED = re.compile(r"(?<=\w\w)[.؟?!](?=[^\W\d_]{2}.{40})")

_PREFIX_KINDS = frozenset({"news_code", "date"})  # furniture even where real text follows
_FILLER_KINDS = frozenset({"number", "weekday"})  # no furniture by themselves


@dataclass(frozen=True, slots=True)
class _Item:
    """A piece of furniture; what it says starts at `value_start`."""

    kind: str
    start: int
    end: int
    value_start: int
    date: datetime.date | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of one line that is furniture."""

    start: int
    end: int
    items: list[_Item]

    @property
    def kind(self) -> str:
        kinds = (item.kind for item in self.items if item.kind not in _FILLER_KINDS)
        return next(kinds, "rule")


@dataclass(frozen=True, slots=True)
class Furniture:
    """Page furniture, and what it says of the article.

    Parameters
    ----------
    spans : ascending, not overlapping.
    date, source, news_code : the first that a label names; a date without label where none has,
        then `is_date_labelled` is False. The code is in Latin digits.
    """

    spans: tuple[Span, ...]
    date: datetime.date | None
    source: str | None
    news_code: str | None
    is_date_labelled: bool


def find_furniture(text: str) -> Furniture:
    """Find the page furniture of an article's text.

    Returns
    -------
    Spans without the white space around them. A line without a letter or a digit is a "rule".
    """
    spans: list[Span] = []
    said: dict[str, str] = {}
    dates: dict[str, datetime.date] = {}
    rest = _Rest()
    for match in _LINE.finditer(fold(text)):
        line = match.group().strip()
        if not line:
            continue
        offset = match.start() + match.group().index(line)
        pieces = _read_line(line, text[offset : offset + len(line)])
        if not pieces and rest.takes(line, text[spans[-1].end : offset] if spans else ""):
            pieces = [_Piece(0, len(line), [_Item(rest.kind, 0, len(line), 0)])]
        rest.see(line, pieces)
        for piece in pieces:
            spans.append(Span(offset + piece.start, offset + piece.end, piece.kind))
            for item in piece.items:
                said.setdefault(item.kind, text[offset + item.value_start : offset + item.end])
                if item.date is not None:
                    dates.setdefault(item.kind, item.date)
    return Furniture(
        spans=tuple(spans),
        date=dates.get("date", dates.get("bare_date")),
        source=said["source"].strip(" .") if "source" in said else None,
        news_code=re.sub(r"\d", lambda digit: str(int(digit[0])), said["news_code"])
        if "news_code" in said
        else None,
        is_date_labelled="date" in dates,
    )


class _Rest:
    """What follows a "read more" that stands alone, or the article's end: short lines."""

    def __init__(self) -> None:
        self.kind = ""
        self._n_left = 0

    def takes(self, line: str, since_furniture: str) -> bool:
        """Tell whether an unmarked line belongs to the furniture right before it."""
        is_headline = len(line) <= _MAX_LISTED_CHARS and line[-1] not in ".!؟…:»”"
        is_next = since_furniture.isspace() and since_furniture.count("\n") <= 2
        return self._n_left > 0 and is_headline and is_next

    def see(self, line: str, pieces: list[_Piece]) -> None:
        """Take note of a line that was read, with the furniture in it."""
        last = pieces[-1].items[-1] if pieces and pieces[-1].items else None
        if not pieces:
            self._n_left = 0
        elif self._n_left and last and last.kind == self.kind:
            self._n_left -= 1
        elif any(item.kind == "end_mark" for item in pieces[-1].items):
            self.kind, self._n_left = "after_end", _MAX_LISTED_LINES
        elif last and last.kind == "read_more" and not _WORD.search(line, last.value_start):
            self.kind, self._n_left = "read_more", _MAX_LISTED_LINES


def _read_line(line: str, original: str) -> list[_Piece]:
    """Find the furniture of one line, which has no white space around it."""
    if not _WORD.search(line):
        return [_Piece(0, len(line), [])]
    items, end = _read_items(line, 0)
    if end == len(line):
        return [_Piece(0, end, items)] if {i.kind for i in items} - _FILLER_KINDS else []
    pieces: list[_Piece] = []
    if items and (items[0].kind in _PREFIX_KINDS or items[-1].kind == "read_more"):
        while items[-1].kind not in _PREFIX_KINDS | {"read_more"}:
            items.pop()
        pieces.append(_Piece(0, items[-1].end, items))
    tail = _read_tail(line, original, pieces[0].end if pieces else 0)
    return [*pieces, tail] if tail else pieces


def _read_items(line: str, start: int) -> tuple[list[_Item], int]:
    """Read items of furniture from an offset for as long as there are any."""
    items: list[_Item] = []
    n_initials_left = 0
    while len(items) < _MAX_ITEMS:
        position = _end_of(_SEPARATORS, line, start)
        if position == len(line):
            return items, position
        item = _read_item(line, position)
        if item is not None and item.kind == "end_mark":
            n_initials_left = _MAX_INITIALS
        elif item is None and n_initials_left:
            n_initials_left -= 1
            end = _end_of(_INITIALS, line, position)
            item = _Item("initials", position, end, position) if end > position else None
        if item is None:
            break
        items.append(item)
        start = item.end
    return items, start


def _read_item(line: str, start: int) -> _Item | None:
    match = _ITEM.match(line, start)
    kind = match.lastgroup if match else None
    if match is None or kind is None or kind in _FILLER_KINDS:
        date = _read_date(line, start, start)
        filler = _Item(kind, start, match.end(), start) if match and kind else None
        return date or filler
    if kind == "date":
        return _read_date(line, start, match.end())
    if kind.startswith(("open_", "colon_")):
        return _Item(kind.partition("_")[2], start, _end_of_open(line, match.end()), match.end())
    value = {"news_code": "code", "source": "name"}.get(kind, kind)
    return _Item(kind, start, match.end(), match.start(value))


def _read_date(line: str, start: int, value_start: int) -> _Item | None:
    """Read a date that stands right at an offset, a weekday before it or not."""
    end = value_start + _MAX_DATE_CHARS
    found = find_date(line, value_start, end) if _YEAR.search(line, value_start, end) else None
    if found is None or _WORD.search(_WEEKDAY.sub("", line[value_start : found.start])):
        return None
    kind = "date" if ":" in line[start : found.start] else "bare_date"
    return _Item(kind, start, found.end, found.start, found.date)


def _end_of_open(line: str, start: int) -> int:
    """Find where a label that rules its line stops: before text that was glued to it."""
    glued = _GLUED.search(line, start)
    if glued:
        return glued.end()
    return len(line) if len(line) - start <= _MAX_OPEN_CHARS else start


def _read_tail(line: str, original: str, start: int) -> _Piece | None:
    """Find furniture behind the last sentence of a line."""
    first = max(start, len(line) - _MAX_TAIL_CHARS)
    for match in _TAIL.finditer(line, first):
        begin = match.start("label")
        items, end = _read_items(line, begin)
        if items and end == len(line):
            while begin > first and line[begin - 1] in "/(| \t":
                begin -= 1
            return _Piece(begin + (len(line) - begin - len(line[begin:].lstrip())), end, items)
    sign_off = _SIGN_OFF.search(original, first)
    if sign_off is None:
        return None
    begin = sign_off.end() - len(sign_off.group().lstrip())
    return _Piece(begin, len(line), [_Item("sign_off", begin, len(line), begin)])


def _end_of(pattern: re.Pattern[str], line: str, start: int) -> int:
    match = pattern.match(line, start)
    return match.end() if match else start
