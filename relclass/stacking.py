"""Build an ensemble from fitted models: weights, calibration and thresholds on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relclass.config import AS_READ, ThresholdSettings
from relclass.dataset import Dataset, to_arrays
from relclass.errors import DataError, ModelError
from relclass.models.base import Classifier
from relclass.models.ensemble import (
    EnsembleScorer,
    cross_fit_logits,
    fit_ensemble,
    member_logits,
)
from relclass.records import LabelledPassage
from relclass.resampling import number
from relclass.run_folder import plain
from relclass.thresholds import Calibration, fit_calibration, tune_thresholds
from relclass.training import measure

N_FOLDS = 5


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
    ModelError
        If a member has other topics than the data, or in another order.
    DataError
        If there are no validation passages of that origin, or too few articles have a topic.
    ValueError
        If two members share a name.
    """
    for member in members:
        check_topics(member, dataset)
    settings = thresholds or ThresholdSettings(origin="real", calibration="none")
    origin = None if settings.origin == "all" else settings.origin
    passages = dataset.part("validation", origin=origin)
    if not passages:
        raise DataError(f"no validation passages of origin {settings.origin!r} to weigh models on")
    texts, languages, y_true, _ = to_arrays(passages, dataset.codebook)
    logits = member_logits(members, texts, languages)
    weighed = weigh_members(
        members, logits, y_true, number_articles(passages), method=settings.calibration
    )
    scorer, calibration, y_prob = weighed.scorer, weighed.calibration, weighed.y_prob
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


@dataclass(frozen=True)
class Weighed:
    """Members put together.

    Parameters
    ----------
    scorer : with weights fitted on all passages.
    calibration : fitted on logits of weights that had not seen the passage's article.
    y_prob : the passages' probabilities by such weights, shape (n_passages, n_topics).
    """

    scorer: EnsembleScorer
    calibration: Calibration
    y_prob: np.ndarray


def check_topics(member: Classifier, dataset: Dataset) -> None:
    """Refuse a model of other topics than the data, or in another order.

    Raises
    ------
    ModelError
        It names both.
    """
    if member.topics != dataset.codebook.names:
        raise ModelError(
            f"{member.name}: the model has the topics {', '.join(member.topics)}, the data "
            f"{', '.join(dataset.codebook.names)}; expected the same in the same order: take "
            "models that were trained with this codebook"
        )


def weigh_members(
    members: Sequence[Classifier],
    logits: np.ndarray,
    y_true: np.ndarray,
    groups: np.ndarray,
    *,
    method: str,
) -> Weighed:
    """Weigh members' logits and calibrate the sum.

    Parameters
    ----------
    logits : shape (n_members, n_passages, n_topics).
    y_true : shape (n_passages, n_topics).
    groups : article of each passage, shape (n_passages,).
    method : of calibration.

    Raises
    ------
    DataError
        If a topic's passages, or those without it, are of fewer than two articles.
    """
    fewest = _count_articles(members[0].topics, y_true, groups)
    # with a topic in few articles, one of few folds may hold them all
    n_folds = N_FOLDS if fewest >= N_FOLDS else len(np.unique(groups))
    crossed = cross_fit_logits(members, logits, y_true, groups, n_folds=n_folds)
    calibration = fit_calibration(y_true, crossed, method=method)
    return Weighed(fit_ensemble(members, logits, y_true), calibration, calibration.apply(crossed))


def _count_articles(topics: Sequence[str], y_true: np.ndarray, groups: np.ndarray) -> int:
    """Count the articles with each topic, and those without it; return the fewest.

    Raises
    ------
    DataError
        If they are fewer than two: weights could not be fitted without one of them.
    """
    counts = {
        (topic, kind): len(np.unique(groups[y_true[:, column] == mark]))
        for column, topic in enumerate(topics)
        for mark, kind in enumerate(("without", "with"))
    }
    (topic, kind), fewest = min(counts.items(), key=lambda item: item[1])
    if fewest < 2:
        raise DataError(
            f"topic {topic!r}: the validation passages {kind} it are of {fewest} articles, but "
            "expected two or more to weigh models on; label more"
        )
    return fewest


def number_articles(passages: Sequence[LabelledPassage]) -> np.ndarray:
    """Return the number of each passage's article, shape (n_passages,), int64."""
    return number([passage.article_id for passage in passages])
