"""Logits -> calibrated probabilities, each topic by itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relclass.errors import did_you_mean

logger = logging.getLogger(__name__)

CALIBRATIONS = ("none", "temperature", "platt", "isotonic")

Parameters = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Calibration:
    """Turns logits into probabilities, each topic by itself.

    Parameters
    ----------
    method : "none" (the sigmoid alone), "temperature", "platt" or "isotonic".
    parameters : one mapping a topic, in codebook order; empty for "none". "temperature" and
        "platt" hold "slope" and "intercept" of the logit, "isotonic" holds the "logits" and
        "probabilities" of its knots, both ascending.

    Raises
    ------
    ValueError
        If the method is unknown, or a topic lacks a parameter of its method.
    """

    method: str = "none"
    parameters: tuple[Parameters, ...] = ()

    def __post_init__(self) -> None:
        check_known("calibration", self.method, CALIBRATIONS)
        names = {"none": set[str](), "isotonic": {"logits", "probabilities"}}
        expected = names.get(self.method, {"slope", "intercept"})
        if (self.method == "none") != (not self.parameters):
            raise ValueError(
                f"Got {len(self.parameters)} topics' parameters for calibration {self.method!r}: "
                "expected one mapping a topic, and none for 'none'."
            )
        for topic in self.parameters:
            _check_parameters(topic, self.method, expected)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Give the probability of each topic.

        Parameters
        ----------
        logits : shape (n_passages, n_topics).

        Returns
        -------
        Shape (n_passages, n_topics), float32, in [0, 1], ascending in the logit.

        Raises
        ------
        ValueError
            If the number of topics is not the one that it was fitted on.
        """
        logits = np.asarray(logits, dtype=np.float64)
        if logits.ndim != 2:
            raise ValueError(f"Got logits of shape {logits.shape}: expected (n_passages, n_topics)")
        if self.method == "none":
            return sigmoid(logits).astype(np.float32)
        if logits.shape[1] != len(self.parameters):
            raise ValueError(
                f"Got logits of {logits.shape[1]} topics but the calibration was fitted on "
                f"{len(self.parameters)}."
            )
        y_prob = np.empty(logits.shape, dtype=np.float32)
        for column, topic in enumerate(self.parameters):
            y_prob[:, column] = _apply_one(topic, logits[:, column])
        return y_prob

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, ready for JSON."""
        topics = [{key: list(values) for key, values in t.items()} for t in self.parameters]
        return {"method": self.method, "parameters": topics}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` returned.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a value is not a number.
        """
        if not isinstance(content, Mapping) or set(content) != {"method", "parameters"}:
            raise ValueError(f"Got calibration {content!r}: expected keys method and parameters.")
        try:
            topics = tuple(
                {key: tuple(float(value) for value in values) for key, values in topic.items()}
                for topic in content["parameters"]
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"Got calibration parameters that are not numbers: {error}") from error
        return cls(method=content["method"], parameters=topics)


def check_known(what: str, name: object, known: Sequence[str]) -> None:
    """Raise ValueError, naming the nearest known word, if `name` is not one of them."""
    if name not in known:
        raise ValueError(
            f"Got {what} {name!r}: expected one of {', '.join(known)}"
            f"{did_you_mean(str(name), known)}."
        )


def _check_parameters(topic: Parameters, method: str, expected: set[str]) -> None:
    if set(topic) != expected:
        raise ValueError(
            f"Got parameters {sorted(topic)} for calibration {method!r}: "
            f"expected {sorted(expected)}."
        )
    lengths = {len(values) for values in topic.values()}
    if len(lengths) != 1 or 0 in lengths or (method != "isotonic" and lengths != {1}):
        raise ValueError(f"Got parameters of lengths {sorted(lengths)} for {method!r}.")
    values = np.array(list(topic.values()), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"Got a parameter that is not finite for calibration {method!r}.")
    if "slope" in topic and topic["slope"][0] <= 0:
        raise ValueError(f"Got slope {topic['slope'][0]}: expected one above 0.")
    if method == "isotonic" and (np.diff(values, axis=1) < 0).any():
        raise ValueError("Got knots of an isotonic calibration that do not ascend.")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-logits)) without overflow, of the same shape, float64."""
    decay = np.exp(-np.abs(np.asarray(logits, dtype=np.float64)))
    return np.asarray(np.where(np.asarray(logits) >= 0, 1.0, decay) / (1.0 + decay))


def _apply_one(topic: Parameters, logits: np.ndarray) -> np.ndarray:
    if "slope" in topic:
        return sigmoid(topic["slope"][0] * logits + topic["intercept"][0])
    return np.clip(np.interp(logits, topic["logits"], topic["probabilities"]), 0.0, 1.0)


def fit_calibration(
    y_true: np.ndarray,
    logits: np.ndarray,
    *,
    method: str,
    weights: np.ndarray | None = None,
) -> Calibration:
    """Fit how logits become probabilities, on passages that the model was not trained on.

    Parameters
    ----------
    y_true : shape (n_passages, n_topics), 0 or 1.
    logits : shape (n_passages, n_topics).
    method : "none", "temperature" (one slope a topic; Guo et al. 2017,
        https://arxiv.org/abs/1706.04599), "platt" (slope and intercept, with Platt's smoothed
        targets; Lin, Lin and Weng 2007, https://doi.org/10.1007/s10994-007-5018-6) or
        "isotonic" (a rising step curve; wants some hundreds of positives).
    weights : shape (n_passages,) or (n_passages, n_topics), not negative; 1 where None.

    Returns
    -------
    A calibration that never reverses the order of two logits. A topic that lacks positives or
    negatives, or whose logits say nothing, keeps the plain sigmoid, with a warning.

    Raises
    ------
    ValueError
        If the method is unknown, the shapes disagree, or a value is out of range.
    """
    check_known("calibration", method, CALIBRATIONS)
    y_true, logits, weights = check_arrays(y_true, logits, weights)
    if method == "none":
        return Calibration()
    fit = {"temperature": _fit_temperature, "platt": _fit_platt, "isotonic": _fit_isotonic}[method]
    topics = []
    for column in range(logits.shape[1]):
        y, z, w = y_true[:, column], logits[:, column], weights[:, column]
        n_positive, n_negative = (w * y).sum(), (w * (1 - y)).sum()
        topic = fit(y, z, w) if n_positive > 0 and n_negative > 0 else None
        if topic is None:
            logger.warning(
                "column %d cannot be calibrated (%g positives, %g negatives): plain sigmoid kept",
                column, n_positive, n_negative,
            )  # fmt: skip
            topic = _plain(method, z)
        topics.append(topic)
    return Calibration(method, tuple(topics))


def check_arrays(
    y_true: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the three as float64 of shape (n_passages, n_topics).

    Raises
    ------
    ValueError
        If the shapes disagree, no passage came, or a value is out of range.
    """
    y_true, scores = np.asarray(y_true), np.asarray(scores, dtype=np.float64)
    if y_true.shape != scores.shape or y_true.ndim != 2 or not len(y_true):
        raise ValueError(
            f"Got y_true of shape {y_true.shape} and scores of shape {scores.shape}: "
            "expected the same (n_passages, n_topics), with at least one passage."
        )
    if not np.isin(y_true, (0, 1)).all():
        raise ValueError("Got y_true with values other than 0 and 1.")
    if not np.isfinite(scores).all():
        raise ValueError("Got scores that are not finite: the model's training went wrong.")
    weights = np.ones(len(y_true)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.ndim == 1:
        weights = weights[:, None]
    if weights.ndim != 2 or len(weights) != len(y_true) or weights.shape[1] not in (
        1, y_true.shape[1],
    ):  # fmt: skip
        raise ValueError(
            f"Got weights of shape {weights.shape} for y_true of shape {y_true.shape}: "
            "expected (n_passages,) or (n_passages, n_topics)."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("Got a weight that is negative or not finite.")
    return y_true.astype(np.float64), scores, np.broadcast_to(weights, y_true.shape)


def _plain(method: str, z: np.ndarray) -> Parameters:
    if method != "isotonic":
        return {"slope": (1.0,), "intercept": (0.0,)}
    knots = np.linspace(min(z.min(), -6.0), max(z.max(), 6.0), 25)
    return {"logits": tuple(knots.tolist()), "probabilities": tuple(sigmoid(knots).tolist())}


def _fit_temperature(y: np.ndarray, z: np.ndarray, w: np.ndarray) -> Parameters | None:
    from scipy.optimize import minimize_scalar

    def loss(log_slope: float) -> float:
        return _log_loss(y, np.exp(log_slope) * z, w)

    lowest, highest = -4.0, 4.0
    best = minimize_scalar(loss, bounds=(lowest, highest), method="bounded")
    if best.x < lowest + 1e-3:  # flatter still would be better
        return None
    return {"slope": (float(np.exp(best.x)),), "intercept": (0.0,)}


def _fit_platt(y: np.ndarray, z: np.ndarray, w: np.ndarray) -> Parameters | None:
    from scipy.optimize import minimize

    n_positive, n_negative = (w * y).sum(), (w * (1 - y)).sum()
    target = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        error = w * (sigmoid(x[0] * z + x[1]) - target) / w.sum()
        return _log_loss(target, x[0] * z + x[1], w), np.array([error @ z, error.sum()])

    best = minimize(loss, x0=np.array([1.0, 0.0]), jac=True, method="L-BFGS-B")
    if best.x[0] <= 0:
        return None
    return {"slope": (float(best.x[0]),), "intercept": (float(best.x[1]),)}


def _fit_isotonic(y: np.ndarray, z: np.ndarray, w: np.ndarray) -> Parameters | None:
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(y_min=0.0, y_max=1.0).fit(z, y, sample_weight=w)
    if curve.y_thresholds_[0] == curve.y_thresholds_[-1]:
        return None
    return {
        "logits": tuple(curve.X_thresholds_.tolist()),
        "probabilities": tuple(curve.y_thresholds_.tolist()),
    }


def _log_loss(target: np.ndarray, z: np.ndarray, w: np.ndarray) -> float:
    """Weighted mean of the cross-entropy between targets in [0, 1] and logits."""
    return float((w * (np.logaddexp(0.0, z) - target * z)).sum() / w.sum())
