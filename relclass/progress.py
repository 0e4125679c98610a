"""How far a batch job is: one live line on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from relclass.parts import Part

OnPart = Callable[[Part, bool], None]

_LOG_EVERY_S = 10.0
_SAMPLE_BYTES = 1 << 18


@dataclass
class Pace:
    """Counts what is done and reckons the rate and the time left.

    Parameters
    ----------
    n_expected : records in the inputs, about; None where that cannot be told.
    clock : gives seconds.
    """

    n_expected: int | None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.n_records = self.n_passages = self.n_rejects = 0
        self._began: float = self.clock()
        self._records_before = self._passages_before = 0

    def add(self, part: Part, *, is_new: bool) -> None:
        """Count a part; one of an earlier run counts as done but not for the rate."""
        self.n_records += part.n_read
        self.n_passages += part.n_passages
        self.n_rejects += part.n_rejects
        if not is_new:
            self._began = self.clock()
            self._records_before, self._passages_before = self.n_records, self.n_passages

    @property
    def share(self) -> float | None:
        """Of the records done, in [0, 1], where it can be told."""
        if not self.n_expected:
            return None
        return min(1.0, self.n_records / self.n_expected)

    def line(self) -> str:
        """Say how far it is: "12,000 passages, 214 a second, about 4 min left, 2 refused"."""
        seconds = max(1e-6, self.clock() - self._began)
        rate = (self.n_passages - self._passages_before) / seconds
        facts = [f"{self.n_passages:,} passages", f"{rate:,.0f} a second"]
        new = self.n_records - self._records_before
        left = (self.n_expected or 0) - self.n_records
        if new and left > 0:  # past an estimate that was too low, nothing can be said
            facts.append(f"about {in_words(left * seconds / new)} left")
        if self.n_rejects:
            facts.append(f"{self.n_rejects:,} refused")
        return ", ".join(facts)


@contextmanager
def show_progress(
    files: Sequence[str],
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[OnPart]:
    """Show how far a job is while its parts come in.

    Parameters
    ----------
    files : the inputs, for the time left.
    stream : where it is shown; None is standard error. A terminal gets one live line, anything
        else a line every ten seconds.
    clock : gives seconds.

    Yields
    ------
    The function to call with each part, and whether it is new or of an earlier run.
    """
    stream = sys.stderr if stream is None else stream
    pace = Pace(estimate_records(files), clock)
    shown = _live(pace, stream) if stream.isatty() else _logged(pace, stream)
    with shown as show:

        def on_part(part: Part, is_new: bool) -> None:
            pace.add(part, is_new=is_new)
            show()

        yield on_part


@contextmanager
def _live(pace: Pace, stream: TextIO) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task("loading the model", total=None)

        def show() -> None:
            total = None if pace.share is None else 1.0
            progress.update(task, description=pace.line(), completed=pace.share, total=total)

        yield show


@contextmanager
def _logged(pace: Pace, stream: TextIO) -> Iterator[Callable[[], None]]:
    last = pace.clock()

    def show() -> None:
        nonlocal last
        if pace.clock() - last >= _LOG_EVERY_S:
            last = pace.clock()
            print(f"relclass: {pace.line()}", file=stream, flush=True)

    yield show


def in_words(seconds: float) -> str:
    """Say a time in one unit: "40 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def estimate_records(files: Sequence[str]) -> int | None:
    """Estimate the records in the inputs from their sizes and beginnings.

    Returns
    -------
    None if a file is compressed, standard input or a pipe: its records cannot be told from its
    size, and a look at a pipe would take its beginning away.
    """
    total = 0.0
    for file in files:
        number = _estimate_file(file)
        if number is None:
            return None
        total += number
    return round(total)


def _estimate_file(file: str) -> float | None:
    if file == "-" or (os.path.exists(file) and not os.path.isfile(file)):
        return None
    path = Path(file)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return float(pq.ParquetFile(path).metadata.num_rows)
        if suffix in (".jsonl", ".ndjson", ".csv", ".tsv"):
            with path.open("rb") as stream:
                sample = stream.read(_SAMPLE_BYTES)
            lines = max(1, sample.count(b"\n"))
            return lines * max(1.0, path.stat().st_size / max(1, len(sample)))
    except (OSError, ValueError):
        return 1.0  # unreadable: one reject
    return None if suffix in (".gz", ".zst") else 1.0
