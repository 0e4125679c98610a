"""Article -> passages: paragraphs first, sentences where a paragraph is too long, offsets kept.

Every character of the article that is neither white space nor page furniture falls in exactly one
passage, so the article's text is its passages and what lies between them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from relclass.language import detect_language
from relclass.records import Article, Passage

Bounds = tuple[int, int]

_LINE = re.compile(r"[^\n\r\v\f\u2028\u2029]+")
_LINE_END = re.compile(r"\r\n|[\n\r\v\f\u2028\u2029]")

# A stop ends a sentence when it is not part of a number, an initial or an abbreviation. Scraped
# Persian and Arabic often lose the space behind it, so a letter of theirs may follow at once.
_ABBREVIATIONS = ("Dr", "Mr", "Mrs", "Prof", "Doç", "Op", "Opr", "Uzm", "St", "No", "vs", "vb",
                  "гг", "им", "ст", "руб", "тыс", "млн", "млрд")  # fmt: skip
_NO_ABBREVIATION = "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS)
_SENTENCE_END = re.compile(
    r"[.!؟?۔…](?:(?<!\.)|\.{1,3}|(?<=\d{3}\.)(?=\s)"
    rf"|(?<![.\d]\.)(?<!\b\w\.){_NO_ABBREVIATION})[!؟?۔…]{{0,2}}[»”’\"')\]]{{0,3}}"
    r"(?:\s++(?![a-zа-яçğıöşüə])|(?=[\u0620-\u064a\u0671-\u06d3«]))"
)
_CLAUSE_END = re.compile(r"[;؛:،,–—](?:\s+|(?=[\u0620-\u064a\u0671-\u06d3]))")
_SPACE = re.compile(r"\s+")
_BULLET = re.compile(r"[-–—*•▪●■◄»\d(]")

_FOLD_MIN_LINES = 4
_FOLD_CHARS = (45, 100)  # widths at which e-mail and terminals fold lines
_MAX_MARKS = 16  # marks on one letter, beyond which it is no text
_LANGUAGE_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class PassageSettings:
    """How long a passage may be.

    Parameters
    ----------
    max_chars : a longer paragraph is split at sentence ends; 1200 are about 200 Persian words.
    min_chars : a shorter paragraph is joined to the next, the last one to the one before; the
        article's title never is, since it would lend its topics to the lead.

    Raises
    ------
    ValueError
        If min_chars is negative, or max_chars is below 20 or below four times min_chars.
    """

    max_chars: int = 1200
    min_chars: int = 50

    def __post_init__(self) -> None:
        if self.min_chars < 0 or self.max_chars < max(20, 4 * self.min_chars):
            raise ValueError(
                f"Got min_chars={self.min_chars}, max_chars={self.max_chars}, but expected"
                " min_chars >= 0, max_chars >= 20 and max_chars >= 4 * min_chars"
            )


DEFAULT_SETTINGS = PassageSettings()


def split_passages(article: Article, settings: PassageSettings = DEFAULT_SETTINGS) -> list[Passage]:
    """Split an article into passages.

    Lines are paragraphs, unless the text is folded at a fixed width: then blank lines part them.

    Parameters
    ----------
    article : its furniture gives no passage; its title, where it stands in the text, gives its own.

    Returns
    -------
    Passages in the order of the text, not overlapping, each at most `max_chars` long. A passage too
    short to tell its language by has that of its article.
    """
    text = article.text
    bounds = [
        piece
        for stretch in _stretches(article)
        for start, end in _join_tiny(article, _paragraphs(text, *stretch), settings.min_chars)
        for piece in _split_long(text, start, end, settings)
    ]
    fallback = article.language or detect_language(_body(text, bounds))
    return [
        Passage(
            article_id=article.article_id,
            passage_id=f"{article.article_id}/{index}",
            index=index,
            start=start,
            end=end,
            language=detect_language(text[start:end], fallback=fallback),
            text=text[start:end],
        )
        for index, (start, end) in enumerate(bounds)
    ]


def _stretches(article: Article) -> Iterator[Bounds]:
    """Yield what lies between the furniture."""
    position = 0
    for span in article.furniture:
        yield position, span.start
        position = span.end
    yield position, len(article.text)


def _paragraphs(text: str, start: int, end: int) -> Iterator[Bounds]:
    """Yield the paragraphs of a stretch, without the white space around them."""
    block: list[Bounds] = []
    for match in _LINE.finditer(text, start, end):
        line = _strip(text, *match.span())
        if line[0] == line[1]:
            continue
        if block and len(_LINE_END.findall(text, block[-1][1], line[0])) > 1:
            yield from _unfold(text, block)
            block = []
        block.append(line)
    yield from _unfold(text, block)


def _strip(text: str, start: int, end: int) -> Bounds:
    piece = text[start:end]
    n_leading = len(piece) - len(piece.lstrip())
    return start + n_leading, start + max(n_leading, len(piece.rstrip()))


def _unfold(text: str, lines: list[Bounds]) -> list[Bounds]:
    """Make one paragraph of lines that were folded at a fixed width, else leave them."""
    if len(lines) < _FOLD_MIN_LINES:
        return lines
    widths = [end - start for start, end in lines]
    width = max(widths)
    if not _FOLD_CHARS[0] <= width <= _FOLD_CHARS[1] or min(widths[:-1]) < 0.8 * width:
        return lines
    n_stops = sum(text[end - 1] in ".!?؟:؛;»" for _, end in lines[:-1])
    n_bullets = sum(_BULLET.match(text, start) is not None for start, _ in lines)
    is_folded = n_stops < 0.4 * len(lines) and n_bullets < 0.4 * len(lines)
    return [(lines[0][0], lines[-1][1])] if is_folded else lines


def _join_tiny(article: Article, paragraphs: Iterator[Bounds], min_chars: int) -> list[Bounds]:
    """Join tiny paragraphs to the next, a last one to the one before; the title to neither."""
    joined: list[Bounds] = []
    title_at = -1
    is_open = False
    for start, end in paragraphs:
        if is_open:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
        is_title = article.text[start:end] == article.title
        is_open = end - joined[-1][0] < min_chars and not is_title
        if is_title:
            title_at = len(joined) - 1
    if is_open and len(joined) > 1 and title_at != len(joined) - 2:
        joined[-2:] = [(joined[-2][0], joined[-1][1])]
    return joined


def _split_long(text: str, start: int, end: int, settings: PassageSettings) -> Iterator[Bounds]:
    """Cut a stretch into pieces of about equal length, each at most `max_chars` long."""
    while end - start > settings.max_chars:
        n_pieces = -(-(end - start) // settings.max_chars)
        cut = _find_cut(
            text,
            first=start + settings.max_chars // 4,
            last=min(start + settings.max_chars, end - settings.min_chars),
            wanted=start + (end - start) // n_pieces,
        )
        yield _strip(text, start, cut)
        space = _SPACE.match(text, cut)
        start = space.end() if space else cut
    yield start, end


def _find_cut(text: str, *, first: int, last: int, wanted: int) -> int:
    """Find the best place to cut between two offsets, looking at nothing beyond them."""
    for pattern in (_SENTENCE_END, _CLAUSE_END, _SPACE):
        cuts = [match.end() for match in pattern.finditer(text, first, last)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - wanted))
    for cut in range(wanted, max(first, wanted - _MAX_MARKS), -1):
        if unicodedata.category(text[cut]) not in ("Mn", "Me", "Cf"):
            return cut
    return wanted


def _body(text: str, bounds: list[Bounds]) -> str:
    parts: list[str] = []
    n_chars = 0
    for start, end in bounds:
        parts.append(text[start:end])
        n_chars += end - start
        if n_chars > _LANGUAGE_CHARS:
            break
    return "\n".join(parts)
