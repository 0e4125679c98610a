"""Finished runs -> the model that ships: averaged, exported, calibrated anew, compared, described.

The int8 network's logits are not quite the float one's, so its calibration and thresholds are
fitted on its own.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from relclass.config import TrainConfig, TransformerSettings, load_config
from relclass.dataset import Dataset, load_dataset, to_arrays
from relclass.errors import ModelError
from relclass.examples import Examples, make_examples
from relclass.metrics import macro_f1
from relclass.models.base import Classifier, Scorer
from relclass.models.export import ExportSettings, export_scorer
from relclass.models.onnx import OnnxScorer
from relclass.models.soup import average_scorers
from relclass.models.store import load_model, save_model
from relclass.models.transformer import TransformerScorer
from relclass.normalize import normalize_all
from relclass.run_folder import CONFIG, MODEL, plain, resolved
from relclass.thresholds import Calibration, apply_thresholds
from relclass.training import calibrate, measure, tuning_part

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parity:
    """How near the int8 network comes to the float one, both with the int8 one's calibration.

    Parameters
    ----------
    median, maximum : of the absolute difference of probabilities, where both read the same pieces;
        None if they never do.
    n_respelled : passages with a piece that the trimmed vocabulary lacks, so that it is spelt by
        others; these are left out of `median` and `maximum`.
    maximum_respelled : the greatest difference on them; None if there is none.
    f1_float, f1_int8 : macro-F1 at the shipped thresholds, of all passages.
    n_flipped : topic marks that differ, of n_passages times n_topics.
    """

    n_passages: int
    median: float | None
    maximum: float | None
    n_respelled: int
    maximum_respelled: float | None
    f1_float: float | None
    f1_int8: float | None
    n_flipped: int


def build_default_model(
    run_dirs: Sequence[Path],
    out_dir: Path,
    settings: ExportSettings,
    *,
    name: str | None = None,
    student_dir: Path | None = None,
) -> Classifier:
    """Make the model folder that ships out of finished runs.

    Parameters
    ----------
    run_dirs : run folders; of several, of different seeds or of which one went on from another,
        the weights are averaged. The first one's config holds.
    out_dir : the folder to write, such as relclass/shipped/default; replaced if it is a model.
    settings : the corpus the vocabulary is trimmed by; the training texts are always added.
    name : of the model; None takes the config's.
    student_dir : run folder of a network distilled from them, to read first in a cascade; where it
        has early exits only its layers before the first one, with the head there. None: none.

    Raises
    ------
    ModelError
        If a run is not a transformer's, or the runs cannot be averaged.
    """
    members, averaged = _load_averaged(run_dirs)
    config = _config(run_dirs[0], members[0])
    small: list[Classifier] = []
    student = None
    if student_dir is not None:
        small, student = _load_averaged([student_dir], until_exit=True)
    dataset = load_dataset(config.data)
    tuning = make_examples(tuning_part(dataset, config.thresholds), dataset.codebook, config)
    with tempfile.TemporaryDirectory() as folder:
        export_scorer(
            averaged,
            dataset.codebook.names,
            Path(folder),
            settings,
            texts=make_examples(dataset.part("train"), dataset.codebook, config).texts,
            student=student,
        )
        scorer = OnnxScorer.load(Path(folder), dataset.codebook)
        classifier = _calibrated(scorer, members[0], tuning, config)
        classifier = replace(classifier, name=name or config.name)
        card = _card(classifier, averaged, dataset, config)
        card["runs"] = [member.card for member in members]
        if student is not None:
            parity = _student_parity(student, classifier, dataset)
            card["student"] = {"run": small[0].card, "parity": parity}
        card["vocabulary"] = {"n_pieces": scorer.tokenizer.get_vocab_size()}
        classifier = replace(classifier, card=plain(card))
        save_model(classifier, out_dir)
    return load_model(out_dir)


def average_runs(run_dirs: Sequence[Path], out_dir: Path) -> Classifier:
    """Write a model folder with the average of several runs' weights, early exits left out.

    Its calibration and thresholds are the first run's. For a network to go on from or to imitate.

    Parameters
    ----------
    run_dirs : finished runs, of different seeds or of which one went on from another.
    out_dir : the folder to write; replaced if it is a model.

    Raises
    ------
    ModelError
        If a run is not a transformer's, or the runs cannot be averaged.
    """
    members, averaged = _load_averaged(run_dirs)
    card = {"runs": [member.card for member in members]}
    save_model(replace(members[0], scorer=averaged, card=plain(card)), out_dir)
    return load_model(out_dir)


def prune_runs(
    run_dirs: Sequence[Path],
    out_dir: Path,
    *,
    heads: Sequence[int],
    neurons: Sequence[int],
    until_exit: bool = False,
) -> Classifier:
    """Write a model folder with a pruned network, to be trained on as another run's encoder.

    Parameters
    ----------
    run_dirs : finished runs; the weights of several are averaged. The first one's config holds.
    out_dir : the folder to write; replaced if it is a model.
    heads, neurons : how many each layer keeps; see `prune_scorer`.
    until_exit : take the layers before the first early exit alone, with the head there, as a
        student ships.

    Raises
    ------
    ModelError
        If a run is not a transformer's, or the runs cannot be averaged.
    ConfigError
        If the numbers do not fit the network.
    """
    from relclass.models.pruning import N_PASSAGES, prune_scorer

    members, whole = _load_averaged(run_dirs, until_exit=until_exit)
    config = _config(run_dirs[0], members[0])
    dataset = load_dataset(config.data)
    sample = _sample(dataset, config, n_passages=N_PASSAGES)
    pruned = prune_scorer(whole, sample, heads=heads, neurons=neurons)
    card = {
        "config": resolved(config),
        "data": dict(dataset.checksum),
        "pruned": {"heads": list(heads), "neurons": list(neurons), "n_passages": len(sample)},
        "runs": [member.card for member in members],
    }
    save_model(replace(members[0], scorer=pruned, card=plain(card)), out_dir)
    return load_model(out_dir)


def drop_tokens_of_runs(
    run_dirs: Sequence[Path],
    out_dir: Path,
    keep_tokens: Mapping[int, float],
    *,
    at_least: int,
    until_exit: bool = False,
) -> Classifier:
    """Write a model folder with a network that drops tokens on the way up, to ship or train on.

    Parameters
    ----------
    run_dirs : run or model folders; the weights of several are averaged. The first one's config
        holds.
    out_dir : the folder to write; replaced if it is a model.
    keep_tokens : layer to the share of tokens that goes on after it; see
        `relclass.models.token_dropping.drop_tokens`.
    at_least : so many tokens of a window go on whatever the shares.
    until_exit : take the layers before the first early exit alone, with the head there, as a
        student ships.

    Raises
    ------
    ModelError
        If a run is not a transformer's, or the runs cannot be averaged.
    ConfigError
        If the numbers do not fit the network.
    """
    from relclass.models.token_dropping import N_PASSAGES, drop_tokens

    members, whole = _load_averaged(run_dirs, until_exit=until_exit)
    config = _config(run_dirs[0], members[0])
    dataset = load_dataset(config.data)
    sample = _sample(dataset, config, n_passages=N_PASSAGES)
    scorer = drop_tokens(whole, sample, keep_tokens, at_least=at_least)
    kept = scorer.settings.model_dump(include={"keep_tokens", "keep_at_least"})
    model = cast(TransformerSettings, config.model).model_copy(update={**kept, "keep_head": True})
    card = {
        "config": resolved(config.model_copy(update={"model": model})),
        "data": dict(dataset.checksum),
        "tokens_dropped": {"n_passages": len(sample)},
        "runs": [member.card for member in members],
    }
    save_model(replace(members[0], scorer=scorer, card=plain(card)), out_dir)
    return load_model(out_dir)


def _sample(dataset: Dataset, config: TrainConfig, *, n_passages: int) -> list[str]:
    """Draw normalised training passages."""
    texts = make_examples(dataset.part("train"), dataset.codebook, config).texts
    chosen = np.random.default_rng(config.seed).permutation(len(texts))[:n_passages]
    return [texts[place] for place in chosen]


def _config(run_dir: Path, member: Classifier) -> TrainConfig:
    """Return the config of a run, or the one that a model folder's card tells of."""
    if (run_dir / CONFIG).is_file():
        return load_config(run_dir / CONFIG)
    try:
        return TrainConfig.model_validate(member.card["config"])
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{run_dir}: no {CONFIG}, and its card does not say how it was trained: {error}"
        ) from error


def _load_averaged(
    run_dirs: Sequence[Path], *, until_exit: bool = False
) -> tuple[list[Classifier], TransformerScorer]:
    """Load runs' models, and average their networks: whole ones, or cut at the first exit."""
    members = [load_model(_model_dir(run_dir)) for run_dir in run_dirs]
    for member, run_dir in zip(members, run_dirs, strict=True):
        for what in ("topics", "normalize"):
            theirs, first = getattr(member, what), getattr(members[0], what)
            if theirs != first:
                raise ModelError(
                    f"{run_dir}: differs from {run_dirs[0]} in {what}: {theirs!r} and {first!r}; "
                    "average runs of one config with different seeds"
                )
    scorers = {
        _model_dir(run_dir).resolve(): _without_exits(
            _transformer(member, run_dir), is_student=until_exit
        )
        for member, run_dir in zip(members, run_dirs, strict=True)
    }
    named = [_of_origin(scorer, scorers) for scorer in scorers.values()]
    return members, average_scorers(named)


def _model_dir(run_dir: Path) -> Path:
    """Return a run's model folder; a model folder is its own."""
    return run_dir / MODEL if (run_dir / MODEL).is_dir() else run_dir


def _without_exits(scorer: TransformerScorer, *, is_student: bool = False) -> TransformerScorer:
    """Drop the heads of early exits; of a student the layers after the first exit instead."""
    if not scorer.settings.exits:
        return scorer
    from torch import nn

    from relclass.models.network import keep_until_exit

    if is_student:
        keep_until_exit(scorer.network)
    scorer.network.exits, scorer.network.exit_heads = (), nn.ModuleList()
    return replace(scorer, settings=scorer.settings.model_copy(update={"exits": ()}))


def _of_origin(
    scorer: TransformerScorer, scorers: Mapping[Path, TransformerScorer]
) -> TransformerScorer:
    """Name the encoder that the chain of runs began with: one may have gone on from another."""
    encoder = scorer.settings.encoder
    while (before := scorers.get(Path(encoder).resolve())) is not None and before is not scorer:
        encoder = before.settings.encoder
    return replace(scorer, settings=scorer.settings.model_copy(update={"encoder": encoder}))


def _transformer(member: Classifier, run_dir: Path) -> TransformerScorer:
    if not isinstance(member.scorer, TransformerScorer):
        raise ModelError(
            f"{run_dir}: holds a model of kind {member.scorer.kind!r}, expected a transformer"
        )
    return member.scorer


def _calibrated(
    scorer: Scorer, member: Classifier, tuning: Examples, config: TrainConfig
) -> Classifier:
    calibration, thresholds = calibrate(tuning, scorer.score(tuning.texts), config.thresholds)
    return replace(member, scorer=scorer, calibration=calibration, thresholds=thresholds)


def _card(
    classifier: Classifier, averaged: TransformerScorer, dataset: Dataset, config: TrainConfig
) -> dict[str, Any]:
    whole = replace(classifier, scorer=averaged)
    metrics = {split: measure(classifier, dataset.part(split)) for split in ("validation", "test")}
    return {
        "config": resolved(config),
        "data": dict(dataset.checksum),
        "metrics": metrics,
        "parity": _parity(whole, classifier, dataset),
    }


def _student_parity(
    student: TransformerScorer, classifier: Classifier, dataset: Dataset
) -> dict[str, Any]:
    scorer = cast(OnnxScorer, classifier.scorer)
    small = replace(
        classifier,
        scorer=replace(scorer, session=scorer.student, student=None),
        calibration=Calibration("none"),
    )
    return _parity(replace(small, scorer=student), small, dataset)


def _parity(whole: Classifier, small: Classifier, dataset: Dataset) -> dict[str, Any]:
    return {
        split: asdict(compare(whole, small, dataset, split)) for split in ("validation", "test")
    }


def compare(whole: Classifier, small: Classifier, dataset: Dataset, split: str) -> Parity:
    """Label a split with both and say how far apart they are.

    Parameters
    ----------
    whole, small : classifiers that differ in the scorer alone.
    """
    texts, languages, y_true, _ = to_arrays(dataset.part(split), dataset.codebook)
    of_whole = whole.predict_proba(texts, languages)
    of_small = small.predict_proba(texts, languages)
    difference = np.abs(of_whole - of_small)
    is_alike = _same_pieces(whole, small, texts, languages)
    marks = [apply_thresholds(y_prob, small.thresholds) for y_prob in (of_whole, of_small)]
    return Parity(
        n_passages=len(texts),
        median=float(np.median(difference[is_alike])) if is_alike.any() else None,
        maximum=float(difference[is_alike].max()) if is_alike.any() else None,
        n_respelled=int((~is_alike).sum()),
        maximum_respelled=None if is_alike.all() else float(difference[~is_alike].max()),
        f1_float=macro_f1(y_true, marks[0]),
        f1_int8=macro_f1(y_true, marks[1]),
        n_flipped=int((marks[0] != marks[1]).sum()),
    )


def _same_pieces(
    whole: Classifier, small: Classifier, texts: Sequence[str], languages: Sequence[str]
) -> np.ndarray:
    """Say which passages the two tokenizers cut alike, shape (n_passages,), bool."""
    normalised = normalize_all(texts, languages, whole.normalize)
    pieces = []
    for classifier in (whole, small):
        tokenizer: Any = classifier.scorer.tokenizer  # type: ignore[attr-defined]
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        backend.no_truncation()
        backend.no_padding()
        pieces.append([encoding.tokens for encoding in backend.encode_batch(normalised)])
    return np.array([one == other for one, other in zip(*pieces, strict=True)], dtype=bool)
