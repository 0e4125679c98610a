"""Build an ensemble from fitted models: weights, calibration and thresholds on validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relclass.config import AS_READ, ThresholdSettings
from relclass.dataset import Dataset, to_arrays
from relclass.errors import DataError
from relclass.models.base import Classifier
from relclass.models.ensemble import cross_fit_logits, fit_ensemble, member_logits
from relclass.records import LabelledPassage
from relclass.run_folder import plain
from relclass.thresholds import fit_calibration, tune_thresholds
from relclass.training import measure


def build_ensemble(
    members: Sequence[Classifier],
    dataset: Dataset,
    *,
    name: str,
    thresholds: ThresholdSettings | None = None,
) -> Classifier:
    """Weigh models topic by topic on the validation passages, which none was trained on.

    The calibration and the thresholds are fitted on logits of weights that had not seen the
    passage's article, so that they are not flattered; the model then gets weights fitted on all.

    Parameters
    ----------
    members : models over the dataset's topics, with different names; none trained on the
        validation or test passages.
    thresholds : how logits become topics, and the origin of the validation passages used.

    Returns
    -------
    The ensemble, with the members' names and its own figures on its card.

    Raises
    ------
    DataError
        If there are no validation passages of that origin.
    ValueError
        If the members do not fit together, or a topic has no positive validation passage.
    """
    settings = thresholds or ThresholdSettings(origin="real", calibration="none")
    origin = None if settings.origin == "all" else settings.origin
    passages = dataset.part("validation", origin=origin)
    if not passages:
        raise DataError(f"no validation passages of origin {settings.origin!r} to weigh models on")
    texts, languages, y_true, _ = to_arrays(passages, dataset.codebook)
    logits = member_logits(members, texts, languages)
    crossed = cross_fit_logits(members, logits, y_true, number_articles(passages))
    calibration = fit_calibration(y_true, crossed, method=settings.calibration)
    y_prob = calibration.apply(crossed)
    scorer = fit_ensemble(members, logits, y_true)
    classifier = Classifier(
        name=name,
        codebook=dataset.codebook,
        scorer=scorer,
        normalize=AS_READ,
        calibration=calibration,
        thresholds=tune_thresholds(y_true, y_prob, tuning=settings.tuning, fixed=settings.fixed),
    )
    card = {
        "kind": "ensemble",
        "members": {m.name: m.card for m in members},
        "weights": dict(zip((m.name for m in members), scorer.weights.tolist(), strict=True)),
        "data": dict(dataset.checksum),
        "thresholds": settings.model_dump(mode="json"),
        "metrics": {"test": measure(classifier, dataset.part("test"))},
    }
    classifier.card.update(plain(card))
    return classifier


def number_articles(passages: Sequence[LabelledPassage]) -> np.ndarray:
    """Return the number of each passage's article, shape (n_passages,), int64."""
    numbers: dict[str, int] = {}
    ids = (passage.article_id for passage in passages)
    return np.array([numbers.setdefault(name, len(numbers)) for name in ids])
