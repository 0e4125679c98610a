"""Tokens -> TF-IDF: word n-grams, and character n-grams inside words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

MAX_TOKEN_CHARS = 40
"""No word is longer; a run without a break must not fill the memory."""
_CACHE_SIZE = 50_000
"""Words remembered, some 15 MB: an archive has no end of rare ones."""
_TOKEN = re.compile(r"\w[\w\u064b-\u0655\u0670\u200c]*")
"""A word with its marks and half-spaces, which `\\w` alone would break at."""


def lower(text: str) -> str:
    """Lower the case; a dotted capital I becomes one letter, where Python makes it two."""
    return text.replace("İ", "i").lower()


def tokenize(text: str) -> list[str]:
    """Return the words and numbers of a normalised text, lower-case, in order."""
    return [token[:MAX_TOKEN_CHARS] for token in _TOKEN.findall(lower(text))]


def word_ngrams(tokens: Sequence[str], ngrams: tuple[int, int]) -> Iterator[str]:
    """Yield the runs of `ngrams[0]` to `ngrams[1]` tokens, joined by a space."""
    for n in range(ngrams[0], ngrams[1] + 1):
        yield from map(" ".join, zip(*(tokens[i:] for i in range(n)), strict=False))


def char_ngrams(token: str, ngrams: tuple[int, int]) -> Iterator[str]:
    """Yield a word's character n-grams, the word padded with a space on both sides.

    As scikit-learn's analyzer "char_wb": a word shorter than n is given once, whole.
    """
    padded = f" {token} "
    for n in range(ngrams[0], ngrams[1] + 1):
        if n >= len(padded):
            yield padded
            return
        yield from (padded[i : i + n] for i in range(len(padded) - n + 1))


@dataclass(frozen=True, eq=False)
class TfidfBlock:
    """TF-IDF of one kind of n-gram, with log counts and rows of length 1.

    Parameters
    ----------
    unit : "word" or "char".
    ngrams : shortest and longest n.
    terms : in column order.
    idf : shape (n_terms,), float32.
    """

    unit: Literal["word", "char"]
    ngrams: tuple[int, int]
    terms: tuple[str, ...]
    idf: np.ndarray
    _columns: dict[str, int] = field(init=False, repr=False, compare=False)
    _cache: dict[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        columns = {term: column for column, term in enumerate(self.terms)}
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_cache", {})

    def transform(self, passages: Sequence[Sequence[str]]) -> Any:
        """Return the features of tokenised passages.

        Parameters
        ----------
        passages : the tokens of each.

        Returns
        -------
        scipy CSR matrix, shape (n_passages, n_terms), float32; a passage without a known
        n-gram has an empty row.
        """
        from scipy.sparse import csr_matrix

        rows = [self._row_bytes(tokens) for tokens in passages]
        indptr = np.concatenate([[0], np.cumsum([len(row) // 4 for row in rows])]).astype(np.int64)
        indices = np.frombuffer(bytearray().join(rows), dtype=np.int32)  # writable
        counts = np.ones(len(indices), dtype=np.float32)
        features = csr_matrix((counts, indices, indptr), shape=(len(rows), len(self.terms)))
        features.sum_duplicates()
        features.data = (1.0 + np.log(features.data)) * self.idf[features.indices]
        norms = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
        scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        features.data *= np.repeat(scale, np.diff(features.indptr)).astype(np.float32)
        return features

    def _row_bytes(self, tokens: Sequence[str]) -> bytes:
        if self.unit == "char":
            return b"".join(map(self._token_bytes, tokens))
        columns = map(self._columns.get, word_ngrams(tokens, self.ngrams))
        return np.array([c for c in columns if c is not None], dtype=np.int32).tobytes()

    def _token_bytes(self, token: str) -> bytes:
        """Columns of a word's character n-grams as int32, remembered: words come again."""
        found = self._cache.get(token)
        if found is None:
            columns = map(self._columns.get, char_ngrams(token, self.ngrams))
            found = np.array([c for c in columns if c is not None], dtype=np.int32).tobytes()
            if len(self._cache) >= _CACHE_SIZE:
                for older in list(islice(self._cache, _CACHE_SIZE // 2)):
                    self._cache.pop(older, None)  # another thread may have been quicker
            self._cache[token] = found
        return found

    def occurrences(self, tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Say which word each known n-gram of one passage stands in.

        Returns
        -------
        Token index, column and share, each of shape (n,): an n-gram of one word is that word's
        (share 1), one of two words is half of each.
        """
        found: list[tuple[int, int, float]] = []
        for index, token in enumerate(tokens):
            if self.unit == "char":
                columns = np.frombuffer(self._token_bytes(token), dtype=np.int32)
                found += [(index, int(column), 1.0) for column in columns]
        for n in range(self.ngrams[0], self.ngrams[1] + 1) if self.unit == "word" else ():
            for start in range(len(tokens) - n + 1):
                column = self._columns.get(" ".join(tokens[start : start + n]))
                if column is not None:
                    found += [(index, column, 1.0 / n) for index in range(start, start + n)]
        table = np.array(found, dtype=np.float64).reshape(-1, 3)
        return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2]


def fit_block(
    passages: Sequence[Sequence[str]],
    *,
    unit: Literal["word", "char"],
    ngrams: tuple[int, int],
    max_features: int,
    min_df: int,
) -> TfidfBlock:
    """Choose the n-grams in the most passages and weigh them by how few have them.

    Parameters
    ----------
    passages : the tokens of each; at least one.
    max_features, min_df : at most so many n-grams, each in at least so many passages. Of
        equally frequent ones, the first in code-point order.

    Returns
    -------
    A block with terms in code-point order; idf is ln((1 + n) / (1 + df)) + 1, as scikit-learn
    smooths it.
    """
    n_passages = Counter[str]()
    analyse = _analyser(unit, ngrams)
    for tokens in passages:
        n_passages.update(set(analyse(tokens)))
    frequent = [(-count, term) for term, count in n_passages.items() if count >= min_df]
    terms = sorted(term for _, term in sorted(frequent)[:max_features])
    df = np.array([n_passages[term] for term in terms], dtype=np.float64)
    idf = np.log((1 + len(passages)) / (1 + df)) + 1
    return TfidfBlock(unit, ngrams, tuple(terms), idf.astype(np.float32))


def _analyser(unit: str, ngrams: tuple[int, int]) -> Callable[[Sequence[str]], Iterable[str]]:
    if unit == "word":
        return lambda tokens: word_ngrams(tokens, ngrams)
    cache: dict[str, tuple[str, ...]] = {}

    def analyse(tokens: Sequence[str]) -> Iterator[str]:
        for token in set(tokens):
            if token not in cache:
                cache[token] = tuple(char_ngrams(token, ngrams))
            yield from cache[token]

    return analyse
