"""One contender, measured in a process of its own: start-up, rate, peak memory, macro-F1.

Run as ``python -m relclass.benchmark.measure TASK.json``: it prints "ready" once the first passage
has its topics, and the figures as JSON at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

READY = "ready"
_MIN_SECONDS = 3.0
_MAX_ROUNDS = 5


@dataclass(frozen=True)
class Labelled:
    """Passages with their topics: what every contender is given."""

    texts: list[str]
    languages: list[str]
    y_true: list[list[int]]


@dataclass(frozen=True)
class Task:
    """What one contender has to do.

    Parameters
    ----------
    kind : "model", "pipeline", "sentence-transformers" or "setfit".
    source : a model of ours, or a checkpoint.
    batch_size : of the peers.
    n_threads : for each of them alike.
    train : what peers with a head of their own fit it on.
    """

    name: str
    kind: str
    source: str
    batch_size: int
    n_threads: int
    train: Labelled
    test: Labelled


@dataclass(frozen=True)
class Measurement:
    """The figures of one contender.

    Parameters
    ----------
    startup_s : from the start of the process to the first passage labelled.
    passages_per_s : in the best of some rounds over all passages.
    peak_mb : resident memory, MB.
    macro_f1 : in [0, 1]; None where the head is random.
    note : what the reader must know, such as "random head".
    """

    name: str
    startup_s: float
    passages_per_s: float
    peak_mb: float
    macro_f1: float | None
    note: str


class Contender(Protocol):
    """What is measured."""

    note: str

    def fit(self, train: Labelled) -> None:
        """Fit a head, where the contender has one of its own; not timed."""
        ...

    def predict(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray | None:
        """Return multi-hot topics, shape (n_passages, n_topics), or None from a random head."""
        ...


@dataclass
class OurModel:
    """A model of ours, by the way that users take: `predict_passages`."""

    source: str
    n_threads: int
    note: str = ""

    def __post_init__(self) -> None:
        from relclass.loading import choose_device, load_classifier, model_reference

        device = choose_device("cpu", model_reference(self.source).kind)
        self._clf = load_classifier(self.source, device=device, n_threads=self.n_threads)

    def fit(self, train: Labelled) -> None:
        """Do nothing: the model is fitted."""

    def predict(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Label passages."""
        from relclass.predict import predict_passages
        from relclass.records import Passage

        passages = (
            Passage("a", f"a/{n}", n, 0, len(text), language, text)
            for n, (text, language) in enumerate(zip(texts, languages, strict=True))
        )
        rows = [prediction.topics for prediction in predict_passages(passages, self._clf)]
        return np.array([[topic in row for topic in self._clf.topics] for row in rows], np.uint8)


def run_alone(task: Task, work_dir: Path) -> Measurement:
    """Measure a contender in a fresh process.

    Raises
    ------
    RuntimeError
        If it fails; its last lines are in the message.
    """
    path = work_dir / "task.json"
    path.write_text(json.dumps(asdict(task), ensure_ascii=False), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(task.n_threads)}
    environment |= {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    with (work_dir / "stderr.txt").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "relclass.benchmark.measure", str(path)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        lines = []
        startup_s = 0.0
        for line in process.stdout:
            if line.strip() == READY:
                startup_s = time.perf_counter() - began
            lines.append(line)
        if process.wait() != 0:
            errors.seek(0)
            raise RuntimeError(f"{task.name} failed:\n{errors.read()[-2000:]}")
    return Measurement(name=task.name, startup_s=startup_s, **json.loads(lines[-1]))


def measure(task: Task) -> dict[str, Any]:
    """Measure a contender in this process; all but the start-up."""
    contender = _build(task)
    contender.predict(task.test.texts[:1], task.test.languages[:1])
    print(READY, flush=True)
    contender.fit(task.train)
    best, spent, y_pred = float("inf"), 0.0, None
    for _ in range(_MAX_ROUNDS):
        began = time.perf_counter()
        y_pred = contender.predict(task.test.texts, task.test.languages)
        best = min(best, time.perf_counter() - began)
        spent += time.perf_counter() - began
        if spent > _MIN_SECONDS:
            break
    return {
        "passages_per_s": len(task.test.texts) / best,
        "peak_mb": peak_mb(),
        "macro_f1": None if y_pred is None else _macro_f1(task, y_pred),
        "note": contender.note,
    }


def peak_mb() -> float:
    """Give this process's peak resident memory so far, MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage on Linux also counts the parent that it was forked from
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _macro_f1(task: Task, y_pred: np.ndarray) -> float | None:
    from relclass.metrics import macro_f1

    return macro_f1(np.array(task.test.y_true, dtype=np.uint8), y_pred)


def _build(task: Task) -> Contender:
    if task.kind == "model":
        return OurModel(task.source, task.n_threads)
    from relclass.benchmark import peers

    return peers.build(task)


def main() -> None:
    """Measure the contender that the task file describes."""
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    content["train"] = Labelled(**content["train"])
    content["test"] = Labelled(**content["test"])
    print(json.dumps(measure(Task(**content))), flush=True)


if __name__ == "__main__":
    main()
