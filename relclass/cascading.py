"""Build a cascade from an ensemble: how sure its first member must be, chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from relclass.calibration import Calibration
from relclass.config import AS_READ
from relclass.dataset import Dataset, to_arrays
from relclass.errors import DataError, ModelError
from relclass.metrics import macro_f1
from relclass.models.base import Classifier
from relclass.models.cascade import CascadeScorer, is_settled
from relclass.records import LabelledPassage
from relclass.run_folder import plain
from relclass.thresholds import apply_thresholds
from relclass.training import ORIGINS, measure

WIDTHS = (0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01)
"""How far from 0 or 1 a probability may lie and still settle a topic; the widest first."""


def build_cascade(
    base: Classifier,
    first: str,
    dataset: Dataset,
    *,
    name: str,
    max_loss: float = 0.005,
    by_name: bool = False,
) -> Classifier:
    """Let an ensemble's first member settle what it may without costing much macro-F1.

    Parameters
    ----------
    base : an ensemble, not trained on the validation passages.
    first : name of its cheap member.
    max_loss : macro-F1 that may be lost on validation, of real and of authored passages alike,
        in [0, 1].
    by_name : see `CascadeScorer`.

    Returns
    -------
    The cascade with the widest bounds that lose no more, with the base's thresholds.

    Raises
    ------
    DataError
        If there are no real validation passages.
    ModelError
        If the base is no ensemble with such a member, or even the narrowest bounds lose more.
    """
    validation = {origin: dataset.part("validation", origin=origin) for origin in ORIGINS}
    if not validation["real"]:
        raise DataError("no real validation passages to choose the bounds on")
    scorer = CascadeScorer(base, first, low=0.0, high=1.0, by_name=by_name)
    parts = [_Part.label(scorer, part, origin) for origin, part in validation.items() if part]
    for width in WIDTHS:
        if all(part.best - part.reached(width) <= max_loss for part in parts):
            break
    else:
        raise ModelError(
            f"member {first!r} is too weak: even where it is surer than {WIDTHS[-1]} it costs "
            f"more than {max_loss} macro-F1 on validation"
        )
    classifier = Classifier(
        name=name,
        codebook=base.codebook,
        scorer=replace(scorer, low=width, high=1 - width),
        normalize=AS_READ,
        calibration=Calibration("none"),
        thresholds=base.thresholds,
    )
    card = {
        "kind": "cascade",
        "base": base.name,
        "validation": {
            part.origin: {
                "macro_f1": part.reached(width),
                "macro_f1_of_base": part.best,
                "share_settled": float(part.settled(width).mean()),
            }
            for part in parts
        },
        "data": dict(dataset.checksum),
        "metrics": {"test": measure(classifier, dataset.part("test"))},
    }
    classifier.card.update(plain(card))
    return classifier


@dataclass(frozen=True)
class _Part:
    """Validation passages of one origin with what both would give, shape (n_passages, n_topics)."""

    origin: str
    y_true: np.ndarray
    cheap: np.ndarray
    whole: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def label(
        cls, scorer: CascadeScorer, passages: Sequence[LabelledPassage], origin: str
    ) -> _Part:
        texts, languages, y_true, _ = to_arrays(passages, scorer.base.codebook)
        member = next(m for m in scorer.members if m.name == scorer.first)
        cheap = member.predict_proba(texts, languages)
        whole = scorer.base.predict_proba(texts, languages)
        return cls(origin, y_true, cheap, whole, scorer.base.thresholds)

    def settled(self, width: float) -> np.ndarray:
        return is_settled(self.cheap, low=width, high=1 - width)

    @property
    def best(self) -> float:
        return self._macro_f1(self.whole)

    def reached(self, width: float) -> float:
        return self._macro_f1(np.where(self.settled(width)[:, None], self.cheap, self.whole))

    def _macro_f1(self, y_prob: np.ndarray) -> float:
        return macro_f1(self.y_true, apply_thresholds(y_prob, self.thresholds)) or 0.0
