"""Probabilities -> topics: thresholds, how they are tuned, and what the tuning is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relclass.calibration import (
    CALIBRATIONS,
    Calibration,
    check_arrays,
    check_known,
    fit_calibration,
)
from relclass.metrics import macro_f1

__all__ = [
    "Calibration",
    "ThresholdScore",
    "apply_thresholds",
    "fit_calibration",
    "nested_threshold_scores",
    "tune_thresholds",
]

TUNINGS = ("fixed", "global", "per_topic")
CANDIDATES = np.linspace(0.05, 0.95, 181)
"""Thresholds tried. Nearer to 0 or 1, a handful of validation passages would decide."""
TOLERANCE = 0.002
"""F1 within which neighbouring candidates count as equally good; their middle is taken."""
SHRINKAGE = 20.0
"""Positives at which a topic's own best threshold and the global one weigh the same."""


def apply_thresholds(y_prob: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Mark each topic whose probability reaches its threshold.

    Parameters
    ----------
    y_prob : shape (n_passages, n_topics), in [0, 1]; probabilities, not logits.
    thresholds : shape (n_topics,), in (0, 1), in codebook order.

    Returns
    -------
    Multi-hot topics, shape (n_passages, n_topics), uint8; a row may be all zero.

    Raises
    ------
    ValueError
        If the two disagree on n_topics.
    """
    y_prob, thresholds = np.asarray(y_prob), np.asarray(thresholds, dtype=np.float64)
    if y_prob.ndim != 2 or thresholds.shape != y_prob.shape[1:]:
        raise ValueError(
            f"Got probabilities of shape {y_prob.shape} and thresholds of shape "
            f"{thresholds.shape}: expected (n_passages, n_topics) and (n_topics,)."
        )
    return (y_prob >= thresholds).astype(np.uint8)


def tune_thresholds(
    y_true: np.ndarray,
    y_prob: np.ndarray,
    *,
    tuning: str = "global",
    fixed: float = 0.5,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Choose the thresholds that give the best F1 on passages not trained on.

    Parameters
    ----------
    y_true : shape (n_passages, n_topics), 0 or 1.
    y_prob : shape (n_passages, n_topics), in [0, 1]; calibrated probabilities.
    tuning : "fixed" takes `fixed` for every topic; "global" one threshold with the best
        macro-F1; "per_topic" each topic's own best, drawn towards the global one where the
        topic has few positives (at `SHRINKAGE` positives, half way).
    fixed : in (0, 1).
    weights : shape (n_passages,) or (n_passages, n_topics), not negative; 1 where None.

    Returns
    -------
    Shape (n_topics,), float64, in [0.05, 0.95] unless fixed.

    Raises
    ------
    ValueError
        If the tuning is unknown, the shapes disagree, or a value is out of range.
    """
    check_known("tuning", tuning, TUNINGS)
    if not 0 < fixed < 1:
        raise ValueError(f"Got fixed threshold {fixed}: expected one between 0 and 1.")
    y_true, y_prob, weights = check_arrays(y_true, y_prob, weights)
    if (y_prob < 0).any() or (y_prob > 1).any():
        raise ValueError("Got probabilities outside [0, 1]: calibrate the logits first.")
    n_topics = y_true.shape[1]
    if tuning == "fixed":
        return np.full(n_topics, fixed)
    f1 = _f1_by_candidate(y_true, y_prob, weights)  # (n_topics, n_candidates)
    common = _middle_of_best(f1.mean(axis=0))
    if tuning == "global":
        return np.full(n_topics, common)
    own = np.array([_middle_of_best(row) for row in f1])
    n_positive = (weights * y_true).sum(axis=0)
    return np.asarray(common + (own - common) * n_positive / (n_positive + SHRINKAGE))


def _f1_by_candidate(y_true: np.ndarray, y_prob: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1 of each topic at each candidate, shape (n_topics, n_candidates); 0 where undefined."""
    f1 = np.zeros((y_true.shape[1], len(CANDIDATES)))
    for topic in range(y_true.shape[1]):
        order = np.argsort(y_prob[:, topic], kind="stable")
        first = np.searchsorted(y_prob[order, topic], CANDIDATES, side="left")
        hits = _sum_from((weights * y_true)[order, topic])[first]
        marked = _sum_from(weights[order, topic])[first]
        total = marked + (weights * y_true)[:, topic].sum()
        f1[topic] = np.divide(2 * hits, total, out=np.zeros(len(first)), where=total > 0)
    return f1


def _sum_from(values: np.ndarray) -> np.ndarray:
    """Sum of values[i:] for each i from 0 to n, shape (n + 1,)."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)


def _middle_of_best(f1: np.ndarray) -> float:
    """Middle of the candidates around the best one that are as good but for TOLERANCE."""
    best = int(np.argmax(f1))
    is_good = f1 >= f1[best] - TOLERANCE
    low = high = best
    while low > 0 and is_good[low - 1]:
        low -= 1
    while high < len(f1) - 1 and is_good[high + 1]:
        high += 1
    return float(CANDIDATES[low] + CANDIDATES[high]) / 2


@dataclass(frozen=True)
class ThresholdScore:
    """What one way to calibrate and tune is worth on passages that it did not see.

    Parameters
    ----------
    calibration, tuning : the choice.
    macro_f1 : mean over repeats, each on the out-of-fold topics of all passages; over the topics
        that have a positive passage.
    macro_f1_std : standard deviation over repeats.
    seen_macro_f1 : tuned and scored on the same passages; what it promises above `macro_f1`
        is overfitting.
    log_loss : out-of-fold cross-entropy of the probabilities, mean over topics.
    """

    calibration: str
    tuning: str
    macro_f1: float
    macro_f1_std: float
    seen_macro_f1: float
    log_loss: float


def nested_threshold_scores(
    y_true: np.ndarray,
    logits: np.ndarray,
    *,
    groups: Sequence[object] | None = None,
    n_folds: int = 5,
    n_repeats: int = 5,
    seed: int = 0,
) -> list[ThresholdScore]:
    """Cross-validate every way to calibrate and tune, inside the validation passages.

    Parameters
    ----------
    y_true : shape (n_passages, n_topics), 0 or 1.
    logits : shape (n_passages, n_topics); of passages that the model was not trained on.
    groups : an article id for each passage; passages of one article stay in one fold.
    n_folds, n_repeats : folds a repeat, at least 2; shuffles, at least 1.
    seed : of the shuffles.

    Returns
    -------
    One score for each pair of `CALIBRATIONS` and `TUNINGS`, best macro-F1 first.

    Raises
    ------
    ValueError
        If the shapes disagree or there are fewer groups than folds.
    """
    y_true, logits, _ = check_arrays(y_true, logits, None)
    if groups is not None and len(groups) != len(y_true):
        raise ValueError(f"Got {len(groups)} groups for {len(y_true)} passages.")
    names = range(len(y_true)) if groups is None else groups
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    if n_folds < 2 or n_repeats < 1 or len(codes) < n_folds:
        raise ValueError(
            f"Got {len(codes)} groups, {n_folds} folds and {n_repeats} repeats: "
            "expected 2 folds or more, a group a fold, and a repeat."
        )
    rng = np.random.default_rng(seed)
    group = np.array([codes[name] for name in names])
    folds = [(rng.permutation(len(codes)) % n_folds)[group] for _ in range(n_repeats)]
    scores = [
        score
        for calibration in CALIBRATIONS
        for score in _score_tunings(y_true, logits, folds, calibration)
    ]
    return sorted(scores, key=lambda score: -score.macro_f1)


def _score_tunings(
    y_true: np.ndarray, logits: np.ndarray, folds: Sequence[np.ndarray], calibration: str
) -> list[ThresholdScore]:
    """Score each tuning after one calibration; `folds` holds a fold number a passage."""
    f1: dict[str, list[float]] = {tuning: [] for tuning in TUNINGS}
    losses = []
    for fold in folds:
        y_prob, y_pred = np.zeros(y_true.shape), {t: np.zeros(y_true.shape) for t in TUNINGS}
        for k in range(fold.max() + 1):
            fitted, held_out = fold != k, fold == k
            y_prob[held_out], marked = _calibrate_and_tune(
                y_true[fitted], logits[fitted], logits[held_out], calibration
            )
            for tuning in TUNINGS:
                y_pred[tuning][held_out] = marked[tuning]
        for tuning in TUNINGS:
            f1[tuning].append(macro_f1(y_true, y_pred[tuning]) or 0.0)
        losses.append(_log_loss(y_true, y_prob))
    seen = _calibrate_and_tune(y_true, logits, logits, calibration)[1]
    return [
        ThresholdScore(
            calibration=calibration,
            tuning=tuning,
            macro_f1=float(np.mean(f1[tuning])),
            macro_f1_std=float(np.std(f1[tuning])),
            seen_macro_f1=macro_f1(y_true, seen[tuning]) or 0.0,
            log_loss=float(np.mean(losses)),
        )
        for tuning in TUNINGS
    ]


def _calibrate_and_tune(
    y_true: np.ndarray, logits: np.ndarray, unseen: np.ndarray, calibration: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Probabilities of the unseen passages, and their topics under each tuning."""
    fitted = fit_calibration(y_true, logits, method=calibration)
    y_prob, y_prob_unseen = fitted.apply(logits), fitted.apply(unseen)
    y_pred = {
        tuning: apply_thresholds(y_prob_unseen, tune_thresholds(y_true, y_prob, tuning=tuning))
        for tuning in TUNINGS
    }
    return y_prob_unseen, y_pred


def _log_loss(y_true: np.ndarray, y_prob: np.ndarray) -> float:
    likelihood = np.where(y_true == 1, y_prob, 1 - y_prob)
    return float(-np.log(np.clip(likelihood, 1e-6, 1.0)).mean())
