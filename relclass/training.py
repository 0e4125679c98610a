"""Fit either kind of model from a config, and write the run folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from relclass.config import (
    BaselineSettings,
    LexiconSettings,
    ThresholdSettings,
    TrainConfig,
    TransformerSettings,
)
from relclass.dataset import Dataset, load_dataset, to_arrays
from relclass.errors import DataError
from relclass.examples import Examples, concatenate, make_examples
from relclass.metrics import summarise
from relclass.models.base import Classifier, Scorer
from relclass.models.lexicon import LexiconScorer, load_lexicon
from relclass.models.store import load_model, manifest_sha256, save_model
from relclass.pseudo_labels import make_pseudo_examples, pseudo_checksums
from relclass.records import LabelledPassage
from relclass.run_folder import (
    CHECKPOINTS,
    DEFAULT_OPTIONS,
    METRICS,
    MODEL,
    RUN,
    RunOptions,
    drop_checkpoints,
    is_finished,
    is_main_process,
    open_run,
    plain,
    provenance,
    resolved,
    write_json,
)
from relclass.split_file import splits_checksum
from relclass.thresholds import Calibration, apply_thresholds, fit_calibration, tune_thresholds

logger = logging.getLogger(__name__)

ORIGINS = ("real", "authored")


def train(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    device: str = "auto",
    resume: bool = True,
    options: RunOptions = DEFAULT_OPTIONS,
    soft_targets: Mapping[str, Sequence[float]] | None = None,
) -> Classifier:
    """Fit a model, calibrate it, measure it, and write all of it to a run folder.

    The folder gets config.yaml (resolved), run.json (seed, versions, commit, data checksums),
    metrics.json (validation and test) and model/. The same call again takes up a run that was
    killed at its last checkpoint, and loads a finished one. Of several processes (`accelerate
    launch`, `torchrun`) only the first writes.

    Parameters
    ----------
    device : "auto", "cpu" or "cuda"; overrides the options'.
    resume : take up a run that the folder holds; overrides the options'.
    soft_targets : passage id to one training target a topic, in [0, 1].

    Raises
    ------
    ConfigError
        If the folder holds another run, or the config does not fit the machine.
    DataError
        If the data cannot be read, or no passage is left to fit or to tune on.
    """
    run_dir = Path(run_dir)
    options = replace(options, device=device, resume=resume)
    dataset = load_dataset(config.data)
    open_run(config, run_dir, resume=resume)
    checksums = _checksums(dataset, config, soft_targets)
    record = provenance(config, checksums, options) | {"n_passages": _counts(dataset)}
    if is_finished(run_dir, record):
        logger.info("%s is finished already", run_dir)
        return load_model(run_dir / MODEL)
    train_part = _filled(dataset.part("train"), "train")
    examples = make_examples(train_part, dataset.codebook, config, soft_targets=soft_targets)
    if config.data.pseudo_labels:
        examples = concatenate(examples, make_pseudo_examples(dataset, config))
    tuning = make_examples(tuning_part(dataset, config.thresholds), dataset.codebook, config)
    scorer = _fit(config, examples, tuning, dataset, run_dir=run_dir, options=options)
    logits = scorer.score(tuning.texts)
    calibration, thresholds = calibrate(tuning, logits, config.thresholds)
    classifier = Classifier(
        name=config.name,
        codebook=dataset.codebook,
        scorer=scorer,
        normalize=config.normalize,
        calibration=calibration,
        thresholds=thresholds,
    )
    metrics = {split: measure(classifier, dataset.part(split)) for split in ("validation", "test")}
    card = plain(record | {"config": resolved(config), "metrics": metrics})
    classifier = replace(classifier, card=card)
    if is_main_process():
        save_model(classifier, run_dir / MODEL)
        write_json(run_dir / METRICS, metrics)
        write_json(run_dir / RUN, record)  # last: it marks the run as finished
        drop_checkpoints(run_dir)
    return classifier


def _checksums(
    dataset: Dataset, config: TrainConfig, soft_targets: Mapping[str, Sequence[float]] | None
) -> dict[str, str]:
    """Return the checksums of all that a run reads, so that it is not taken for another's."""
    found = dataset.checksum | pseudo_checksums(config)
    if isinstance(config.model, TransformerSettings):
        if config.model.imitate is not None:
            found["imitate"] = manifest_sha256(config.model.imitate)
    elif config.model.lexicon is not None:
        lexicon = load_lexicon(config.model.lexicon).model_dump_json()
        found["lexicon"] = hashlib.sha256(lexicon.encode("utf-8")).hexdigest()
    if soft_targets:
        rows = ((name, ",".join(map(repr, map(float, row)))) for name, row in soft_targets.items())
        found["soft_targets"] = splits_checksum(rows)
    return found


def _fit(
    config: TrainConfig,
    examples: Examples,
    tuning: Examples,
    dataset: Dataset,
    *,
    run_dir: Path,
    options: RunOptions,
) -> Scorer:
    if not isinstance(config.model, TransformerSettings):
        return fit_small(config.model, examples, dataset.codebook.names)
    from relclass.models.finetuning import FineTuning, finetune

    task = FineTuning(
        train=examples,
        validation=tuning,
        topics=dataset.codebook.names,
        work_dir=run_dir / CHECKPOINTS,
        seed=config.seed,
    )
    return finetune(task, config.model, options=options)


def fit_small(
    settings: LexiconSettings | BaselineSettings, examples: Examples, topics: tuple[str, ...]
) -> Scorer:
    """Fit a model that needs neither torch nor checkpoints."""
    if isinstance(settings, LexiconSettings):
        return LexiconScorer(load_lexicon(settings.lexicon), topics)
    from relclass.models.baseline import fit_baseline

    return fit_baseline(examples.texts, examples.y_true, examples.weights, settings)


def _filled(passages: list[LabelledPassage], what: str) -> list[LabelledPassage]:
    if not passages:
        raise DataError(f"no passage is in {what}; check data.authored, data.real_labels")
    return passages


def tuning_part(dataset: Dataset, settings: ThresholdSettings) -> list[LabelledPassage]:
    """Return the validation passages that calibration and thresholds are fitted on."""
    origin = None if settings.origin == "all" else settings.origin
    return _filled(
        dataset.part("validation", origin=origin),
        f"validation with origin {settings.origin!r} (thresholds.origin)",
    )


def calibrate(
    examples: Examples, logits: np.ndarray, settings: ThresholdSettings
) -> tuple[Calibration, np.ndarray]:
    """Fit the calibration and then the thresholds, on passages not trained on.

    Parameters
    ----------
    logits : shape (n_passages, n_topics), of `examples`.

    Returns
    -------
    The calibration, and thresholds of shape (n_topics,).
    """
    y_true = (examples.y_true >= 0.5).astype(np.uint8)
    calibration = fit_calibration(y_true, logits, method=settings.calibration)
    thresholds = tune_thresholds(
        y_true, calibration.apply(logits), tuning=settings.tuning, fixed=settings.fixed
    )
    return calibration, thresholds


def measure(classifier: Classifier, passages: Sequence[LabelledPassage]) -> dict[str, Any]:
    """Give a split's figures, for each origin and for all of it.

    Returns
    -------
    "real", "authored" and "all", where there are such passages, to n_passages, the overall
    figures and those of each topic.
    """
    if not passages:
        return {}
    texts, languages, y_true, _ = to_arrays(passages, classifier.codebook)
    y_prob = classifier.predict_proba(texts, languages)
    y_pred = apply_thresholds(y_prob, classifier.thresholds)
    origins = np.array([passage.origin for passage in passages])
    figures = {}
    for name in (*ORIGINS, "all"):
        rows = np.ones(len(passages), dtype=bool) if name == "all" else origins == name
        if rows.any():
            summary = summarise(y_true[rows], y_pred[rows], y_prob[rows])
            figures[name] = {
                "n_passages": int(rows.sum()),
                "overall": {key: float(value) for key, value in summary.overall.items()},
                "by_topic": {
                    key: dict(zip(classifier.topics, map(float, values), strict=True))
                    for key, values in summary.by_topic.items()
                },
            }
    return figures


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {
        split: {origin: len(dataset.part(split, origin=origin)) for origin in ORIGINS}
        for split in ("train", "validation", "test")
    }
