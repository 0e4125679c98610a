"""Two or more models on the same passages -> which is better, by how much, and is it noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import DataError
from relclass.evaluation import DEFAULT_BOOTSTRAP, Bootstrap, Estimate, build_labelling
from relclass.metrics import OVERALL_METRICS
from relclass.records import LabelledPassage
from relclass.resampling import (
    CELLS,
    GroupSums,
    Labelling,
    draw_articles,
    percentile_interval,
    weighted_metrics,
)

METRICS = (
    "macro_f1", "micro_f1", "macro_average_precision", "subset_accuracy", "brier",
)  # fmt: skip
"""Compared unless others are named."""
LOWER_IS_BETTER = ("hamming_loss", "brier", "ece")
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two models.

    Parameters
    ----------
    first, second : names of the models.
    first_value, second_value : the metric of each; None where undefined.
    difference : second less first, with the interval of the paired bootstrap.
    p_value : of the approximate randomisation test, two-sided; None where undefined.
    p_adjusted : by Holm over the pairs compared on this metric.
    verdict : "first" or "second" where that one is better: p_adjusted is below ALPHA, and the
        interval, if there is one, leaves out 0; else "within noise" or "undefined".
    """

    metric: str
    first: str
    second: str
    first_value: float | None
    second_value: float | None
    difference: Estimate
    p_value: float | None
    p_adjusted: float | None = None
    verdict: str = "undefined"

    def __str__(self) -> str:
        if self.verdict == "undefined":
            return f"{self.metric}: undefined on these passages"
        figures = f"{self.difference}, p = {self.p_adjusted:.3f}"
        if self.verdict == "within noise":
            return f"{self.metric}: {self.second} less {self.first} {figures}: within noise"
        better = self.first if self.verdict == "first" else self.second
        return f"{self.metric}: {self.second} less {self.first} {figures}: {better} is better"


@dataclass(frozen=True)
class Comparison:
    """Every pair of models on every metric.

    Parameters
    ----------
    models : in the order given.
    n_shuffles : of the randomisation test.
    differences : metric by metric, pair by pair.
    """

    data: str
    models: tuple[str, ...]
    n_passages: int
    n_articles: int
    bootstrap: Bootstrap
    n_shuffles: int
    differences: tuple[Difference, ...]

    def to_json(self) -> str:
        """Write everything as JSON; undefined figures are null."""
        text: str = _adapter().dump_json(self, indent=1).decode()
        return text

    @classmethod
    def from_json(cls, text: str, *, where: str = "comparison") -> Comparison:
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            If it is not a comparison.
        """
        from pydantic import ValidationError

        try:
            comparison: Comparison = _adapter().validate_json(text)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise DataError(f"{where}: not a comparison: {message}") from error
        return comparison


@dataclass(frozen=True, slots=True)
class Predicted:
    """One model's output on the gold passages: arrays of shape (n_passages, n_topics)."""

    y_prob: np.ndarray
    y_pred: np.ndarray


def compare(
    gold: Sequence[LabelledPassage],
    models: Mapping[str, Predicted],
    codebook: Codebook,
    *,
    metrics: Sequence[str] = METRICS,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    n_shuffles: int = 2000,
) -> Comparison:
    """Compare models pairwise on the same passages.

    Parameters
    ----------
    gold : the labelled passages, in the order of the rows.
    models : name to output, two or more.
    metrics : names in metrics.OVERALL_METRICS.
    bootstrap : how the intervals are made.
    n_shuffles : of the randomisation test; the smallest p-value is 1 / (n_shuffles + 1).

    Raises
    ------
    ValueError
        If there are fewer than two models or fewer than two articles, or a metric is unknown.
    """
    if len(models) < 2:
        raise ValueError(f"Got {len(models)} models but expected two or more to compare.")
    for metric in metrics:
        if metric not in OVERALL_METRICS:
            raise ValueError(f"Got metric={metric!r} but expected {', '.join(OVERALL_METRICS)}.")
    labellings = {
        name: build_labelling(gold, output.y_prob, output.y_pred, codebook)
        for name, output in models.items()
    }
    n_articles = next(iter(labellings.values())).n_groups
    if n_articles < 2:
        raise ValueError("Got passages of one article but expected several: articles are drawn.")
    differences: list[Difference] = []
    for first, second in combinations(labellings, 2):
        pair = _Pair(labellings[first], labellings[second])
        differences += [
            replace(difference, first=first, second=second)
            for difference in _compare_pair(pair, metrics, bootstrap, n_shuffles)
        ]
    return Comparison(
        data="unnamed",
        models=tuple(models),
        n_passages=len(gold),
        n_articles=n_articles,
        bootstrap=bootstrap,
        n_shuffles=n_shuffles,
        differences=tuple(d for metric in metrics for d in _adjust(differences, metric)),
    )


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979, https://www.jstor.org/stable/4615733).

    Returns
    -------
    In the order given, in [0, 1]; compared with the same level as one p-value would be.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


class _Pair:
    """Two labellings of the same passages as one, twice as long, so that articles can swap sides.

    The articles of the second model follow those of the first: a weight of 1 on the first half
    and 0 on the second scores the first model, and a mixture scores a shuffled one.
    """

    def __init__(self, first: Labelling, second: Labelling) -> None:
        self.n_groups = first.n_groups
        self.sums = GroupSums(
            Labelling(
                np.concatenate([first.y_true, second.y_true]),
                np.concatenate([first.y_pred, second.y_pred]),
                np.concatenate([first.y_prob, second.y_prob]),
                np.concatenate([first.groups, second.groups + first.n_groups]),
            )
        )

    def differ(
        self, first: np.ndarray, second: np.ndarray, *, ranked: bool
    ) -> dict[str, np.ndarray]:
        """Give each metric's difference, for two sides' weights of shape (n, 2 * n_groups)."""
        left = weighted_metrics(self.sums, first, ranked=ranked).overall
        right = weighted_metrics(self.sums, second, ranked=ranked).overall
        return {name: right[name] - left[name] for name in left}

    def bootstrap(self, settings: Bootstrap, *, ranked: bool) -> dict[str, np.ndarray]:
        """Draw the same articles for both models."""
        rng = np.random.default_rng(settings.seed)
        parts = []
        for size in self._chunks(settings.n_resamples):
            drawn = draw_articles(self.n_groups, size, rng).astype(np.float64)
            none = np.zeros_like(drawn)
            first, second = np.hstack([drawn, none]), np.hstack([none, drawn])
            parts.append(self.differ(first, second, ranked=ranked))
        return _join(parts)

    def shuffle(self, n_shuffles: int, *, seed: int, ranked: bool) -> dict[str, np.ndarray]:
        """Swap the two models' outputs on each article with a chance of one half."""
        rng = np.random.default_rng(seed + 1)
        parts = []
        for size in self._chunks(n_shuffles):
            stays = rng.integers(0, 2, size=(size, self.n_groups)).astype(np.float64)
            first, second = np.hstack([stays, 1 - stays]), np.hstack([1 - stays, stays])
            parts.append(self.differ(first, second, ranked=ranked))
        return _join(parts)

    def _chunks(self, total: int) -> list[int]:
        size = max(1, CELLS // len(self.sums.labelling.groups))
        return [min(size, total - start) for start in range(0, total, size)]


def _compare_pair(
    pair: _Pair, metrics: Sequence[str], bootstrap: Bootstrap, n_shuffles: int
) -> list[Difference]:
    ranked = "macro_average_precision" in metrics
    one, none = np.ones((1, pair.n_groups)), np.zeros((1, pair.n_groups))
    first_weights, second_weights = np.hstack([one, none]), np.hstack([none, one])
    first = weighted_metrics(pair.sums, first_weights, ranked=ranked).overall
    second = weighted_metrics(pair.sums, second_weights, ranked=ranked).overall
    resampled = pair.bootstrap(bootstrap, ranked=ranked) if bootstrap.n_resamples else {}
    shuffled = pair.shuffle(n_shuffles, seed=bootstrap.seed, ranked=ranked)
    differences = []
    for metric in metrics:
        values = [float(figures[metric][0]) for figures in (first, second)]
        observed = values[1] - values[0]
        interval = None
        if resampled and not np.isnan(observed):
            interval = percentile_interval(resampled[metric], confidence=bootstrap.confidence)
        is_defined = not np.isnan(observed)
        differences.append(
            Difference(
                metric=metric,
                first="",
                second="",
                first_value=None if np.isnan(values[0]) else values[0],
                second_value=None if np.isnan(values[1]) else values[1],
                difference=Estimate(observed if is_defined else None, *(interval or (None, None))),
                p_value=randomisation_p_value(observed, shuffled[metric]) if is_defined else None,
            )
        )
    return differences


def randomisation_p_value(observed: float, shuffled: np.ndarray) -> float:
    """Give the two-sided p-value of an approximate randomisation test.

    (n_at_least + 1) / (n_shuffles + 1), as in Noreen 1989, "Computer-intensive methods for
    testing hypotheses", and for text classification Yeh 2000, https://aclanthology.org/C00-2137.

    Parameters
    ----------
    observed : the difference of the two models.
    shuffled : shape (n_shuffles,), the difference after each shuffle; NaN counts as no less, so
        that an undefined figure never helps.
    """
    # a shuffle that swaps everything gives the observed figure but for rounding
    at_least = np.isnan(shuffled) | (np.abs(shuffled) >= abs(observed) - 1e-12)
    return (int(at_least.sum()) + 1) / (len(shuffled) + 1)


def _adjust(differences: Sequence[Difference], metric: str) -> list[Difference]:
    """Adjust one metric's p-values over its pairs, and judge each pair."""
    chosen = [difference for difference in differences if difference.metric == metric]
    p_values = [d.p_value for d in chosen if d.p_value is not None]
    adjusted = iter(adjust_holm(p_values))
    judged = []
    for difference in chosen:
        if difference.p_value is not None:
            difference = replace(difference, p_adjusted=next(adjusted))
        judged.append(replace(difference, verdict=_judge(difference)))
    return judged


def _judge(difference: Difference) -> str:
    estimate = difference.difference
    if estimate.value is None or difference.p_adjusted is None:
        return "undefined"
    has_interval = estimate.low is not None and estimate.high is not None
    spans_zero = has_interval and estimate.low <= 0 <= estimate.high  # type: ignore[operator]
    if spans_zero or difference.p_adjusted >= ALPHA:
        return "within noise"
    second_is_higher = estimate.value > 0
    return "second" if second_is_higher != (difference.metric in LOWER_IS_BETTER) else "first"


def _join(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@lru_cache(maxsize=1)
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Comparison)
