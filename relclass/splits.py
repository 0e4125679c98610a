"""Labelled passages -> train / validation / test, grouped so that nothing leaks.

Passages of one article, and passages that are near-duplicates of each other, always land in
the same split. Groups are then dealt out so that every split has its share of each topic in
each language.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from relclass.errors import MissingExtraError

SPLITS = ("train", "validation", "test")
_Counts = dict[Hashable, float]


def find_near_duplicates(
    texts: Sequence[str],
    *,
    threshold: float = 0.6,
    shingle_chars: int = 5,
    n_permutations: int = 128,
) -> list[tuple[int, int]]:
    """Pair passages whose character shingles overlap.

    MinHash with locality-sensitive hashing (Broder 1997,
    https://doi.org/10.1109/SEQUEN.1997.666900), by the library datasketch.

    Parameters
    ----------
    texts : the passages; letter case, spaces and punctuation are ignored.
    threshold : estimated Jaccard similarity, in (0, 1), from which two passages count as
        near-duplicates.
    shingle_chars : characters in a shingle.
    n_permutations : hash permutations; more is more exact and slower.

    Returns
    -------
    Pairs (i, j) of positions in `texts`, i < j, in ascending order.

    Raises
    ------
    MissingExtraError
        If datasketch is not installed.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise MissingExtraError("datasketch", "data") from error

    index = MinHashLSH(threshold=threshold, num_perm=n_permutations)
    pairs: list[tuple[int, int]] = []
    hashes: list[MinHash] = []
    for position, text in enumerate(texts):
        letters = re.sub(r"\W+", "", text.casefold())
        last = max(1, len(letters) - shingle_chars + 1)
        shingles = sorted({letters[i : i + shingle_chars].encode() for i in range(last)})
        minhash = MinHash(num_perm=n_permutations, seed=1)
        minhash.update_batch(shingles)
        hashes.append(minhash)
        if not letters:
            continue
        for other in index.query(minhash):
            if hashes[other].jaccard(minhash) >= threshold:
                pairs.append((other, position))
        index.insert(position, minhash)
    return sorted(pairs)


def group_passages(
    article_ids: Sequence[Hashable], near_duplicates: Sequence[tuple[int, int]] = ()
) -> np.ndarray:
    """Give each passage the number of its group, which no split may cut.

    Parameters
    ----------
    article_ids : one per passage; passages of equal id belong together.
    near_duplicates : pairs of positions that belong together too.

    Returns
    -------
    Group of each passage, shape (n_passages,), int64, numbered in order of first appearance.
    """
    parent = list(range(len(article_ids)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first: dict[Hashable, int] = {}
    for position, article_id in enumerate(article_ids):
        parent[root(position)] = root(first.setdefault(article_id, position))
    for left, right in near_duplicates:
        parent[root(right)] = root(left)
    numbers: dict[int, int] = {}
    roots = (root(position) for position in range(len(article_ids)))
    return np.array([numbers.setdefault(r, len(numbers)) for r in roots], dtype=np.int64)


def split_groups(
    groups: np.ndarray,
    strata: Sequence[Sequence[Hashable]],
    *,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """Deal whole groups out to the splits, each split getting its share of every stratum.

    Iterative stratification for multi-label data (Sechidis, Tsoumakas and Vlahavas 2011,
    https://doi.org/10.1007/978-3-642-23808-6_10) with a group in the place of an example: the
    group with the most passages of the rarest stratum is placed first, where that stratum is
    missed most.

    Parameters
    ----------
    groups : shape (n_passages,), group of each passage.
    strata : the strata of each passage, any number of them, such as ("fa", "fa/energy").
    shares : of the passages, one per split; positive, summing to 1.
    seed : orders groups that tie.
    fixed : shape (n_passages,), int64; the split of a passage that has one already, -1 for one
        to be placed. All passages of a group have the same. None places every passage.

    Returns
    -------
    Position of each passage's split in `shares`, shape (n_passages,), int64.

    Raises
    ------
    ValueError
        If the shares are not positive or do not sum to 1.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"Got shares={tuple(shares)} but expected positive shares summing to 1.")
    fixed = np.full(len(groups), -1) if fixed is None else fixed
    counts, total, missing = _count_strata(groups, strata, shares=shares, fixed=fixed)

    def rarest(group: int) -> Hashable:
        return min(counts[group], key=lambda s: (total[s], str(s)))

    def urgency(group: int) -> tuple[float, float]:
        stratum = rarest(group)
        return total[stratum], -counts[group][stratum]

    order = np.random.default_rng(seed).permutation(len(counts))
    placed = np.zeros(len(counts), dtype=np.int64)
    for group in sorted((group for group in order if counts[group]), key=urgency):
        stratum = rarest(group)
        placed[group] = max(
            range(len(shares)), key=lambda k: (missing[k][stratum], missing[k][None])
        )
        for stratum, number in counts[group].items():
            missing[placed[group]][stratum] -= number
    return np.where(fixed < 0, placed[groups], fixed) if counts else np.zeros(0, dtype=np.int64)


def _count_strata(
    groups: np.ndarray,
    strata: Sequence[Sequence[Hashable]],
    *,
    shares: Sequence[float],
    fixed: np.ndarray,
) -> tuple[list[_Counts], _Counts, list[_Counts]]:
    """Count passages by stratum: to be placed in each group, in all, and missing in each split."""
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    counts: list[_Counts] = [defaultdict(int) for _ in range(n_groups)]
    total: _Counts = defaultdict(int)
    has_split: list[_Counts] = [defaultdict(int) for _ in shares]
    for group, row, split in zip(groups, strata, fixed, strict=True):
        for stratum in (*row, None):  # None: every passage counts toward its split's size
            total[stratum] += 1
            (counts[group] if split < 0 else has_split[split])[stratum] += 1
    missing: list[_Counts] = [
        {s: share * number - has[s] for s, number in total.items()}
        for share, has in zip(shares, has_split, strict=True)
    ]
    return counts, total, missing
