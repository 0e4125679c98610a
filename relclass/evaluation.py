"""Gold + predictions -> Evaluation: figures with intervals, whole and by slice. Sees no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from relclass import metrics
from relclass.codebook import Codebook
from relclass.error_analysis import Mistake, TermWeight, find_mistakes, topic_confusion
from relclass.errors import DataError
from relclass.metrics import CurvePoint, ReliabilityBin
from relclass.records import LabelledPassage
from relclass.resampling import Labelling, Resampled, number, percentile_interval, resample
from relclass.slices import cut_slices

FORMAT_VERSION = 1
MIN_ARTICLES = 5
"""Fewer articles give no interval: so few cannot stand for the rest, however drawn. So with
fewer articles that have a topic, for the figures that speak of its positives."""
_OF_POSITIVES = ("precision", "recall", "f1", "average_precision")
_WITHOUT_INTERVAL = ("ece",)
"""Resampling adds noise, which adds to the calibration error: its percentiles lie too high."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval.

    Parameters
    ----------
    value : None where the data do not define it, such as the recall of a topic without a
        positive passage.
    low, high : bounds of the interval; None where there are fewer than MIN_ARTICLES articles (or
        such with the topic), too few resamples have the figure, or percentiles would mislead.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of one set of passages.

    Parameters
    ----------
    n_positive : topic to passages that have it in gold.
    n_predicted : topic to passages that were given it.
    overall : name in metrics.OVERALL_METRICS to its estimate. Macro figures are means over the
        topics that have a positive passage; one that was never given counts as 0 in
        macro-precision.
    by_topic : topic to name in metrics.TOPIC_METRICS to its estimate. Sensitivity is the recall.
    """

    n_passages: int
    n_articles: int
    n_positive: Mapping[str, int]
    n_predicted: Mapping[str, int]
    overall: Mapping[str, Estimate]
    by_topic: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True)
class Slice:
    """Passages that share something, such as language "ar", and their scores."""

    dimension: str
    name: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn: topic to points.

    Parameters
    ----------
    precision_recall : precision over recall; no points for a topic without a positive passage.
    reliability : bins of the probability.
    abstention : error over coverage, over all topics together.
    """

    precision_recall: Mapping[str, tuple[CurvePoint, ...]]
    reliability: Mapping[str, tuple[ReliabilityBin, ...]]
    abstention: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: articles drawn with replacement, percentiles of the figures.

    Parameters
    ----------
    n_resamples : 0 gives no intervals.
    confidence : share of the resamples inside the interval.
    """

    n_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_resamples < 0 or not 0 < self.confidence < 1:
            raise ValueError(
                f"Got n_resamples={self.n_resamples}, confidence={self.confidence} but expected "
                "0 or more resamples and a confidence in (0, 1)."
            )


DEFAULT_BOOTSTRAP = Bootstrap()


@dataclass(frozen=True)
class Evaluation:
    """How well one model does on one set of labelled passages.

    Parameters
    ----------
    model, data : their names.
    topics : in codebook order, with the codebook's version.
    confusion : as `topic_confusion` gives it; topics and then "none".
    mistakes : the most confident ones, with their texts; empty where none were asked for.
    terms : topic to the terms that speak for it, of a linear model; else empty.
    """

    model: str
    data: str
    codebook_version: str
    topics: tuple[str, ...]
    bootstrap: Bootstrap
    overall: Scores
    slices: tuple[Slice, ...]
    curves: Curves
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...] = ()
    terms: Mapping[str, tuple[TermWeight, ...]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Write everything as JSON; undefined figures are null."""
        # not dump_json, which refuses the lone surrogate that a text may hold
        content = _adapter().dump_python(self, mode="json")
        return json.dumps(content, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str, *, where: str = "evaluation") -> Evaluation:
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            If it is not an evaluation, or one of a newer format.
        """
        from pydantic import ValidationError

        version = _format_version(text)
        if version > FORMAT_VERSION:
            raise DataError(
                f"{where}: format version {version} is newer than this relclass knows "
                f"({FORMAT_VERSION}); update relclass"
            )
        try:
            evaluation: Evaluation = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataError(
                f"{where}: not an evaluation as `relclass evaluate` writes it: "
                f"{place + ': ' if place else ''}{first['msg']}"
            ) from error
        return evaluation


def read_evaluation(path: str | Path) -> Evaluation:
    """Read an evaluation from a JSON file.

    Raises
    ------
    DataError
        If the file cannot be read or is not an evaluation.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the evaluation: {error}") from error
    return Evaluation.from_json(text, where=str(path))


@dataclass(frozen=True, slots=True)
class Named:
    """What an evaluation is called: the model and the data."""

    model: str = "unnamed"
    data: str = "unnamed"


UNNAMED = Named()


def evaluate(
    gold: Sequence[LabelledPassage],
    y_prob: np.ndarray,
    y_pred: np.ndarray,
    codebook: Codebook,
    *,
    names: Named = UNNAMED,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> Evaluation:
    """Score predictions against gold topics.

    Parameters
    ----------
    gold : the labelled passages, in the order of the rows.
    y_prob : shape (n_passages, n_topics), in [0, 1].
    y_pred : shape (n_passages, n_topics), 0 or 1.
    codebook : its topics are the columns.
    names : what the model and the data are called.
    bootstrap : how intervals are made.

    Raises
    ------
    ValueError
        If there is no passage, the shapes disagree, or a value is out of range.
    DataError
        If a gold topic is not in the codebook.
    """
    labelling = build_labelling(gold, y_prob, y_pred, codebook)
    topics = codebook.names
    slices = tuple(
        Slice(dimension, name, score(labelling.select(mask), topics, bootstrap))
        for dimension, name, mask in cut_slices(gold)
    )
    return Evaluation(
        model=names.model,
        data=names.data,
        codebook_version=codebook.version,
        topics=topics,
        bootstrap=bootstrap,
        overall=score(labelling, topics, bootstrap),
        slices=slices,
        curves=_draw_curves(labelling, topics),
        confusion=tuple(
            tuple(int(n) for n in row)
            for row in topic_confusion(labelling.y_true, labelling.y_pred)
        ),
    )


def build_labelling(
    gold: Sequence[LabelledPassage], y_prob: np.ndarray, y_pred: np.ndarray, codebook: Codebook
) -> Labelling:
    """Check gold and predictions once, and lay them side by side.

    Raises
    ------
    ValueError
        If there is no passage, the shapes disagree, or a value is out of range.
    DataError
        If a gold topic is not in the codebook.
    """
    if not gold:
        raise ValueError("Got no passages but expected at least one to score.")
    for passage in gold:
        codebook.check(passage.topics, where=f"gold passage {passage.passage_id!r}")
    y_true = np.array(
        [[name in passage.topics for name in codebook.names] for passage in gold], dtype=np.uint8
    )
    metrics.check_arrays(y_true, y_pred, y_prob)
    groups = number([passage.article_id for passage in gold])
    return Labelling(y_true, np.asarray(y_pred), np.asarray(y_prob), groups)


def score(labelling: Labelling, topics: Sequence[str], bootstrap: Bootstrap) -> Scores:
    """Compute every figure of one set of passages, with its interval.

    Parameters
    ----------
    topics : names of the columns.
    bootstrap : how intervals are made; a set of few articles gets none.
    """
    summary = metrics.summarise(labelling.y_true, labelling.y_pred, labelling.y_prob)
    samples: Resampled | None = None
    if bootstrap.n_resamples and labelling.n_groups >= MIN_ARTICLES:
        samples = resample(labelling, n_resamples=bootstrap.n_resamples, seed=bootstrap.seed)
    by_topic: dict[str, dict[str, Estimate]] = {}
    for column, topic in enumerate(topics):
        positive = labelling.groups[labelling.y_true[:, column] == 1]
        has_few = len(np.unique(positive)) < MIN_ARTICLES
        by_topic[topic] = {}
        for name in metrics.TOPIC_METRICS:
            drawn = samples.by_topic[name][:, column] if samples else None
            if has_few and name in _OF_POSITIVES:
                drawn = None
            value = float(summary.by_topic[name][column])
            by_topic[topic][name] = _estimate(name, value, drawn, bootstrap)
    return Scores(
        n_passages=len(labelling.y_true),
        n_articles=labelling.n_groups,
        n_positive=_count(labelling.y_true, topics),
        n_predicted=_count(labelling.y_pred, topics),
        overall={
            name: _estimate(
                name, summary.overall[name], samples.overall[name] if samples else None, bootstrap
            )
            for name in metrics.OVERALL_METRICS
        },
        by_topic=by_topic,
    )


def _estimate(name: str, value: float, drawn: np.ndarray | None, bootstrap: Bootstrap) -> Estimate:
    if np.isnan(value):
        return Estimate(None)
    if drawn is None or name in _WITHOUT_INTERVAL:
        return Estimate(value)
    return Estimate(
        value, *(percentile_interval(drawn, confidence=bootstrap.confidence) or (None, None))
    )


def with_mistakes(
    evaluation: Evaluation,
    gold: Sequence[LabelledPassage],
    y_prob: np.ndarray,
    y_pred: np.ndarray,
    *,
    n_mistakes: int = 40,
) -> Evaluation:
    """Add the most confident mistakes, texts and all, to an evaluation of the same arrays."""
    mistakes = find_mistakes(gold, y_pred, y_prob, evaluation.topics, n_mistakes=n_mistakes)
    return replace(evaluation, mistakes=tuple(mistakes))


def _count(marks: np.ndarray, topics: Sequence[str]) -> dict[str, int]:
    return {topic: int(n) for topic, n in zip(topics, marks.sum(axis=0), strict=True)}


def _draw_curves(labelling: Labelling, topics: Sequence[str]) -> Curves:
    y_true, y_prob = labelling.y_true, labelling.y_prob
    return Curves(
        precision_recall={
            topic: metrics.precision_recall_points(y_true[:, column], y_prob[:, column])
            for column, topic in enumerate(topics)
        },
        reliability={
            topic: metrics.reliability_curve(y_true[:, column], y_prob[:, column])
            for column, topic in enumerate(topics)
        },
        abstention=metrics.abstention_curve(y_true, labelling.y_pred, y_prob),
    )


def _format_version(text: str) -> int:
    """Read the version by itself: a newer format need not have the fields of this one."""
    try:
        version = json.loads(text).get("format_version")
    except (ValueError, AttributeError):
        version = None  # not JSON, or not an object: what is wrong is said by who reads it whole
    return version if isinstance(version, int) else FORMAT_VERSION


@lru_cache(maxsize=1)
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Evaluation)
