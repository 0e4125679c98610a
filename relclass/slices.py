"""Labelled passages -> named slices of them, each to be scored by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from relclass.records import LabelledPassage
from relclass.traps import TRAPS, has_trap

UNKNOWN = "unknown"
LENGTHS = ((20, "up to 20 words"), (60, "21 to 60 words"), (120, "61 to 120 words"))
LONGEST = "over 120 words"
N_TOPICS = ("no topic", "1 topic", "2 topics", "3 topics or more")
MAX_SLICES = 20
"""Slices of one dimension, by size; the rest, such as rare sources, go unscored."""


def name_length(text: str) -> str:
    """Name the length of a passage, counted in words between spaces."""
    n_words = len(text.split())
    return next((name for limit, name in LENGTHS if n_words <= limit), LONGEST)


def name_scraped(passage: LabelledPassage) -> str:
    """Name whether the passage carries a scraper's damage."""
    return {True: "scraped", False: "clean", None: UNKNOWN}[passage.scraped]


DIMENSIONS: dict[str, Callable[[LabelledPassage], str]] = {
    "language": lambda passage: passage.language,
    "origin": lambda passage: passage.origin,
    "source": lambda passage: passage.source or UNKNOWN,
    "year": lambda passage: str(passage.date.year) if passage.date else UNKNOWN,
    "length": lambda passage: name_length(passage.text),
    "scraped": name_scraped,
    "topics": lambda passage: N_TOPICS[min(len(passage.topics), len(N_TOPICS) - 1)],
    "certainty": lambda passage: "unsure" if passage.unsure else "sure",
}
"""What each dimension calls a passage. Every passage has one name in each."""


def cut_slices(gold: Sequence[LabelledPassage]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield every slice: its dimension, its name, and a mask over the passages.

    Parameters
    ----------
    gold : the passages.

    Yields
    ------
    Slices with a passage; a dimension in which all passages are alike is left out. Last come
    the codebook's traps, dimension "trap", which overlap and leave passages out.
    """
    for dimension, name_of in DIMENSIONS.items():
        names = np.array([name_of(passage) for passage in gold], dtype=object)
        counts = Counter(names.tolist())
        if len(counts) < 2:
            continue
        for name in _in_order(dimension, counts):
            yield dimension, name, names == name
    texts = [passage.text for passage in gold]
    notes = [passage.note for passage in gold]
    for trap in TRAPS:
        mask = has_trap(texts, trap, notes=notes)
        if mask.any():
            yield "trap", trap, mask


def _in_order(dimension: str, counts: Counter[str]) -> list[str]:
    kept = [name for name, _ in counts.most_common(MAX_SLICES)]
    fixed = {"length": (*(name for _, name in LENGTHS), LONGEST), "topics": N_TOPICS}
    if dimension in fixed:
        return [name for name in fixed[dimension] if name in kept]
    return sorted(kept) if dimension == "year" else kept
