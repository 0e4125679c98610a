"""Metrics over many resamples of articles at once: what intervals and tests are made of.

Passages of one article are not independent, so articles are drawn, never passages: the cluster
bootstrap (Field and Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x). Drawing an
article k times is the same as weighting its passages by k; the metrics below take such weights
for all resamples together, so that a thousand of them are a few matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from relclass.metrics import N_BINS, bin_numbers

CELLS = 4_000_000
"""Weights held at once, resamples times passages: 32 MB an array."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """Metrics of each resample, named as in `metrics.Summary`; NaN where undefined.

    A macro figure is NaN too in a resample that lacks one of the topics it is a mean of.

    Parameters
    ----------
    overall : name to shape (n_resamples,).
    by_topic : name to shape (n_resamples, n_topics).
    """

    overall: dict[str, np.ndarray]
    by_topic: dict[str, np.ndarray]


@dataclass(frozen=True)
class Labelling:
    """Gold topics and one model's on the same passages, with the article of each passage.

    Parameters
    ----------
    y_true, y_pred, y_prob : shape (n_passages, n_topics).
    groups : shape (n_passages,), the article's number, from 0 without gaps.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    y_prob: np.ndarray
    groups: np.ndarray
    n_groups: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_groups", int(self.groups.max()) + 1 if len(self.groups) else 0)

    def select(self, mask: np.ndarray) -> Labelling:
        """Keep the passages marked in `mask`, articles numbered anew."""
        return Labelling(
            self.y_true[mask], self.y_pred[mask], self.y_prob[mask], number(self.groups[mask])
        )


def number(keys: Sequence[object] | np.ndarray) -> np.ndarray:
    """Give equal keys one number, from 0 in order of first appearance; shape (n_keys,), int64."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def draw_articles(n_groups: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw as many articles as there are, with replacement.

    Returns
    -------
    How often each article was drawn, shape (n_resamples, n_groups), int64.
    """
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)


def resample(
    labelling: Labelling, *, n_resamples: int = 1000, seed: int = 0, ranked: bool = True
) -> Resampled:
    """Compute every metric on bootstrap resamples of the articles.

    Parameters
    ----------
    n_resamples : how many.
    seed : of the draws.
    ranked : whether average precision, the slowest, is wanted too.
    """
    rng = np.random.default_rng(seed)
    sums = GroupSums(labelling)
    chunk = max(1, CELLS // max(1, len(labelling.groups), labelling.n_groups))
    parts = []
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        weights = draw_articles(labelling.n_groups, size, rng).astype(np.float64)
        parts.append(weighted_metrics(sums, weights, ranked=ranked))
    return Resampled(
        overall={k: np.concatenate([p.overall[k] for p in parts]) for k in parts[0].overall},
        by_topic={k: np.concatenate([p.by_topic[k] for p in parts]) for k in parts[0].by_topic},
    )


class GroupSums:
    """A labelling summed by article, from which the weighted metrics are had.

    Attributes
    ----------
    labelling : what was summed.
    columns : shape (n_groups, 2 + n_topics * (5 + N_BINS)): passages, passages with exactly the
        right topics; then for each topic true positives, false positives, false negatives, true
        negatives, squared error of the probability, and by bin the probability less the truth.
    """

    def __init__(self, labelling: Labelling) -> None:
        self.labelling = labelling
        true, pred = labelling.y_true.astype(bool), labelling.y_pred.astype(bool)
        gap = labelling.y_prob.astype(np.float64) - labelling.y_true
        bins = bin_numbers(labelling.y_prob)
        n_passages, n_topics = true.shape
        in_bin = np.zeros((n_passages, n_topics, N_BINS))
        rows, topics = np.ogrid[:n_passages, :n_topics]
        in_bin[rows, topics, bins] = gap
        cells = np.stack([true & pred, ~true & pred, true & ~pred, ~true & ~pred, gap**2], axis=2)
        by_topic = np.concatenate([cells, in_bin], axis=2).reshape(n_passages, -1)
        exact = (true == pred).all(axis=1)
        by_passage = np.column_stack([np.ones(n_passages), exact, by_topic])
        self.columns = np.zeros((labelling.n_groups, by_passage.shape[1]))
        np.add.at(self.columns, labelling.groups, by_passage)


def weighted_metrics(sums: GroupSums, weights: np.ndarray, *, ranked: bool = True) -> Resampled:
    """Compute every metric for each row of article weights.

    Parameters
    ----------
    weights : shape (n_resamples, n_groups), how often each article counts.
    ranked : whether average precision is wanted too.
    """
    labelling = sums.labelling
    n_topics = labelling.y_true.shape[1]
    totals = weights @ sums.columns  # (n_resamples, n_columns)
    n, exact = totals[:, 0], totals[:, 1]
    by_topic = totals[:, 2:].reshape(len(weights), n_topics, 5 + N_BINS)
    tp, fp, fn, tn, squared = (by_topic[:, :, k] for k in range(5))
    figures = dict(zip(("precision", "recall", "f1"), _prf(tp, fp, fn), strict=True))
    figures["specificity"] = _ratio(tn, tn + fp)
    figures["brier"] = _ratio(squared, n[:, None])
    figures["ece"] = _ratio(np.abs(by_topic[:, :, 5:]).sum(axis=2), n[:, None])
    if ranked:
        figures["average_precision"] = np.column_stack([
            _average_precision(labelling, topic, weights) for topic in range(n_topics)
        ])  # fmt: skip
    micro = _prf(tp.sum(axis=1), fp.sum(axis=1), fn.sum(axis=1))
    is_never_given = (tp + fn > 0) & (tp + fp == 0)
    averaged = {"precision": np.where(is_never_given, 0.0, figures["precision"])}
    averaged |= {k: figures[k] for k in ("recall", "f1", "average_precision") if k in figures}
    has_positive = labelling.y_true.any(axis=0)
    overall = {
        "subset_accuracy": _ratio(exact, n),
        "hamming_loss": _ratio((fp + fn).sum(axis=1), n * n_topics),
        "brier": figures["brier"].mean(axis=1),
        "ece": figures["ece"].mean(axis=1),
    }
    overall.update(
        zip(("micro_precision", "micro_recall", "micro_f1"), micro, strict=True),
    )
    for name, values in averaged.items():
        overall[f"macro_{name}"] = _mean(values[:, has_positive])
    return Resampled(overall=overall, by_topic=figures)


def percentile_interval(
    samples: np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Cut off both tails of resampled figures (Efron 1979, percentile method).

    Returns
    -------
    The lower and the upper bound; None where fewer than half of the resamples have the figure.
    """
    defined = samples[~np.isnan(samples)]
    if 2 * len(defined) <= len(samples):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _prf(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give precision, recall and F1, NaN where there is no positive."""
    has_positive = tp + fn > 0
    precision = np.where(has_positive, _ratio(tp, tp + fp), np.nan)
    return (
        precision,
        _ratio(tp, tp + fn),
        np.where(has_positive, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
    )


def _average_precision(labelling: Labelling, topic: int, weights: np.ndarray) -> np.ndarray:
    """Give one topic's average precision for each row of weights, shape (n_resamples,).

    Ranked passages are cut into steps, each ending where the probability changes after a
    positive; passages are summed by step and article first, so that a resample costs one sparse
    product.
    """
    from scipy.sparse import csr_array

    y_prob, y_true = labelling.y_prob[:, topic], labelling.y_true[:, topic]
    order = np.argsort(-y_prob, kind="stable")
    ranked, groups = y_true[order].astype(np.float64), labelling.groups[order]
    ends_tie = np.append(np.diff(y_prob[order]) != 0, True)
    tie = np.append(0, np.cumsum(ends_tie)[:-1])
    ends_step = ends_tie & (np.bincount(tie, weights=ranked)[tie] > 0)
    step = np.append(0, np.cumsum(ends_step)[:-1])
    shape = (int(step[-1]) + 1, labelling.n_groups)
    given = csr_array((np.ones(len(step)), (step, groups)), shape=shape) @ weights.T
    gained = csr_array((ranked, (step, groups)), shape=shape) @ weights.T
    given, found = np.cumsum(given, axis=0), np.cumsum(gained, axis=0)  # (n_steps, n_resamples)
    precision = np.divide(found, given, out=np.zeros_like(found), where=given > 0)
    return _ratio((gained * precision).sum(axis=0), found[-1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(figures: np.ndarray) -> np.ndarray:
    """Average over the topics that the labelling has, shape (n_resamples,).

    NaN in a resample that lacks one of them: a mean over fewer topics is another figure.
    """
    return figures.mean(axis=1) if figures.shape[1] else np.full(len(figures), np.nan)
