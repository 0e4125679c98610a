"""Labelled passages -> what a model is fitted and measured on: normalised texts and arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relclass.codebook import Codebook
from relclass.config import TrainConfig
from relclass.dataset import to_arrays
from relclass.errors import DataError
from relclass.normalize import normalize_all
from relclass.records import LabelledPassage


@dataclass(frozen=True)
class Examples:
    """Passages ready for a model.

    Parameters
    ----------
    texts : the passages, after `normalize`.
    y_true : shape (n_passages, n_topics), float32 in [0, 1]; soft targets are welcome in training.
    weights : shape (n_passages, n_topics), of each label in the loss, 0 or more.
    """

    texts: list[str]
    y_true: np.ndarray
    weights: np.ndarray


def make_examples(
    passages: Sequence[LabelledPassage],
    codebook: Codebook,
    config: TrainConfig,
    *,
    soft_targets: Mapping[str, Sequence[float]] | None = None,
) -> Examples:
    """Normalise the passages and turn their labels into arrays, as the config says.

    Parameters
    ----------
    soft_targets : passage id to one target a topic, in [0, 1], that takes the label's place;
        passages without one keep their labels.

    Raises
    ------
    DataError
        If a soft target is not one number in [0, 1] for each topic.
    """
    texts, languages, y_true, weights = to_arrays(
        passages,
        codebook,
        unsure_weight=config.data.unsure_weight,
        authored_weight=config.data.authored_weight,
    )
    targets = y_true.astype(np.float32)
    for row, passage in enumerate(passages):
        soft = (soft_targets or {}).get(passage.passage_id)
        if soft is not None:
            targets[row] = _check_soft(soft, passage.passage_id, len(codebook.names))
    return Examples(normalize_all(texts, languages, config.normalize), targets, weights)


def concatenate(first: Examples, second: Examples) -> Examples:
    """Put the passages of one after those of the other."""
    return Examples(
        texts=[*first.texts, *second.texts],
        y_true=np.concatenate([first.y_true, second.y_true]),
        weights=np.concatenate([first.weights, second.weights]),
    )


def _check_soft(soft: Sequence[float], passage_id: str, n_topics: int) -> np.ndarray:
    values = np.asarray(soft, dtype=np.float32)
    if values.shape != (n_topics,) or not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            f"soft targets: passage {passage_id!r}: expected {n_topics} numbers in [0, 1], "
            f"got {list(soft)!r}"
        )
    return values


def read_soft_targets(path: Path) -> dict[str, list[float]]:
    """Read soft targets from JSON: passage id to one number a topic, in codebook order.

    Raises
    ------
    DataError
        If the file cannot be read or is not such a mapping.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the soft targets: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a mapping of passage id to numbers")
    return content
