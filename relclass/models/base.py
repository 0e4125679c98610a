"""Classifier: what every model offers, whatever scores the texts inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from relclass.codebook import Codebook
from relclass.config import NormalizeSettings
from relclass.language import detect_languages
from relclass.normalize import normalize_all
from relclass.thresholds import Calibration, apply_thresholds


class Scorer(Protocol):
    """The fitted part of a model: normalised texts in, logits out."""

    @property
    def kind(self) -> str:
        """Names the class in a model folder; `relclass.models.store` maps it to the class."""
        ...

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32, in codebook order."""
        ...

    def save(self, model_dir: Path) -> None:
        """Write the files that `load` of the same kind needs; never a pickle."""
        ...


@runtime_checkable
class LanguageScorer(Scorer, Protocol):
    """A scorer that wants to know the languages, since its parts normalise for themselves."""

    def score_languages(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32, in codebook order."""
        ...


@dataclass(frozen=True)
class Classifier:
    """A model ready to label: normaliser settings, scorer, calibration and thresholds.

    Parameters
    ----------
    name : stands in every prediction.
    codebook : its topics are the columns of every array here.
    scorer : gives logits.
    normalize : what is done to a text first, as it was in training.
    calibration : logits to probabilities.
    thresholds : shape (n_topics,), in (0, 1).
    card : figures and provenance from the model folder; informative only.
    """

    name: str
    codebook: Codebook
    scorer: Scorer
    normalize: NormalizeSettings
    calibration: Calibration
    thresholds: np.ndarray
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the topics, in column order."""
        return self.codebook.names

    def predict_logits(
        self, texts: Sequence[str], languages: Sequence[str] | None = None
    ) -> np.ndarray:
        """Score passages, uncalibrated.

        Parameters
        ----------
        texts : the passages, as read.
        languages : their language codes; detected where None is given.

        Returns
        -------
        Shape (n_passages, n_topics), float32.

        Raises
        ------
        TypeError
            If `texts` is a single string.
        ValueError
            If `languages` has another length than `texts`.
        """
        if isinstance(texts, str):
            raise TypeError("Got one string but expected a list of passages: use [text].")
        if languages is None:
            languages = detect_languages(texts)
        elif len(languages) != len(texts):
            raise ValueError(
                f"Got {len(languages)} languages for {len(texts)} texts but expected one for each."
            )
        normalised = normalize_all(texts, languages, self.normalize)
        if not normalised:
            return np.zeros((0, len(self.topics)), dtype=np.float32)
        if isinstance(self.scorer, LanguageScorer):
            logits = self.scorer.score_languages(normalised, languages)
        else:
            logits = self.scorer.score(normalised)
        return logits.astype(np.float32, copy=False)

    def predict_proba(
        self, texts: Sequence[str], languages: Sequence[str] | None = None
    ) -> np.ndarray:
        """Give each topic's calibrated probability; parameters as in `predict_logits`.

        Returns
        -------
        Shape (n_passages, n_topics), float32, in [0, 1]. Empty text gets zeros.
        """
        y_prob = self.calibration.apply(self.predict_logits(texts, languages))
        is_empty = np.array([not text.strip() for text in texts], dtype=bool)
        y_prob[is_empty] = 0.0
        return y_prob

    def predict(self, texts: Sequence[str], languages: Sequence[str] | None = None) -> np.ndarray:
        """Mark each passage's topics; parameters as in `predict_logits`.

        Returns
        -------
        Multi-hot topics, shape (n_passages, n_topics), uint8; a row may be all zero.
        """
        return apply_thresholds(self.predict_proba(texts, languages), self.thresholds)

    def predict_topics(
        self, texts: Sequence[str], languages: Sequence[str] | None = None
    ) -> list[tuple[str, ...]]:
        """Name each passage's topics; parameters as in `predict_logits`."""
        return [self.topic_names(row) for row in self.predict(texts, languages)]

    def topic_names(self, row: np.ndarray) -> tuple[str, ...]:
        """Name the topics of one multi-hot row."""
        return tuple(name for name, flag in zip(self.topics, row, strict=True) if flag)
