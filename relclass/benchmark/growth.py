"""How time and memory grow with the number of passages and with their length."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PASSAGES_PER_ARTICLE = 6
_RUN = """
import sys
from relclass.benchmark.measure import peak_mb
from relclass.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0, stop.code
print(peak_mb())
"""


@dataclass(frozen=True)
class Growth:
    """What ``relclass predict`` took.

    Parameters
    ----------
    n_passages : labelled.
    n_words : in each, about.
    seconds : of the whole command, start-up and the output file included.
    peak_mb : resident memory of the command's process, MB.
    """

    n_passages: int
    n_words: int
    seconds: float
    peak_mb: float


def measure_growth(
    model: str, texts: Sequence[str], work_dir: Path, *, n_passages: int, n_words: int
) -> Growth:
    """Label made-up articles with the command and one process.

    Parameters
    ----------
    texts : their words, shuffled, make the passages; none is like another.
    n_passages, n_words : how many, and how long.

    Raises
    ------
    RuntimeError
        If the command fails, or labels another number of passages.
    """
    inputs, output = work_dir / "growth.jsonl", work_dir / "growth-topics.jsonl"
    write_articles(inputs, texts, n_passages=n_passages, n_words=n_words)
    command = [
        sys.executable, "-c", _RUN, "predict", str(inputs), "--model", model, "--output",
        str(output), "--overwrite", "--workers", "1",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"The command failed:\n{done.stderr[-2000:]}")
    n_labelled = int(re.search(r"([\d,]+) passages;", done.stderr)[1].replace(",", ""))  # type: ignore[index]
    return Growth(n_labelled, n_words, seconds, float(done.stdout.split()[-1]))


def write_articles(
    path: Path, texts: Sequence[str], *, n_passages: int, n_words: int, seed: int = 0
) -> None:
    """Write articles whose passages are shuffled words of the texts."""
    rng = random.Random(seed)
    words = [word for text in texts for word in text.split()]
    with path.open("w", encoding="utf-8") as stream:
        for first in range(0, n_passages, _PASSAGES_PER_ARTICLE):
            n = min(_PASSAGES_PER_ARTICLE, n_passages - first)
            paragraphs = [" ".join(rng.choices(words, k=n_words)) for _ in range(n)]
            record = {"id": f"made-up-{first}", "text": "\n\n".join(paragraphs)}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
