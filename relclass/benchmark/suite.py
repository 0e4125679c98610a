"""The whole comparison: our models and their peers on the same passages, one after another."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from relclass.benchmark.limit import count_operations, measure_limit, weight_sizes
from relclass.benchmark.measure import Labelled, Measurement, Task, run_alone
from relclass.benchmark.peers import write_random_head
from relclass.errors import MissingExtraError
from relclass.models.onnx import EMBEDDINGS, MODEL, OnnxScorer
from relclass.models.store import find_model
from relclass.models.windows import pad

logger = logging.getLogger(__name__)

PIPELINE = "pipeline, batch 1"
"""What the ratio is taken against: transformers as it comes."""
_N_COUNTED = 32  # passages whose operations are counted


@dataclass(frozen=True)
class Setup:
    """What is compared, on what.

    Parameters
    ----------
    train, test : passages for the peers' heads, and those that everyone labels.
    encoder : a checkpoint that transformers reads; the peers' encoder.
    models : ours, shipped names or folders.
    n_threads : for everyone.
    work_dir : for what lies between.
    """

    train: Labelled
    test: Labelled
    encoder: str
    models: tuple[str, ...]
    n_threads: int
    work_dir: Path


@dataclass(frozen=True)
class Share:
    """How near a model comes to the wall.

    Parameters
    ----------
    limit : int8 operations a second that products of its sizes alone reach.
    passages_per_s : of that wall, at this mean length.
    share : of it that the model reached, in [0, 1].
    """

    limit: float
    ops_per_passage: float
    passages_per_s: float
    share: float


def run_suite(setup: Setup, *, is_quick: bool) -> list[Measurement]:
    """Measure everyone in turn, each in a process of its own; SetFit only if not quick.

    A peer that is not installed is passed over with a warning.
    """
    checkpoint = setup.work_dir / "random-head"
    n_topics = len(setup.test.y_true[0])
    write_random_head(setup.encoder, checkpoint, n_topics)
    peers = [
        (PIPELINE, "pipeline", str(checkpoint), 1),
        ("pipeline, batch 32", "pipeline", str(checkpoint), 32),
        ("sentence-transformers + LR", "sentence-transformers", setup.encoder, 32),
    ]
    if not is_quick:
        peers.append(("SetFit", "setfit", setup.encoder, 32))
    ours = [(model, "model", model, 1) for model in setup.models]
    results = []
    for name, kind, source, batch_size in (*ours, *peers):
        task = Task(name, kind, source, batch_size, setup.n_threads, setup.train, setup.test)
        try:
            results.append(run_alone(task, setup.work_dir))
        except RuntimeError as error:
            if MissingExtraError.__name__ not in str(error):
                raise
            logger.warning("%s is not installed: left out", name)
    return results


def ratio_vs_pipeline(results: Iterable[Measurement], model: str) -> float:
    """Give the model's passages a second over the pipeline's as it comes."""
    rates = {result.name: result.passages_per_s for result in results}
    return rates[model] / rates[PIPELINE]


def share_of_limit(model: str, result: Measurement, setup: Setup) -> Share | None:
    """Compare an ONNX model with the machine's int8 wall; None for a model of another kind."""
    from relclass.loading import load_classifier

    path = find_model(model)
    if not (path / MODEL).is_file():
        return None
    scorer = cast(OnnxScorer, load_classifier(model, device="cpu").scorer)
    limit = measure_limit(weight_sizes(path / MODEL), n_threads=setup.n_threads)
    texts = setup.test.texts[:: max(1, len(setup.test.texts) // _N_COUNTED)]
    ops = _count(scorer, texts) / len(texts)
    return Share(limit, ops, limit / ops, result.passages_per_s * ops / limit)


def _count(scorer: OnnxScorer, texts: Sequence[str]) -> int:
    """Count the operations that a network reads some passages with, one by one."""
    batches = []
    for window in scorer.tokenize(texts).input_ids:
        ids, mask = pad([window], pad_token_id=scorer.pad_token_id)
        batches.append({"input_ids": ids, "attention_mask": mask})
    shared = scorer.model_dir / EMBEDDINGS
    rest = shared.read_bytes() if scorer.student is not None else b""
    return count_operations(scorer.model_dir / MODEL, batches, rest=rest)


def sample(passages: Labelled, n: int) -> Labelled:
    """Take n passages spread evenly, all if there are fewer."""
    total = len(passages.texts)
    places = [round(i * total / n) for i in range(n)] if n < total else range(total)
    return Labelled(
        [passages.texts[i] for i in places],
        [passages.languages[i] for i in places],
        [passages.y_true[i] for i in places],
    )


def to_markdown(results: Sequence[Measurement]) -> str:
    """Lay the figures out as a Markdown table."""
    base = next((r.passages_per_s for r in results if r.name == PIPELINE), float("nan"))
    lines = [
        "| | passages/s | x pipeline | start-up, s | peak, MB | macro-F1 | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for r in results:
        f1 = "–" if r.macro_f1 is None else f"{r.macro_f1:.3f}"
        lines.append(
            f"| {r.name} | {r.passages_per_s:,.1f} | {r.passages_per_s / base:.1f} | "
            f"{r.startup_s:.1f} | {r.peak_mb:,.0f} | {f1} | {r.note} |"
        )
    return "\n".join(lines)


def describe_machine(n_threads: int) -> str:
    """Say what it was measured on, and how busy that was."""
    name = "unknown processor"
    path = Path("/proc/cpuinfo")
    if path.is_file():
        names = [line for line in path.read_text().splitlines() if line.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    load = os.getloadavg()[0]
    n_cores = os.cpu_count() or 1
    busy = " (busy: figures are too low)" if load > n_cores / 2 else ""
    return f"{name}, {n_cores} cores, {n_threads} threads; load average {load:.1f}{busy}"
