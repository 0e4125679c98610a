"""Token ids -> windows no longer than the encoder's limit -> batches -> one row per passage.

Both scorers and the training share this, so that a long passage means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WindowRule:
    """How a passage beyond the limit is windowed.

    Parameters
    ----------
    max_length : tokens of a window, special tokens and prefix included.
    head : token ids that open every window: the special tokens in front, and the prefix.
    tail : token ids that close every window.
    overlap : share of a window's text that the next one repeats, so that no phrase is only seen
        broken; in [0, 1).
    """

    max_length: int
    head: tuple[int, ...]
    tail: tuple[int, ...]
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.room < 1:
            raise ValueError(
                f"Got max_length {self.max_length} but expected more than the "
                f"{len(self.head) + len(self.tail)} special and prefix tokens of a window."
            )

    @property
    def room(self) -> int:
        """Tokens of text that a window holds."""
        return self.max_length - len(self.head) - len(self.tail)


@dataclass(frozen=True)
class Windows:
    """Token ids of a list of passages, each within the limit.

    Parameters
    ----------
    input_ids : one list of ids a window, special tokens included.
    passage : shape (n_windows,), the passage's index that each window belongs to, ascending.
    n_passages : also counts passages at the end, if any, without a window.
    """

    input_ids: list[list[int]]
    passage: np.ndarray
    n_passages: int

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each window, shape (n_windows,)."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)


def split_ids(ids: list[int], rule: WindowRule) -> list[list[int]]:
    """Cut one passage's ids, with head and tail, into as few windows as will do, of equal length.

    A passage within the limit comes back as it is.
    """
    if len(ids) <= rule.max_length:
        return [ids]
    text = ids[len(rule.head) : len(ids) - len(rule.tail)]
    step = max(1, round(rule.room * (1 - rule.overlap)))
    n_windows = 1 + -(-(len(text) - rule.room) // step)
    # n windows hold a whole one and n - 1 times the part of one that is not a repetition
    width = -(-len(text) * rule.room // (rule.room + (n_windows - 1) * step))
    starts = np.linspace(0, len(text) - width, n_windows).round().astype(int)
    return [[*rule.head, *text[start : start + width], *rule.tail] for start in starts]


def make_windows(ids: Sequence[list[int]], rule: WindowRule) -> Windows:
    """Window many passages; see `split_ids`."""
    windows, passage = [], []
    for index, passage_ids in enumerate(ids):
        parts = split_ids(passage_ids, rule)
        windows.extend(parts)
        passage.extend([index] * len(parts))
    return Windows(windows, np.array(passage, dtype=np.int64), len(ids))


def select_passages(windows: Windows, rows: np.ndarray) -> Windows:
    """Return the windows of some passages, which are numbered anew in the order of `rows`.

    Parameters
    ----------
    rows : passages to keep, ascending, shape (n_kept,).
    """
    places = np.full(windows.n_passages, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    kept = np.flatnonzero(places[windows.passage] >= 0)
    ids = [windows.input_ids[index] for index in kept]
    return Windows(ids, places[windows.passage[kept]], len(rows))


def pool_windows(logits: np.ndarray, passage: np.ndarray, n_passages: int) -> np.ndarray:
    """Give each passage, for each topic, the highest logit of its windows.

    The highest and not the mean, because a passage takes a topic if any part of it speaks of it:
    a mean would lose a topic named once in a long passage.

    Parameters
    ----------
    logits : shape (n_windows, n_topics).
    passage : shape (n_windows,).

    Returns
    -------
    Shape (n_passages, n_topics), float32.
    """
    pooled = np.full((n_passages, logits.shape[1]), -np.inf, dtype=np.float32)
    np.maximum.at(pooled, passage, logits.astype(np.float32))
    return pooled


def token_batches(lengths: np.ndarray, *, max_tokens: int) -> Iterator[np.ndarray]:
    """Group windows of like length, the padded batch within a budget.

    Parameters
    ----------
    lengths : shape (n_windows,), in tokens.
    max_tokens : of a batch, padding included; a longer window goes alone.

    Yields
    ------
    Indices of a batch's windows; together they are all windows, each once.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    for stop in range(1, len(order) + 1):
        is_last = stop == len(order)
        if is_last or (stop + 1 - start) * lengths[order[stop]] > max_tokens:
            yield order[start:stop]
            start = stop


def padded_batches(
    input_ids: Sequence[list[int]], *, pad_token_id: int, max_tokens: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pad windows batch by batch; see `token_batches` and `pad`.

    Yields
    ------
    The indices of a batch's windows, shape (batch,); their input_ids and attention_mask.
    """
    lengths = np.array([len(ids) for ids in input_ids], dtype=np.int64)
    for batch in token_batches(lengths, max_tokens=max_tokens):
        yield batch, *pad([input_ids[index] for index in batch], pad_token_id=pad_token_id)


def pad(input_ids: Sequence[list[int]], *, pad_token_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad on the right to the longest.

    Returns
    -------
    input_ids and attention_mask, both shape (batch, seq_len), int64.
    """
    seq_len = max(len(ids) for ids in input_ids)
    padded = np.full((len(input_ids), seq_len), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(input_ids), seq_len), dtype=np.int64)
    for row, ids in enumerate(input_ids):
        padded[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return padded, mask
