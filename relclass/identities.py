"""Ids that differ, for as many articles as there are: some thirty bytes for each."""

from __future__ import annotations

import hashlib
from array import array

_FIRST_SLOTS = 1024


class UniqueIds:
    """Make ids unique: a second "a" becomes "a-2".

    It keeps 64-bit hashes in an open-addressing table, so that ten million ids take some 300 MB
    and not gigabytes. Two ids that share a hash (a chance of 3 in a million among ten million)
    only cost a needless suffix.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._n_used = 0
        self._n_copies: dict[str, int] = {}

    def make_unique(self, article_id: str) -> str:
        """Return the id, with the lowest suffix that no earlier one has if it was given before."""
        if self._add(article_id):
            return article_id
        n_copies = self._n_copies.get(article_id, 1)
        while True:
            n_copies += 1
            candidate = f"{article_id}-{n_copies}"
            if self._add(candidate):
                self._n_copies[article_id] = n_copies
                return candidate

    def _add(self, article_id: str) -> bool:
        """Take note of an id; False if it was there."""
        digest = hashlib.blake2b(article_id.encode("utf-8", "surrogatepass"), digest_size=8)
        key = int.from_bytes(digest.digest(), "big") or 1  # 0 marks a free slot
        if not _insert(self._slots, key):
            return False
        self._n_used += 1
        if self._n_used * 2 > len(self._slots):
            larger = array("Q", bytes(16 * len(self._slots)))
            for old in self._slots:
                if old:
                    _insert(larger, old)
            self._slots = larger
        return True


def _insert(slots: array[int], key: int) -> bool:
    mask = len(slots) - 1
    slot = key & mask
    while slots[slot]:
        if slots[slot] == key:
            return False
        slot = (slot + 1) & mask
    slots[slot] = key
    return True
