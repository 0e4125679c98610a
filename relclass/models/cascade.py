"""A cheap member settles the clear passages; the whole ensemble reads only the rest.

Most passages of an archive name no topic, or name one outright, and counting words tells so. The
idea is that of Viola and Jones's cascade (2001, https://doi.org/10.1109/CVPR.2001.990517).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import ModelError
from relclass.language import detect_languages
from relclass.models.base import Classifier
from relclass.models.ensemble import EnsembleScorer

CASCADE_FILE = "cascade.json"
_KEYS = {"base", "first", "low", "high", "sha256"}
_NEAREST = 1e-7  # probabilities of 0 and 1 have no logit


@dataclass(frozen=True)
class CascadeScorer:
    """An ensemble whose first member may settle a passage alone.

    Parameters
    ----------
    base : an ensemble with its calibration.
    first : name of the member that reads every passage.
    low, high : a passage is settled where the first member's probability of every topic lies
        below `low` or above `high`; 0 <= low < high <= 1.
    by_name : a saved folder refers to `base`, a shipped model, instead of holding it again.

    Raises
    ------
    ModelError
        If the base is no ensemble, has no such member, or the bounds are out of range.
    """

    base: Classifier
    first: str
    low: float
    high: float
    by_name: bool = False
    kind: str = "cascade"

    def __post_init__(self) -> None:
        if not isinstance(self.base.scorer, EnsembleScorer):
            raise ModelError(
                f"model {self.base.name!r} is of kind {self.base.scorer.kind!r}: a cascade needs "
                "an ensemble"
            )
        names = [member.name for member in self.members]
        if self.first not in names:
            raise ModelError(f"no member {self.first!r} in {self.base.name!r}, only {names}")
        if not 0 <= self.low < self.high <= 1:
            raise ModelError(f"low {self.low} and high {self.high}: expected 0 <= low < high <= 1")

    @property
    def members(self) -> tuple[Classifier, ...]:
        """The ensemble's members."""
        return self._ensemble.members

    @property
    def _ensemble(self) -> EnsembleScorer:
        return cast(EnsembleScorer, self.base.scorer)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32; languages are detected."""
        return self.score_languages(texts, detect_languages(texts))

    def score_languages(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Return logits of calibrated probabilities, shape (n_passages, n_topics), float32."""
        members = self.members
        place = [member.name for member in members].index(self.first)
        of_first = members[place].predict_logits(texts, languages)
        y_prob = members[place].calibration.apply(of_first)
        rest = np.flatnonzero(~is_settled(y_prob, low=self.low, high=self.high))
        if len(rest):
            rest_texts = [texts[row] for row in rest]
            rest_languages = [languages[row] for row in rest]
            of_members = np.stack(
                [
                    of_first[rest]
                    if number == place
                    else member.predict_logits(rest_texts, rest_languages)
                    for number, member in enumerate(members)
                ]
            )
            y_prob[rest] = self.base.calibration.apply(self._ensemble.combine(of_members))
        clipped = np.clip(y_prob.astype(np.float64), _NEAREST, 1 - _NEAREST)
        logits: np.ndarray = (np.log(clipped) - np.log1p(-clipped)).astype(np.float32)
        return logits

    def save(self, model_dir: Path) -> None:
        """Write the bounds, and the base as a model folder of its own or by name and sha256."""
        from relclass.models.store import manifest_sha256, save_model

        content: dict[str, Any] = {
            "base": self.base.name, "first": self.first, "low": self.low, "high": self.high,
        }  # fmt: skip
        if self.by_name:
            content["sha256"] = manifest_sha256(self.base.name)
        else:
            save_model(self.base, model_dir / self.base.name)
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (model_dir / CASCADE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook) -> CascadeScorer:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is missing or damaged, or the base is missing, another than the one the
            bounds were chosen for, or has other topics.
        """
        from relclass.models.store import load_model, manifest_sha256, reading

        path = model_dir / CASCADE_FILE
        with reading(path, "the bounds of a cascade"):
            content = json.loads(path.read_text(encoding="utf-8"))
            if unknown := set(content) - _KEYS:
                raise ValueError(f"unknown keys {sorted(unknown)}")
            name, first = str(content["base"]), str(content["first"])
            low, high = float(content["low"]), float(content["high"])
            expected = content.get("sha256")
            if Path(name).name != name:
                raise ValueError(f"base {name!r} is not a plain name")
        if expected is not None and manifest_sha256(name) != expected:
            raise ModelError(
                f"{path}: made for another version of the shipped model {name!r}: "
                "make it anew with relclass cascade"
            )
        base = load_model(name if expected is not None else model_dir / name)
        if base.topics != codebook.names:
            raise ModelError(
                f"{model_dir}: the base has the topics {base.topics}, but the cascade has "
                f"{codebook.names}"
            )
        return cls(base=base, first=first, low=low, high=high, by_name=expected is not None)


def is_settled(y_prob: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """Say which passages have every topic's probability below `low` or above `high`.

    Returns
    -------
    Shape (n_passages,), bool.
    """
    settled: np.ndarray = ((y_prob < low) | (y_prob > high)).all(axis=1)
    return settled
