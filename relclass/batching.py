"""Passages -> batches of like length within a bounded window, and the order back again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How passages are put together for the model.

    Parameters
    ----------
    window : passages held in memory at once; batches and duplicates are sought within them.
    max_chars : budget of a batch: its passages times the characters of its longest, which is
        what the network computes once the shorter ones are padded.
    max_passages : in one batch, however short.

    Raises
    ------
    ValueError
        If a number is below 1.
    """

    window: int = 2048
    max_chars: int = 65_536
    max_passages: int = 256

    def __post_init__(self) -> None:
        for name in ("window", "max_chars", "max_passages"):
            if getattr(self, name) < 1:
                raise ValueError(f"Got {name}={getattr(self, name)} but expected 1 or more.")


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut a stream into lists of `size`, the last one shorter; in order, nothing lost."""
    stream = iter(items)
    while window := list(islice(stream, size)):
        yield window


def deduplicate(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Find the first of each set of equal keys.

    Returns
    -------
    Positions of the distinct keys, in order of first appearance; and for each key, the place in
    that list of the one it equals.
    """
    places: dict[Hashable, int] = {}
    first: list[int] = []
    inverse: list[int] = []
    for position, key in enumerate(keys):
        place = places.setdefault(key, len(first))
        if place == len(first):
            first.append(position)
        inverse.append(place)
    return first, inverse


def plan_batches(lengths: Sequence[int], settings: BatchSettings) -> list[list[int]]:
    """Sort by length, longest first, and cut where the budget is full.

    Parameters
    ----------
    lengths : cost of each passage, in characters; 0 counts as 1.

    Returns
    -------
    Positions in `lengths`, each in exactly one batch. A batch's count times its longest stays
    within ``settings.max_chars``, save for a single passage that is longer by itself. Equal
    lengths keep their order, so the same window always gives the same batches.
    """
    batches: list[list[int]] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        is_full = batches and (
            len(batches[-1]) >= settings.max_passages
            or (len(batches[-1]) + 1) * longest > settings.max_chars
        )
        if not batches or is_full:
            batches.append([])
            longest = max(1, lengths[position])
        batches[-1].append(position)
    return batches
