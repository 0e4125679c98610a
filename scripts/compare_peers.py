"""Train the field's usual recipes on our splits and encoder, and write one table.

python scripts/compare_peers.py configs/default.yaml --peers tfidf hashing embeddings \
    --models default --output peers.md

Peers: tfidf (our baseline), hashing (fastText-style: averaged hashed words and character n-grams
under a linear model; Joulin et al. 2017, https://aclanthology.org/E17-2068), embeddings (the frozen
encoder's sentence embeddings with logistic regression), transformers (the recipe of its
run_classification example, multi-label) and setfit (Tunstall et al. 2022,
https://arxiv.org/abs/2209.11055). Each gets one global threshold, tuned on validation; the
figures are of --split. Needs torch for the last three, and the extra [peers] for setfit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relclass.calibration import sigmoid
from relclass.config import BaselineSettings, TrainConfig, TransformerSettings, load_config
from relclass.dataset import Dataset, load_dataset, to_arrays
from relclass.errors import ConfigError, DataError, MissingExtraError, ModelError
from relclass.evaluation import Bootstrap, Evaluation, Named, evaluate
from relclass.records import LabelledPassage
from relclass.thresholds import apply_thresholds, tune_thresholds

Score = Callable[[Sequence[str]], np.ndarray]
"""Texts to probabilities, shape (n_passages, n_topics)."""

HASH_BITS = 20
SHOTS = 64
"""Passages of each topic that setfit sees: it is a few-shot recipe, its pairs grow with the
square."""


@dataclass(frozen=True)
class Task:
    """What every peer is given.

    Parameters
    ----------
    texts : training passages, as read.
    y_true : shape (n_passages, n_topics).
    tuning : validation passages and their topics, where a peer needs them to stop or to choose.
    encoder : what `from_pretrained` loads.
    max_steps : of each fine-tuning, for a smoke run; None runs the recipe.
    """

    texts: list[str]
    y_true: np.ndarray
    tuning: tuple[list[str], np.ndarray]
    config: TrainConfig
    max_steps: int | None = None

    @property
    def transformer(self) -> TransformerSettings:
        """The config's encoder and its settings; the defaults if it is of another kind."""
        model = self.config.model
        return model if isinstance(model, TransformerSettings) else TransformerSettings()

    @property
    def encoder(self) -> str:
        """What `from_pretrained` loads."""
        from relclass.models.encoders import find_encoder

        return find_encoder(self.transformer.encoder)


@dataclass(frozen=True)
class Row:
    """One line of the table; times in seconds."""

    evaluation: Evaluation
    fit_s: float | None
    score_s: float


def fit_tfidf(task: Task) -> Score:
    """Fit our own baseline."""
    from relclass.models.baseline import fit_baseline

    scorer = fit_baseline(task.texts, task.y_true, None, BaselineSettings())
    return lambda texts: sigmoid(scorer.score(list(texts)))


def fit_hashing(task: Task) -> Score:
    """Fit a linear model on the average of hashed words, word pairs and character n-grams.

    fastText without its low rank, so that scikit-learn can fit it to the optimum; the strength of
    the penalty is chosen on validation.
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    views = [
        HashingVectorizer(analyzer=unit, ngram_range=sizes, n_features=2**HASH_BITS, norm="l2")
        for unit, sizes in (("word", (1, 2)), ("char_wb", (3, 5)))
    ]

    def features(texts: Sequence[str]) -> Any:
        return hstack([view.transform(texts) for view in views]).tocsr()

    x_train, (tuning_texts, tuning_true) = features(task.texts), task.tuning
    x_tuning = features(tuning_texts)
    best: tuple[float, list[Any]] = (-1.0, [])
    for strength in (1.0, 10.0, 100.0):
        models = [
            _Constant(column[0]) if len(set(column)) < 2
            else LogisticRegression(C=strength, solver="liblinear").fit(x_train, column)
            for column in task.y_true.T
        ]  # fmt: skip
        quality = _mean_average_precision(tuning_true, _columns(models, x_tuning))
        best = max(best, (quality, models), key=lambda pair: pair[0])
    return lambda texts: _columns(best[1], features(texts))


def fit_embeddings(task: Task) -> Score:
    """Fit a logistic regression on the frozen encoder's mean-pooled, normalised embeddings."""
    from sklearn.linear_model import LogisticRegression

    embed = _embedder(task)
    x_train = embed(task.texts)
    models = [
        _Constant(column[0]) if len(set(column)) < 2
        else LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(x_train, column)
        for column in task.y_true.T
    ]  # fmt: skip
    return lambda texts: _columns(models, embed(texts))


def fit_transformers(task: Task) -> Score:
    """Fine-tune as transformers' run_classification example does, with its defaults.

    Three epochs, batches of 8, learning rate 5e-5 falling to 0, 128 tokens, the architecture's
    own head. https://github.com/huggingface/transformers/tree/main/examples/pytorch/text-classification
    """
    try:
        import torch
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            Trainer,
            TrainingArguments,
            set_seed,
        )
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error

    set_seed(task.config.seed)
    tokenizer = AutoTokenizer.from_pretrained(task.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(
        task.encoder,
        num_labels=task.y_true.shape[1],
        problem_type="multi_label_classification",
    )

    def encode(texts: Sequence[str]) -> Any:
        return tokenizer(list(texts), truncation=True, max_length=128, padding=True)

    encoded = encode(task.texts)
    rows = [
        {key: torch.tensor(values[k]) for key, values in encoded.items()}
        | {"labels": torch.tensor(task.y_true[k], dtype=torch.float32)}
        for k in range(len(task.texts))
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=task.max_steps or -1, seed=task.config.seed,
            save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=rows).train()
    model.eval()

    def score(texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                list(texts[start : start + 32]), truncation=True, max_length=128, padding=True,
                return_tensors="pt",
            ).to(model.device)  # fmt: skip
            with torch.inference_mode():
                parts.append(model(**batch).logits.float().cpu().numpy())
        return sigmoid(np.concatenate(parts))

    return score


def fit_setfit(task: Task) -> Score:
    """Fit SetFit, one-vs-rest, on SHOTS passages of each topic and as many without any."""
    try:
        import datasets
        from setfit import SetFitModel, Trainer, TrainingArguments
    except ImportError as error:
        raise MissingExtraError(f"setfit ({error})", "peers") from error

    chosen = _draw_shots(task.y_true, seed=task.config.seed)
    prefix = task.transformer.prefix
    data = datasets.Dataset.from_dict({
        "text": [prefix + task.texts[k] for k in chosen], "label": task.y_true[chosen].tolist(),
    })  # fmt: skip
    model = SetFitModel.from_pretrained(task.encoder, multi_target_strategy="one-vs-rest")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, batch_size=16, num_epochs=1, seed=task.config.seed,
            max_steps=task.max_steps or 1000, report_to="none", save_strategy="no",
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=data).train()
    return lambda texts: np.asarray(model.predict_proba([prefix + t for t in texts], as_numpy=True))


PEERS: dict[str, Callable[[Task], Score]] = {
    "tfidf": fit_tfidf,
    "hashing": fit_hashing,
    "embeddings": fit_embeddings,
    "transformers": fit_transformers,
    "setfit": fit_setfit,
}


def run_peer(
    name: str, task: Task, dataset: Dataset, scored: Sequence[LabelledPassage], bootstrap: Bootstrap
) -> Row:
    """Fit one peer, tune its threshold on validation and score it."""
    start = time.perf_counter()
    score = PEERS[name](task)
    fit_s = time.perf_counter() - start
    tuning_texts, tuning_true = task.tuning
    thresholds = tune_thresholds(tuning_true, score(tuning_texts), tuning="global")
    start = time.perf_counter()
    y_prob = np.clip(score([passage.text for passage in scored]), 0, 1)
    score_s = time.perf_counter() - start
    evaluation = evaluate(
        scored, y_prob, apply_thresholds(y_prob, thresholds), dataset.codebook,
        names=Named(name, "peers"), bootstrap=bootstrap,
    )  # fmt: skip
    return Row(evaluation, fit_s, score_s)


def run_model(
    source: str, dataset: Dataset, scored: Sequence[LabelledPassage], bootstrap: Bootstrap
) -> Row:
    """Score a model that was trained before, as it is."""
    from relclass.scoring import Gold, evaluate_source

    gold = Gold("peers", list(scored), dataset.codebook)
    start = time.perf_counter()
    evaluation = evaluate_source(source, gold, bootstrap=bootstrap, n_mistakes=0)
    return Row(evaluation, None, time.perf_counter() - start)


def build_table(rows: Sequence[Row]) -> str:
    """Lay the rows out as Markdown, the best macro-F1 first."""
    head = ["model", "macro F1", "micro F1", "mean average precision", "training, s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    names = ("macro_f1", "micro_f1", "macro_average_precision")
    for row in sorted(rows, key=lambda r: -(r.evaluation.overall.overall["macro_f1"].value or 0)):
        figures = [str(row.evaluation.overall.overall[name]) for name in names]
        seconds = "before" if row.fit_s is None else f"{row.fit_s:.0f}"
        lines.append("| " + " | ".join([row.evaluation.model, *figures, seconds]) + " |")
    overall = rows[0].evaluation.overall
    about = (
        f"{overall.n_passages:,} passages of {overall.n_articles:,} articles; intervals: "
        f"{rows[0].evaluation.bootstrap.confidence:.0%}, bootstrap over articles."
    )
    return "\n".join([about, "", *lines]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the peers that the command line names."""
    options = _parse(arguments)
    config = load_config(options.config, options.set)
    dataset = load_dataset(config.data)
    train, tuning, scored = (
        dataset.part(split, origin=options.origin)[: options.limit]
        for split in ("train", "validation", options.split)
    )
    train_arrays, tuning_arrays = (to_arrays(part, dataset.codebook) for part in (train, tuning))
    task = Task(
        texts=train_arrays.texts,
        y_true=train_arrays.y_true,
        tuning=(tuning_arrays.texts, tuning_arrays.y_true),
        config=config,
        max_steps=options.max_steps,
    )
    bootstrap = replace(Bootstrap(), n_resamples=options.resamples)
    rows = [run_model(source, dataset, scored, bootstrap) for source in options.models]
    for name in options.peers:
        rows.append(run_peer(name, task, dataset, scored, bootstrap))
        print(f"{name}: {rows[-1].evaluation.overall.overall['macro_f1']}", flush=True)
        if options.output:  # after each, so that a long run shows what it has
            Path(options.output).write_text(build_table(rows), encoding="utf-8")
    print(build_table(rows))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose data, seed and encoder are used")
    parser.add_argument("set", nargs="*", help="settings to change: section.key=value")
    parser.add_argument("--peers", nargs="+", default=["tfidf", "hashing"], choices=[*PEERS])
    parser.add_argument("--models", nargs="*", default=[], help="our models, as trained before")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--origin", choices=("real", "authored"))
    parser.add_argument("--output", type=Path, help="Markdown to write")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--limit", type=int, help="passages of each split, for a smoke run")
    parser.add_argument("--max-steps", type=int, help="of each fine-tuning, for a smoke run")
    return parser.parse_intermixed_args(arguments)


@dataclass(frozen=True)
class _Constant:
    """Stands in for a model of a topic that all or no training passages have."""

    value: float

    def predict_proba(self, x: Any) -> np.ndarray:
        positive = np.full(x.shape[0], float(self.value))
        return np.stack([1 - positive, positive], axis=1)


def _columns(models: Sequence[Any], x: Any) -> np.ndarray:
    return np.stack([model.predict_proba(x)[:, 1] for model in models], axis=1)


def _mean_average_precision(y_true: np.ndarray, y_prob: np.ndarray) -> float:
    from relclass.metrics import average_precision

    figures = average_precision(y_true, y_prob)
    return float(np.nanmean(figures)) if not np.isnan(figures).all() else 0.0


def _embedder(task: Task) -> Callable[[Sequence[str]], np.ndarray]:
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error

    tokenizer = AutoTokenizer.from_pretrained(task.encoder)
    model = AutoModel.from_pretrained(task.encoder).eval()
    prefix, max_length = task.transformer.prefix, task.transformer.max_length

    def embed(texts: Sequence[str]) -> np.ndarray:
        order = np.argsort([len(text) for text in texts])
        pooled = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(texts), 32):
            rows = order[start : start + 32]
            batch = tokenizer(
                [prefix + texts[k] for k in rows], truncation=True, max_length=max_length,
                padding=True, return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state  # (batch, seq_len, hidden)
            mask = batch["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            pooled[rows] = torch.nn.functional.normalize(mean.float(), dim=1).numpy()
        return pooled

    return embed


def _draw_shots(y_true: np.ndarray, *, seed: int) -> np.ndarray:
    """Draw SHOTS passages of each topic, and as many without a topic, each once."""
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero(column) for column in y_true.T]
    pools.append(np.flatnonzero(~y_true.astype(bool).any(axis=1)))
    drawn = [rng.permutation(pool)[:SHOTS] for pool in pools]
    return np.unique(np.concatenate(drawn))


if __name__ == "__main__":
    try:
        main()
    except (ConfigError, DataError, MissingExtraError, ModelError) as error:
        raise SystemExit(f"compare_peers: {error}") from error
