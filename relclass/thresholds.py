"""Logits -> calibrated probabilities -> topics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relclass.errors import did_you_mean

logger = logging.getLogger(__name__)

CALIBRATIONS = ("none", "temperature", "platt", "isotonic")
TUNINGS = ("fixed", "global", "per_topic")
LIMITS = (0.05, 0.95)
"""A tuned threshold stays inside: outside, a few validation passages decide it."""
SHRINKAGE = 20.0
"""Positives at which a topic's own best threshold and the global one weigh the same."""
TOLERANCE = 0.002
"""Macro-F1 within which two thresholds count as equally good; the middle of them is taken."""

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
        _check_known("calibration", self.method, CALIBRATIONS)
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


def _check_known(what: str, name: object, known: Sequence[str]) -> None:
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
