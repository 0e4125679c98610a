"""TF-IDF over words and characters, and keyword counts, with a logistic regression a topic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relclass.codebook import Codebook
from relclass.config import BaselineSettings
from relclass.errors import DataError, ModelError
from relclass.models.array_file import read_arrays, write_arrays
from relclass.models.lexicon import LEXICON_FILE, LexiconScorer, load_lexicon
from relclass.models.tfidf import TfidfBlock, fit_block, tokenize

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
_KEYS = {
    "word_ngrams", "word_terms", "word_idf", "char_ngrams", "char_terms", "char_idf",
    "weights", "intercepts", "n_keyword_columns",
}  # fmt: skip
KEYWORD_SCALE = 0.5
"""Keyword counts enter as 0.5 ln(1 + count): by the side of rows of length 1 (chosen on
validation among 0.5 and 1, with and without the logarithm)."""
_MAX_ITERATIONS = 1000
_SCORE_BATCH = 2048


@dataclass(frozen=True, eq=False)
class BaselineScorer:
    """The fitted baseline.

    Parameters
    ----------
    words, chars : the features; columns of the words come first.
    weights : shape (n_terms + n_keyword_columns, n_topics), float32, of values that float16 holds:
        in the file they take half the room.
    intercepts : shape (n_topics,), float32.
    lexicon : its counts are the last columns, two for each of its topics.
    """

    words: TfidfBlock
    chars: TfidfBlock
    weights: np.ndarray
    intercepts: np.ndarray
    lexicon: LexiconScorer | None = None
    kind: str = "baseline"

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32."""
        logits = np.empty((len(texts), len(self.intercepts)), dtype=np.float32)
        for start in range(0, len(texts), _SCORE_BATCH):
            part = texts[start : start + _SCORE_BATCH]
            passages = [tokenize(text) for text in part]
            batch = self.words.transform(passages) @ self._word_weights
            batch += self.chars.transform(passages) @ self._char_weights
            if self.lexicon is not None:
                batch += _keyword_features(self.lexicon, part) @ self._keyword_weights
            logits[start : start + len(part)] = batch + self.intercepts
        return logits

    @property
    def _word_weights(self) -> np.ndarray:
        return self.weights[: len(self.words.terms)]

    @property
    def _char_weights(self) -> np.ndarray:
        start = len(self.words.terms)
        return self.weights[start : start + len(self.chars.terms)]

    @property
    def _keyword_weights(self) -> np.ndarray:
        return self.weights[len(self.words.terms) + len(self.chars.terms) :]

    def top_terms(self, column: int, n_terms: int = 20) -> list[tuple[str, float]]:
        """Return the words and word pairs with the largest weights for a topic.

        Parameters
        ----------
        column : the topic's column in the codebook.
        n_terms : how many; the largest come first. For a negative number, the smallest.
        """
        weights = self._word_weights[:, column]
        order = np.argsort(-weights, kind="stable") if n_terms >= 0 else np.argsort(weights)
        return [(self.words.terms[i], float(weights[i])) for i in order[: abs(n_terms)]]

    def explain(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Share a passage's logits out among its words.

        Parameters
        ----------
        text : normalised, as for `score`.

        Returns
        -------
        Each word in order with its contribution, shape (n_topics,), float64: that of its own
        and its characters' weights, and half of each pair it stands in; after them each
        keyword, as "keyword: ...". They add up to the logits less the intercepts.
        """
        tokens = tokenize(text)
        shares = np.zeros((len(tokens), len(self.intercepts)))
        for block, weights in (
            (self.words, self._word_weights),
            (self.chars, self._char_weights),
        ):
            owners, columns, parts = block.occurrences(tokens)
            row = block.transform([tokens])
            values = np.zeros(len(block.terms))
            values[row.indices] = row.data
            counts = np.bincount(columns, weights=parts, minlength=len(block.terms))
            parts = parts * values[columns] / counts[columns]
            np.add.at(shares, owners, weights[columns] * parts[:, None])
        return [*zip(tokens, shares, strict=True), *self._explain_keywords(text)]

    def _explain_keywords(self, text: str) -> list[tuple[str, np.ndarray]]:
        if self.lexicon is None:
            return []
        values = _keyword_features(self.lexicon, [text])[0]
        shares: dict[str, np.ndarray] = {}
        for column, (strong, weak) in enumerate(self.lexicon.hits(text)):
            for place, found in ((column, strong), (column + len(values) // 2, weak)):
                for keyword in sorted(found):
                    share = self._keyword_weights[place] * values[place] / len(found)
                    shares[keyword] = shares.get(keyword, 0.0) + share
        return [(f"keyword: {keyword}", share) for keyword, share in shares.items()]

    def save(self, model_dir: Path) -> None:
        """Write the features and weights: arrays and text in a safetensors file."""
        content: dict[str, np.ndarray | str] = {
            "word_ngrams": np.array(self.words.ngrams),
            "word_terms": "\n".join(self.words.terms),
            "word_idf": self.words.idf,
            "char_ngrams": np.array(self.chars.ngrams),
            "char_terms": "\n".join(self.chars.terms),
            "char_idf": self.chars.idf,
            "weights": self.weights.astype(np.float16),
            "intercepts": self.intercepts,
            "n_keyword_columns": np.array([len(self._keyword_weights)]),
        }
        write_arrays(model_dir / MODEL_FILE, content)
        if self.lexicon is not None:
            self.lexicon.save(model_dir)

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook) -> BaselineScorer:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is missing, holds other types than expected, or does not fit the
            codebook.
        """
        path = model_dir / MODEL_FILE
        content: dict[str, Any] = read_arrays(path)
        if set(content) != _KEYS:
            raise ModelError(f"{path}: not a baseline: expected the keys {sorted(_KEYS)}")
        try:
            scorer = cls(
                words=_read_block(content, "word"),
                chars=_read_block(content, "char"),
                weights=_in_half(content["weights"]),
                intercepts=np.asarray(content["intercepts"], dtype=np.float32),
                lexicon=_load_keywords(model_dir) if content["n_keyword_columns"].any() else None,
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path}: not a baseline: {error}") from error
        scorer._check(path, len(codebook.names))
        return scorer

    def _check(self, path: Path, n_topics: int) -> None:
        for block in (self.words, self.chars):
            if block.idf.shape != (len(block.terms),):
                raise ModelError(
                    f"{path}: {len(block.terms)} {block.unit} terms but idf of {block.idf.shape}"
                )
        n_keyword_columns = 0 if self.lexicon is None else 2 * len(self.lexicon.topics)
        n_rows = len(self.words.terms) + len(self.chars.terms) + n_keyword_columns
        expected = (n_rows, n_topics)
        if self.weights.shape != expected or self.intercepts.shape != (n_topics,):
            raise ModelError(
                f"{path}: weights of shape {self.weights.shape} and intercepts of shape "
                f"{self.intercepts.shape}: the terms and the codebook want {expected}"
            )


def _load_keywords(model_dir: Path) -> LexiconScorer:
    try:
        lexicon = load_lexicon(model_dir / LEXICON_FILE)
    except DataError as error:
        raise ModelError(f"{model_dir}: {error}") from error
    return LexiconScorer(lexicon, tuple(lexicon.topics))


def _keyword_features(lexicon: LexiconScorer, texts: Sequence[str]) -> np.ndarray:
    """Shape (n_passages, 2 * n_topics of the lexicon), float32."""
    return np.asarray(KEYWORD_SCALE * np.log1p(lexicon.count(texts)), dtype=np.float32)


def _in_half(weights: Any) -> np.ndarray:
    """Round to float16's values: 11 bits, in a sum of hundreds."""
    rounded: np.ndarray = np.ascontiguousarray(weights, dtype=np.float16).astype(np.float32)
    return rounded


def _read_block(content: dict[str, Any], unit: Any) -> TfidfBlock:
    text, (low, high) = content[f"{unit}_terms"], content[f"{unit}_ngrams"]
    return TfidfBlock(
        unit=unit,
        ngrams=(int(low), int(high)),
        terms=tuple(text.split("\n")) if text else (),
        idf=np.asarray(content[f"{unit}_idf"], dtype=np.float32),
    )


def fit_baseline(
    texts: Sequence[str],
    y_true: np.ndarray,
    weights: np.ndarray | None,
    settings: BaselineSettings,
) -> BaselineScorer:
    """Fit the features and one logistic regression a topic.

    Parameters
    ----------
    texts : normalised passages.
    y_true : shape (n_passages, n_topics), in [0, 1]; a target between the two counts as a positive
        and a negative that share the passage's weight.
    weights : of each passage for each topic, shape (n_passages, n_topics), or one for all its
        topics, shape (n_passages,); not negative; 1 where None.
    settings : sizes and regularisation.

    Returns
    -------
    The same numbers, bit for bit, for the same input. A topic that lacks positives or
    negatives gets a constant logit, its smoothed log-odds, with a warning.

    Raises
    ------
    ValueError
        If the shapes disagree, or no n-gram is in `settings.min_df` passages.
    DataError
        If the settings name a lexicon that cannot be read.
    """
    y_true, weights = _check_training(texts, y_true, weights)
    passages = [tokenize(text) for text in texts]
    words = fit_block(
        passages,
        unit="word",
        ngrams=settings.word_ngrams,
        max_features=settings.max_word_features,
        min_df=settings.min_df,
    )
    chars = fit_block(
        passages,
        unit="char",
        ngrams=settings.char_ngrams,
        max_features=settings.max_char_features,
        min_df=settings.min_df,
    )
    if not words.terms and not chars.terms:
        raise ValueError(
            f"No word or character n-gram is in {settings.min_df} of the {len(texts)} passages: "
            "give more passages, or lower min_df."
        )
    lexicon = None
    if settings.lexicon is not None:
        content = load_lexicon(settings.lexicon)
        lexicon = LexiconScorer(content, tuple(content.topics))
    features = _all_features(words, chars, lexicon, texts)
    columns = [
        _fit_topic(features, y_true[:, column], weights[:, column], settings, column)
        for column in range(y_true.shape[1])
    ]
    return BaselineScorer(
        words=words,
        chars=chars,
        weights=_in_half(np.stack([weight for weight, _ in columns], axis=1)),
        intercepts=np.array([intercept for _, intercept in columns], dtype=np.float32),
        lexicon=lexicon,
    )


def _all_features(
    words: TfidfBlock, chars: TfidfBlock, lexicon: LexiconScorer | None, texts: Sequence[str]
) -> Any:
    from scipy.sparse import csr_matrix, hstack

    passages = [tokenize(text) for text in texts]
    blocks = [words.transform(passages), chars.transform(passages)]
    if lexicon is not None:
        blocks.append(csr_matrix(_keyword_features(lexicon, texts)))
    return hstack(blocks, format="csr")


def _check_training(
    texts: Sequence[str], y_true: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    y_true = np.asarray(y_true)
    if y_true.ndim != 2 or len(y_true) != len(texts) or not len(texts):
        raise ValueError(
            f"Got {len(texts)} texts and y_true of shape {y_true.shape}: expected "
            "(n_passages, n_topics), with at least one passage."
        )
    weights = np.ones(len(texts)) if weights is None else np.asarray(weights, dtype=np.float64)
    weights = weights[:, None] if weights.ndim == 1 else weights
    try:
        return y_true, np.broadcast_to(weights, y_true.shape)
    except ValueError as error:
        raise ValueError(
            f"Got weights of shape {weights.shape} for y_true of shape {y_true.shape}."
        ) from error


def _fit_topic(
    features: Any, y: np.ndarray, weights: np.ndarray, settings: BaselineSettings, column: int
) -> tuple[np.ndarray, float]:
    """Weights, shape (n_terms,), and intercept of one topic."""
    features, y, weights = _harden(features, y, weights)
    n_positive, n_negative = weights[y == 1].sum(), weights[y == 0].sum()
    if n_positive == 0 or n_negative == 0:
        logger.warning(
            "column %d has %g positives and %g negatives to train on: its logit is a constant",
            column, n_positive, n_negative,
        )  # fmt: skip
        return np.zeros(features.shape[1]), float(np.log((n_positive + 1) / (n_negative + 1)))
    if settings.class_weight == "balanced":  # as scikit-learn's, but by weight
        total = n_positive + n_negative
        weights = weights * np.where(y == 1, total / n_positive, total / n_negative) / 2
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # One thread: the order of a sum, and so its last bit, depends on their number.
    with threadpool_limits(1):
        model = LogisticRegression(C=settings.C, max_iter=_MAX_ITERATIONS)
        model.fit(features, y, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def _harden(
    features: Any, y: np.ndarray, weights: np.ndarray
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Make of each soft target a positive and a negative that share its weight."""
    from scipy.sparse import vstack

    soft = (y > 0) & (y < 1)
    if not soft.any():
        return features, y, weights
    return (
        vstack([features, features[soft]], format="csr"),
        np.concatenate([np.where(soft, 1, y), np.zeros(soft.sum())]),
        np.concatenate([np.where(soft, y, 1) * weights, (1 - y[soft]) * weights[soft]]),
    )
