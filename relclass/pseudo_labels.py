"""Passages labelled by a teacher model -> further training examples with soft targets."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relclass.codebook import Codebook
from relclass.config import TrainConfig
from relclass.dataset import Dataset
from relclass.errors import DataError
from relclass.examples import Examples
from relclass.job_folder import hash_file
from relclass.normalize import normalize_all
from relclass.predictions_file import read_predictions
from relclass.records import Prediction
from relclass.splits import find_near_duplicates

logger = logging.getLogger(__name__)


def make_pseudo_examples(dataset: Dataset, config: TrainConfig) -> Examples:
    """Read the passages of `data.pseudo_labels`, as the config says.

    Those that equal or nearly equal a labelled passage of any split are left out and counted in
    the log: the label is better, and held-back passages must stay unseen.

    Raises
    ------
    DataError
        If a file cannot be read, a passage has no text, or lacks a topic's probability.
    """
    predictions = [p for path in config.data.pseudo_labels for p in _read(path, dataset.codebook)]
    kept = _drop_labelled(predictions, [passage.text for passage in dataset.passages])
    logger.info(
        "%d pseudo-labelled passages, %d left out as (near-)duplicates",
        len(kept), len(predictions) - len(kept),
    )  # fmt: skip
    names = dataset.codebook.names
    targets = np.array([[p.probabilities[name] for name in names] for p in kept])
    texts, languages = [p.text for p in kept], [p.language for p in kept]
    return Examples(
        texts=normalize_all(texts, languages, config.normalize),
        y_true=targets.astype(np.float32).reshape(len(kept), len(names)),
        weights=np.full((len(kept), len(names)), config.data.pseudo_weight, dtype=np.float32),
    )


def pseudo_checksums(config: TrainConfig) -> dict[str, str]:
    """Return the sha256 of each file of pseudo-labels.

    Returns
    -------
    By the file's name, or by its path where two share a name.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    names = Counter(path.name for path in config.data.pseudo_labels)
    found = {}
    for path in config.data.pseudo_labels:
        key = path.name if names[path.name] == 1 else path.as_posix()
        try:
            found[f"pseudo_labels {key}"] = hash_file(path)
        except OSError as error:
            raise DataError(f"{path}: cannot read the pseudo-labels: {error.strerror}") from error
    return found


def _read(path: Path, codebook: Codebook) -> list[Prediction]:
    predictions = read_predictions(path)
    for prediction in predictions:
        missing = [name for name in codebook.names if name not in prediction.probabilities]
        if missing or not prediction.text:
            lacking = f"probability of {missing[0]!r}" if missing else "text"
            raise DataError(
                f"{path}: passage {prediction.passage_id!r} has no {lacking}; write the file with "
                "relclass predict --output, by passage, with a model of the same topics"
            )
    return predictions


def _drop_labelled(predictions: Sequence[Prediction], labelled: Sequence[str]) -> list[Prediction]:
    pairs = find_near_duplicates([*labelled, *(prediction.text for prediction in predictions)])
    repeated = {second - len(labelled) for _, second in pairs}
    return [p for place, p in enumerate(predictions) if place not in repeated]
