"""What the commands evaluate: gold from a file or a split, output from a model or from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from relclass.codebook import Codebook, load_codebook
from relclass.comparison import Comparison, Predicted, compare
from relclass.config import DataSettings, load_config
from relclass.error_analysis import explain_mistakes, heaviest_terms
from relclass.errors import ConfigError, DataError, ModelError
from relclass.evaluation import Bootstrap, Evaluation, Named, evaluate, with_mistakes
from relclass.predictions_file import align_predictions, read_predictions
from relclass.records import LabelledPassage
from relclass.splits import SPLITS

if TYPE_CHECKING:
    from relclass.models.base import Classifier

ORIGINS = ("real", "authored")
PREDICTION_SUFFIXES = (
    ".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".csv.gz", ".csv.zst", ".parquet",
)  # fmt: skip


@dataclass(frozen=True)
class Gold:
    """Labelled passages to score against.

    Parameters
    ----------
    name : of the file or split.
    codebook : by which they were labelled.
    """

    name: str
    passages: list[LabelledPassage]
    codebook: Codebook


@dataclass(frozen=True)
class Scored:
    """One source's output on the gold passages it covers.

    Parameters
    ----------
    y_pred, y_prob : shape (n_passages, n_topics), in the gold codebook's order.
    classifier : the model that gave it, or None where it came from disk.
    """

    name: str
    passages: list[LabelledPassage]
    y_pred: np.ndarray
    y_prob: np.ndarray
    classifier: Classifier | None


def read_gold(
    data: str,
    *,
    codebook: Codebook | None = None,
    config: Path | None = None,
    origin: str | None = None,
    codebook_path: Path | None = None,
    text_paths: Sequence[Path] = (),
) -> Gold:
    """Read the passages to score against.

    Parameters
    ----------
    data : "train", "validation" or "test" of the project's data, or a labelled file or folder.
    codebook : of a labelled file, where neither a path nor a config is given.
    config : a training config whose data section says where a split's passages lie.
    origin : "real" or "authored"; None takes both.
    codebook_path : None takes the config's.
    text_paths : where the texts lie if `data` is a file of real labels without them.

    Raises
    ------
    ConfigError
        If the origin is unknown, or texts are given for a split.
    DataError
        If the data cannot be read, or no passage is left.
    """
    from relclass.dataset import load_dataset, read_labelled, read_real

    if origin is not None and origin not in ORIGINS:
        raise ConfigError(f"origin {origin!r}: expected {' or '.join(ORIGINS)}")
    settings = load_config(config).data if config else DataSettings()
    if codebook_path is not None:  # for a split, which reads the settings alone
        settings = settings.model_copy(update={"codebook": codebook_path})
    if data in SPLITS:
        if text_paths:
            raise ConfigError(f"--texts: for a file of labels; --config says where {data}'s lie")
        dataset = load_dataset(settings)
        gold = Gold(data, dataset.part(data, origin=origin), dataset.codebook)
    else:
        if codebook is None or codebook_path or config:
            codebook = load_codebook(codebook_path or settings.codebook)
        if text_paths:
            read = read_real(data, text_paths, codebook)[0]
        else:
            read = read_labelled(data, codebook)
        kept = [passage for passage in read if origin in (None, passage.origin)]
        gold = Gold(Path(data).name, kept, codebook)
    if not gold.passages:
        raise DataError(f"{data}: no labelled passages{f' of origin {origin!r}' if origin else ''}")
    return gold


def score_source(source: str, gold: Gold, *, partial: bool = False) -> Scored:
    """Get a source's output on the gold passages.

    Parameters
    ----------
    source : a file of predictions, by its suffix, or else a model's name or folder.
    partial : let a file of predictions cover other passages too, or fewer.

    Raises
    ------
    DataError
        If the predictions cannot be read or do not fit the gold.
    ModelError
        If there is no such model, or it was trained with other topics.
    """
    if source.lower().endswith(PREDICTION_SUFFIXES):
        predictions = read_predictions(source)
        passages, y_pred, y_prob = align_predictions(
            gold.passages, predictions, gold.codebook, partial=partial
        )
        return Scored(Path(source).name, passages, y_pred, y_prob, None)
    from relclass.models.store import load_model
    from relclass.thresholds import apply_thresholds

    classifier = load_model(source)
    columns = _columns(classifier, gold.codebook, source)
    y_prob = classifier.predict_proba(
        [passage.text for passage in gold.passages],
        [passage.language for passage in gold.passages],
    )
    y_pred = apply_thresholds(y_prob, classifier.thresholds)
    return Scored(
        classifier.name, gold.passages, y_pred[:, columns], y_prob[:, columns], classifier
    )


def evaluate_source(
    source: str,
    gold: Gold,
    *,
    bootstrap: Bootstrap,
    n_mistakes: int = 40,
    partial: bool = False,
) -> Evaluation:
    """Evaluate a model or predictions on disk; a model's mistakes get their words."""
    scored = score_source(source, gold, partial=partial)
    evaluation = evaluate(
        scored.passages,
        scored.y_prob,
        scored.y_pred,
        gold.codebook,
        names=Named(scored.name, gold.name),
        bootstrap=bootstrap,
    )
    if not n_mistakes:
        return evaluation
    evaluation = with_mistakes(
        evaluation, scored.passages, scored.y_prob, scored.y_pred, n_mistakes=n_mistakes
    )
    if scored.classifier is None:
        return evaluation
    explained = explain_mistakes(evaluation.mistakes, scored.classifier)
    terms = heaviest_terms(scored.classifier)
    return replace(evaluation, mistakes=tuple(explained), terms=terms)


def compare_sources(
    sources: Sequence[str], gold: Gold, *, bootstrap: Bootstrap, n_shuffles: int
) -> Comparison:
    """Compare models, or predictions on disk, on the same passages.

    Raises
    ------
    DataError
        If the passages are of fewer than two articles.
    """
    outputs: dict[str, Predicted] = {}
    for source in sources:
        scored = score_source(source, gold)
        name = source if scored.name in outputs else scored.name
        if name in outputs:
            raise ConfigError(f"{source}: given twice; a model cannot be compared with itself")
        outputs[name] = Predicted(scored.y_prob, scored.y_pred)
    if len({passage.article_id for passage in gold.passages}) < 2:
        raise DataError(f"{gold.name}: passages of one article; a comparison needs several")
    comparison = compare(
        gold.passages, outputs, gold.codebook, bootstrap=bootstrap, n_shuffles=n_shuffles
    )
    return replace(comparison, data=gold.name)


def _columns(classifier: Classifier, codebook: Codebook, source: str) -> list[int]:
    """Find each gold topic's column in the model's output."""
    if set(classifier.topics) != set(codebook.names):
        raise ModelError(
            f"{source}: the model has the topics {', '.join(classifier.topics)}, the gold "
            f"{', '.join(codebook.names)}; give the codebook it was trained with by --codebook"
        )
    return [classifier.topics.index(name) for name in codebook.names]
