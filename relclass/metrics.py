"""Arrays -> numbers: how good topics and probabilities are.

Everything comes from scikit-learn where it has it. A figure that the data cannot give is NaN in
an array over topics and None as a single number, never 0: a topic without a positive passage has
no precision, recall, F1 or average precision. Macro figures are means over the topics that have
one; a topic that was never given counts as 0 in macro-precision.

Arrays are as everywhere: `y_true` and `y_pred` multi-hot, `y_prob` in [0, 1], each of shape
(n_passages, n_topics) in codebook order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

N_BINS = 10
"""Bins of equal width for calibration (Naeini et al. 2015, AAAI, has 10)."""

TOPIC_METRICS = (
    "precision", "recall", "f1", "average_precision", "specificity", "brier", "ece",
)  # fmt: skip
OVERALL_METRICS = (
    "macro_f1", "macro_precision", "macro_recall", "macro_average_precision",
    "micro_f1", "micro_precision", "micro_recall",
    "subset_accuracy", "hamming_loss", "brier", "ece",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Summary:
    """Every figure of one set of passages.

    Parameters
    ----------
    overall : name in OVERALL_METRICS to a float, NaN where undefined.
    by_topic : name in TOPIC_METRICS to shape (n_topics,), NaN where undefined.
    """

    overall: Mapping[str, float]
    by_topic: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The passages whose probability of a topic falls in one bin.

    Parameters
    ----------
    low, high : the bin's edges; it is half-open, the last one closed.
    n_passages : how many fell in it.
    mean_probability, share_positive : None where it is empty.
    """

    low: float
    high: float
    n_passages: int
    mean_probability: float | None
    share_positive: float | None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a curve and the threshold that gives it."""

    x: float
    y: float
    threshold: float


def summarise(y_true: np.ndarray, y_pred: np.ndarray, y_prob: np.ndarray) -> Summary:
    """Compute every metric of this module that is one number, overall and by topic.

    Raises
    ------
    ValueError
        If the arrays' shapes differ, or a probability is not in [0, 1].
    """
    check_arrays(y_true, y_pred, y_prob)
    precision, recall, f1 = precision_recall_f1(y_true, y_pred)
    by_topic = {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "average_precision": average_precision(y_true, y_prob),
        "specificity": specificity(y_true, y_pred),
        "brier": brier_score(y_true, y_prob),
        "ece": expected_calibration_error(y_true, y_prob),
    }
    micro = precision_recall_f1(y_true.reshape(-1, 1), y_pred.reshape(-1, 1))
    overall = {
        "macro_f1": _mean(f1),
        "macro_precision": _mean(np.where(np.isnan(recall), np.nan, np.nan_to_num(precision))),
        "macro_recall": _mean(recall),
        "macro_average_precision": _mean(by_topic["average_precision"]),
        "micro_precision": float(micro[0][0]),
        "micro_recall": float(micro[1][0]),
        "micro_f1": float(micro[2][0]),
        "subset_accuracy": _or_nan(subset_accuracy(y_true, y_pred)),
        "hamming_loss": _or_nan(hamming_loss(y_true, y_pred)),
        "brier": _mean(by_topic["brier"]),
        "ece": _mean(by_topic["ece"]),
    }
    return Summary(overall=overall, by_topic=by_topic)


def check_arrays(y_true: np.ndarray, y_pred: np.ndarray, y_prob: np.ndarray) -> None:
    """Refuse arrays that cannot belong together.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional, a topic mark is not 0 or 1, or a
        probability is not in [0, 1].
    """
    shapes = [np.shape(array) for array in (y_true, y_pred, y_prob)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"Got y_true, y_pred, y_prob of shapes {shapes[0]}, {shapes[1]}, {shapes[2]} but "
            "expected one shape (n_passages, n_topics)."
        )
    for name, array in (("y_true", y_true), ("y_pred", y_pred)):
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"Got {name} with values other than 0 and 1; expected marks.")
    if np.isnan(y_prob).any():
        raise ValueError("Got y_prob with NaN but expected probabilities.")
    if not ((y_prob >= 0) & (y_prob <= 1)).all():
        raise ValueError("Got y_prob outside [0, 1] but expected probabilities, not logits.")


def precision_recall_f1(
    y_true: np.ndarray, y_pred: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give each topic's precision, recall and F1.

    Returns
    -------
    Three arrays of shape (n_topics,), NaN for a topic with no positive passage; precision is
    also NaN where nothing was given the topic.
    """
    from sklearn.metrics import precision_recall_fscore_support

    figures = np.full((3, y_true.shape[1]), np.nan)
    for topic in np.flatnonzero(y_true.any(axis=0)):
        figures[:, topic] = precision_recall_fscore_support(
            y_true[:, topic], y_pred[:, topic], average="binary", zero_division=np.nan
        )[:3]
    return figures[0], figures[1], figures[2]


def macro_f1(y_true: np.ndarray, y_pred: np.ndarray) -> float | None:
    """Average F1 over the topics that have a positive passage; None if none has."""
    return _or_none(_mean(precision_recall_f1(y_true, y_pred)[2]))


def micro_f1(y_true: np.ndarray, y_pred: np.ndarray) -> float | None:
    """Give F1 over all topic marks together; None if no passage has a topic."""
    return macro_f1(y_true.reshape(-1, 1), y_pred.reshape(-1, 1))


def specificity(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Give the share of passages without a topic that were not given it.

    Returns
    -------
    Shape (n_topics,), NaN where every passage has the topic. Sensitivity is the recall.
    """
    from sklearn.metrics import recall_score

    figures = np.full(y_true.shape[1], np.nan)
    for topic in np.flatnonzero((y_true == 0).any(axis=0)):
        figures[topic] = recall_score(y_true[:, topic], y_pred[:, topic], pos_label=0)
    return figures


def average_precision(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """Give each topic's average precision: the area under its precision-recall steps.

    Returns
    -------
    Shape (n_topics,), NaN for a topic with no positive passage.
    """
    from sklearn.metrics import average_precision_score

    figures = np.full(y_true.shape[1], np.nan)
    for topic in np.flatnonzero(y_true.any(axis=0)):
        figures[topic] = average_precision_score(y_true[:, topic], y_prob[:, topic])
    return figures


def subset_accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float | None:
    """Give the share of passages with exactly the right topics; None without passages."""
    return float((y_true == y_pred).all(axis=1).mean()) if len(y_true) else None


def hamming_loss(y_true: np.ndarray, y_pred: np.ndarray) -> float | None:
    """Give the share of topic marks that are wrong; None without passages."""
    from sklearn.metrics import hamming_loss as loss

    return float(loss(y_true.ravel(), y_pred.ravel())) if y_true.size else None


def brier_score(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """Give each topic's mean squared error of the probability (Brier 1950).

    Returns
    -------
    Shape (n_topics,), in [0, 1], NaN without passages.
    """
    if not len(y_true):
        return np.full(y_true.shape[1], np.nan)
    squared = (y_prob.astype(np.float64) - y_true) ** 2
    return np.asarray(squared.mean(axis=0))


def bin_numbers(y_prob: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Return the number of each probability's bin of equal width, from 0; 1.0 is in the last."""
    return np.minimum((y_prob * n_bins).astype(np.int64), n_bins - 1)


def expected_calibration_error(
    y_true: np.ndarray, y_prob: np.ndarray, *, n_bins: int = N_BINS
) -> np.ndarray:
    """Give how far each topic's probabilities are from the shares that come true.

    The mean over bins, weighted by passages, of |mean probability - share positive|
    (Naeini, Cooper and Hauskrecht 2015, https://doi.org/10.1609/aaai.v29i1.9602), for each
    topic as a yes-or-no question.

    Returns
    -------
    Shape (n_topics,), in [0, 1], NaN without passages.
    """
    if not len(y_true):
        return np.full(y_true.shape[1], np.nan)
    bins = bin_numbers(y_prob, n_bins)
    gap = y_prob.astype(np.float64) - y_true
    sums = [
        np.bincount(bins[:, topic], weights=gap[:, topic], minlength=n_bins)
        for topic in range(y_true.shape[1])
    ]
    return np.asarray(np.abs(sums).sum(axis=1) / len(y_true))


def reliability_curve(
    y_true: np.ndarray, y_prob: np.ndarray, *, n_bins: int = N_BINS
) -> tuple[ReliabilityBin, ...]:
    """Bin one topic's probabilities; parameters of shape (n_passages,).

    Returns
    -------
    One bin for each of the `n_bins` intervals, empty ones too.
    """
    bins = bin_numbers(y_prob, n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    probability = np.bincount(bins, weights=y_prob, minlength=n_bins)
    positive = np.bincount(bins, weights=y_true, minlength=n_bins)
    return tuple(
        ReliabilityBin(
            low=k / n_bins,
            high=(k + 1) / n_bins,
            n_passages=int(counts[k]),
            mean_probability=float(probability[k] / counts[k]) if counts[k] else None,
            share_positive=float(positive[k] / counts[k]) if counts[k] else None,
        )
        for k in range(n_bins)
    )


def precision_recall_points(
    y_true: np.ndarray, y_prob: np.ndarray, *, max_points: int = 200
) -> tuple[CurvePoint, ...]:
    """Trace one topic's precision (y) over recall (x); parameters of shape (n_passages,).

    Returns
    -------
    At most `max_points` points, recall ascending; empty for a topic with no positive passage.
    """
    from sklearn.metrics import precision_recall_curve

    if not y_true.any():
        return ()
    precision, recall, thresholds = precision_recall_curve(y_true, y_prob, drop_intermediate=True)
    keep = np.unique(np.linspace(0, len(thresholds) - 1, max_points).round().astype(int))[::-1]
    return tuple(
        CurvePoint(x=float(recall[k]), y=float(precision[k]), threshold=float(thresholds[k]))
        for k in keep
    )


def infer_thresholds(y_prob: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Find where each topic's marks begin: between its highest blank and lowest mark.

    Returns
    -------
    Shape (n_topics,), in (0, 1); 0.5 for a topic whose marks do not tell (none or all given, or
    marks that do not follow the probability).
    """
    marks = y_pred.astype(bool)
    lowest = np.min(y_prob, axis=0, where=marks, initial=np.inf)
    highest = np.max(y_prob, axis=0, where=~marks, initial=-np.inf)
    is_known = np.isfinite(lowest) & np.isfinite(highest) & (lowest >= highest)
    middle = np.where(is_known, (np.where(is_known, lowest + highest, 1)) / 2, 0.5)
    return np.asarray(np.clip(middle, 1e-6, 1 - 1e-6))


def decision_confidence(y_prob: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Say how far each passage's least certain topic is from its threshold.

    Returns
    -------
    Shape (n_passages,), in [0, 1]: 0 on the threshold, 1 where every probability is 0 or 1.
    """
    above = (y_prob - thresholds) / (1 - thresholds)
    below = (thresholds - y_prob) / thresholds
    return np.asarray(np.where(y_prob >= thresholds, above, below).min(axis=1))


def abstention_curve(
    y_true: np.ndarray, y_pred: np.ndarray, y_prob: np.ndarray, *, max_points: int = 100
) -> tuple[CurvePoint, ...]:
    """Trace the error (y) over the coverage (x) when doubtful passages are left unlabelled.

    The risk-coverage curve (El-Yaniv and Wiener 2010, https://jmlr.org/papers/v11/el-yaniv10a):
    passages are answered in order of `decision_confidence`; the error is the share of answered
    ones with any topic wrong.

    Returns
    -------
    At most `max_points` points, coverage ascending to 1, with the confidence of the last passage
    answered as the threshold. Passages of equal confidence are answered together.
    """
    if not len(y_true):
        return ()
    confidence = decision_confidence(y_prob, infer_thresholds(y_prob, y_pred))
    order = np.argsort(-confidence, kind="stable")
    is_wrong = (y_true != y_pred).any(axis=1)[order]
    error = np.cumsum(is_wrong) / np.arange(1, len(order) + 1)
    ordered = confidence[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    keep = ends[np.unique(np.linspace(0, len(ends) - 1, max_points).round().astype(int))]
    return tuple(
        CurvePoint(x=float((k + 1) / len(order)), y=float(error[k]), threshold=float(ordered[k]))
        for k in keep
    )


def error_at_coverage(points: Sequence[CurvePoint], coverage: float) -> float | None:
    """Read off the abstention curve the error when at least this share is answered.

    Parameters
    ----------
    points : from `abstention_curve`.
    coverage : share of the passages, in [0, 1].

    Returns
    -------
    The share of answered passages with any topic wrong; None without passages.
    """
    return next((point.y for point in points if point.x >= coverage), None)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
