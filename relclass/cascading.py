"""Build a cascade from an ensemble: how sure its first member must be, chosen on validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relclass.calibration import Calibration
from relclass.config import NormalizeSettings
from relclass.dataset import Dataset, to_arrays
from relclass.errors import DataError, ModelError
from relclass.metrics import macro_f1
from relclass.models.base import Classifier
from relclass.models.cascade import CascadeScorer, is_settled
from relclass.run_folder import plain
from relclass.thresholds import apply_thresholds
from relclass.training import measure

WIDTHS = (0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01)
"""How far from 0 or 1 a probability may lie and still settle a topic; the widest first."""
_AS_READ = NormalizeSettings(letters=False, spaces=False)


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
    max_loss : macro-F1 on real validation passages that may be lost, in [0, 1].
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
    passages = dataset.part("validation", origin="real")
    if not passages:
        raise DataError("no real validation passages to choose the bounds on")
    texts, languages, y_true, _ = to_arrays(passages, dataset.codebook)
    scorer = CascadeScorer(base, first, low=0.0, high=1.0, by_name=by_name)
    whole = base.predict_proba(texts, languages)
    member = next(m for m in scorer.members if m.name == first)
    cheap = member.predict_proba(texts, languages)
    goal = _macro_f1(y_true, whole, base.thresholds) - max_loss
    for width in WIDTHS:
        settled = is_settled(cheap, low=width, high=1 - width)
        mixed = np.where(settled[:, None], cheap, whole)
        reached = _macro_f1(y_true, mixed, base.thresholds)
        if reached >= goal:
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
        normalize=_AS_READ,
        calibration=Calibration("none"),
        thresholds=base.thresholds,
    )
    card = {
        "kind": "cascade",
        "base": base.name,
        "validation": {
            "macro_f1": reached,
            "macro_f1_of_base": goal + max_loss,
            "share_settled": float(settled.mean()),
        },
        "data": dict(dataset.checksum),
        "metrics": {split: measure(classifier, dataset.part(split)) for split in ("test",)},
    }
    classifier.card.update(plain(card))
    return classifier


def _macro_f1(y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray) -> float:
    figure = macro_f1(y_true, apply_thresholds(y_prob, thresholds))
    return 0.0 if figure is None else figure
