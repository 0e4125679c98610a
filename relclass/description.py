"""Labelled passages -> counts by origin, language, topic, length and split, as in a data card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import DataError
from relclass.real_passages import RealLabel
from relclass.records import LabelledPassage
from relclass.split_file import Splits

LENGTHS = (20, 50, 100, 200)
"""Bounds between the classes of length, in words."""


CARD_START, CARD_END = "<!-- counts -->", "<!-- end of counts -->"
"""Lines of a data card between which the tables stand."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a count needs to know of a passage.

    Parameters
    ----------
    n_words : words between white space, or None where the text is not at hand.
    split : or None where it has none yet.
    """

    origin: str
    language: str
    article_id: str
    topics: tuple[str, ...]
    n_words: int | None
    split: str | None


@dataclass(frozen=True)
class CountTable:
    """A table to print.

    Parameters
    ----------
    rows : cells as text, in the order of the columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        rule = "|".join("---" if k < 2 else "---:" for k in range(len(self.columns)))
        lines = [self.columns, *self.rows]
        text = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([text[0], f"|{rule}|", *text[1:]])


def collect_items(
    passages: Sequence[LabelledPassage],
    labels: Sequence[RealLabel] = (),
    *,
    splits: Splits | None = None,
) -> list[Item]:
    """Gather what is counted.

    Parameters
    ----------
    passages : whose texts are at hand, of any origin.
    labels : of real passages; those whose texts are not among `passages` are counted too.
    splits : None leaves every split open.
    """
    items = [
        Item(
            origin=passage.origin,
            language=passage.language,
            article_id=passage.article_id,
            topics=passage.topics,
            n_words=len(passage.text.split()),
            split=splits.split_of(passage) if splits else None,
        )
        for passage in passages
    ]
    at_hand = {passage.passage_id for passage in passages}
    items += [
        Item(
            origin="real",
            language=label.lang,
            article_id=label.article_id,
            topics=label.topics,
            n_words=None,
            split=splits.passages.get(label.id) if splits else None,
        )
        for label in labels
        if label.id not in at_hand
    ]
    return items


def describe(items: Sequence[Item], codebook: Codebook) -> list[CountTable]:
    """Count by origin and language, by origin and split, and by origin and length."""
    return [
        _count("By language", "language", items, codebook, key=lambda i: (i.origin, i.language)),
        _count("By split", "split", items, codebook, key=lambda i: (i.origin, i.split or "none")),
        _count(
            "By length in words", "words", items, codebook, key=lambda i: (i.origin, _length(i))
        ),
    ]


def fill_card(card: str, tables: str) -> str:
    """Put the tables into a data card, in the place of the former ones.

    Raises
    ------
    DataError
        If the card lacks the two lines between which they stand.
    """
    before, start, rest = card.partition(CARD_START)
    _, end, after = rest.partition(CARD_END)
    if not start or not end:
        raise DataError(f"the card has no place for tables: lines {CARD_START} and {CARD_END}")
    return f"{before}{start}\n\n{tables}\n\n{end}{after}"


def _count(
    title: str,
    name: str,
    items: Sequence[Item],
    codebook: Codebook,
    *,
    key: Callable[[Item], tuple[str, str]],
) -> CountTable:
    columns = (
        "origin", name, "articles", "passages", *codebook.names, "no topic", "median words",
        "90 % within",
    )  # fmt: skip
    keys = sorted({key(item) for item in items}, key=_order)
    rows = []
    for origin in dict.fromkeys(origin for origin, _ in keys):
        part = [item for item in items if item.origin == origin]
        for value in (value for first, value in keys if first == origin):
            chosen = [item for item in part if key(item)[1] == value]
            rows.append((origin, value, *_cells(chosen, codebook)))
        rows.append((origin, "all", *_cells(part, codebook)))
    return CountTable(title=title, columns=columns, rows=tuple(rows))


def _cells(items: Sequence[Item], codebook: Codebook) -> tuple[str, ...]:
    words = [item.n_words for item in items if item.n_words is not None]
    median, upper = np.percentile(words, [50, 90]) if words else (None, None)
    counts = (
        len({item.article_id for item in items}),
        len(items),
        *(sum(topic in item.topics for item in items) for topic in codebook.names),
        sum(not item.topics for item in items),
    )
    lengths = ("–" if value is None else f"{value:.0f}" for value in (median, upper))
    return (*(f"{count:,}" for count in counts), *lengths)


def _length(item: Item) -> str:
    if item.n_words is None:
        return "text not at hand"
    below = [f"{a}–{b - 1}" for a, b in zip((0, *LENGTHS), LENGTHS, strict=False)]
    place = int(np.searchsorted(LENGTHS, item.n_words, side="right"))
    return below[place] if place < len(LENGTHS) else f"{LENGTHS[-1]} and more"


def _order(key: tuple[str, str]) -> tuple[str, int, str]:
    """Order by origin, then languages, splits and lengths as people list them."""
    known = ("fa", "ar", "az", "tr", "en", "ru", "other", "train", "validation", "test", "none")
    origin, value = key
    if value in known:
        return origin, known.index(value), value
    digits = value.split("–")[0].split(" ")[0]
    return origin, int(digits) if digits.isdigit() else 10**6, value
