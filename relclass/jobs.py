"""A batch job: inputs -> parts -> one output file, and on from where it was when it is killed.

Beside ``OUTPUT`` stands the run folder ``OUTPUT.run``: ``job.json`` says what the job is,
``parts/`` holds what is finished, ``done.json`` the counts at the end, when the parts are gone.
Chunks are always cut in the same places and each is labelled by itself, so a job that was
interrupted gives the same bytes as one that was not, with any number of workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import relclass
from relclass.articles import Columns
from relclass.batching import BatchSettings
from relclass.chunks import ChunkSource
from relclass.errors import ConfigError, DataError
from relclass.job_folder import (
    clear,
    hash_file,
    list_files,
    locked,
    prepare,
    read_done,
    refuse_changed_inputs,
    stat_inputs,
)
from relclass.loading import Device, ModelReference, available_cores
from relclass.parts import (
    LabelSettings,
    Part,
    data_path,
    explain_failed_write,
    rejects_path,
    state_path,
    write_atomically,
)
from relclass.passages import PassageSettings
from relclass.records import Reject
from relclass.summary import Tally, merge_tallies
from relclass.writers import OutputFormat, Unit, count_records, join_parts, output_format

FORMAT_VERSION = 1
_SMALL_JOB_BYTES = 4_000_000
"""Of inputs: about 5,000 Persian passages."""
_SINGLE_THREADED = ("lexicon", "baseline")
"""Kinds of model that use one core a process."""
Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Job:
    """What is labelled, by what and to where. All of it decides the output's bytes.

    Parameters
    ----------
    inputs : files and folders, in order; "-" is standard input.
    output : by its suffix JSONL, CSV or Parquet.
    device : "cpu", "cuda" or "mps"; other devices round otherwise.
    chunk_chars : characters of text in a part, about; what is lost at most by a kill.
    """

    inputs: tuple[str, ...]
    output: Path
    model: ModelReference
    unit: Unit = "passage"
    device: Device = "cpu"
    columns: Columns = field(default_factory=Columns)
    passages: PassageSettings = field(default_factory=PassageSettings)
    batching: BatchSettings = field(default_factory=BatchSettings)
    chunk_chars: int = 300_000

    @property
    def run_dir(self) -> Path:
        """The run folder beside the output."""
        return self.output.with_name(self.output.name + ".run")

    @property
    def rejects(self) -> Path:
        """The file of refused records beside the output."""
        return self.output.with_name(self.output.name + ".rejects.jsonl")


@dataclass(frozen=True)
class Workforce:
    """Who does a job. None of it changes the output.

    Parameters
    ----------
    engine : this machine, or a Ray cluster.
    n_workers : processes or actors.
    n_threads : of the model in one worker; None leaves it to the model.
    """

    engine: Engine = "local"
    n_workers: int = 1
    n_threads: int | None = None


def choose_workforce(
    job: Job, *, engine: Engine = "local", n_workers: int | None = None
) -> Workforce:
    """Choose the number of workers, where it is not given, and their threads.

    Starting a worker takes a second and its own copy of the model, so small jobs stay in one
    process; so do those on a GPU, which one process fills, and networks on a CPU, which fill its
    cores by threads (on two cores one process was 1.4 times as fast as two).
    """
    n_cores = available_cores()
    if n_workers is None:
        n_bytes = sum(size or 0 for _, size, _ in stat_inputs(list_files(job.inputs)))
        is_small = n_bytes < _SMALL_JOB_BYTES and engine == "local"
        is_one_enough = job.device != "cpu" or (
            engine == "local" and job.model.kind not in _SINGLE_THREADED
        )
        n_workers = 1 if is_small or is_one_enough else n_cores
    return Workforce(engine, n_workers, max(1, n_cores // n_workers))


@dataclass(frozen=True)
class JobReport:
    """The counts at the end: ``n_read == n_articles + n_rejects``.

    Parameters
    ----------
    n_read : records in the inputs.
    n_articles, n_rejects : those labelled and those refused.
    n_passages : passages labelled.
    n_written : records in the output.
    sha256 : of the output, hexadecimal.
    tallies : counts by month, for a summary.
    was_done : whether the job was finished before and nothing had to be done.
    """

    n_read: int
    n_articles: int
    n_rejects: int
    n_passages: int
    n_written: int
    sha256: str
    tallies: tuple[Tally, ...]
    was_done: bool = False


def run_job(
    job: Job,
    workforce: Workforce | None = None,
    *,
    overwrite: bool = False,
    fail_fast: bool = False,
    on_part: Callable[[Part, bool], None] | None = None,
) -> JobReport:
    """Do a job, or go on with it where it was interrupted.

    Parameters
    ----------
    overwrite : replace a finished output, or an unfinished run of another job.
    fail_fast : stop at the first record refused, instead of putting it aside.
    on_part : called with each part finished and whether it is new; those of an earlier run come
        first.

    Raises
    ------
    ConfigError
        If the output is there already, an unfinished run there is of another model or other
        options, another process is at it, or it must not be written.
    DataError
        If an input changed since the run was begun, the disk is full, or, with `fail_fast`, a
        record is refused.
    """
    workforce = Workforce() if workforce is None else workforce
    _check_output(job)
    identity = _identify(job)
    with locked(job.run_dir):
        with explain_failed_write(job.run_dir):
            state = prepare(job.run_dir, job.output, identity, overwrite=overwrite)
        if state == "done":
            return _done_report(job)
        tell = on_part if on_part is not None else lambda part, is_new: None
        parts = {part.number: part for part in _finished_parts(job.run_dir / "parts")}
        for part in parts.values():
            tell(part, False)
        for part in _label(job, workforce, dict(parts), fail_fast):
            parts[part.number] = part
            tell(part, True)
        refuse_changed_inputs(identity["inputs"], stat_inputs(list_files(job.inputs)))
        with explain_failed_write(job.output):
            return _finish(job, [parts[number] for number in sorted(parts)])


def _identify(job: Job) -> dict[str, Any]:
    """Say all that decides the output's bytes, as JSON will give it back."""
    identity = {
        "format_version": FORMAT_VERSION,
        "relclass": relclass.__version__,
        "model": {"name": job.model.name, "sha256": job.model.sha256},
        "options": {
            "unit": job.unit,
            "device": job.device,
            "format": _output_format(job).kind + _output_format(job).compression,
            "chunk_chars": job.chunk_chars,
            "columns": asdict(job.columns),
            "passages": asdict(job.passages),
            "batching": asdict(job.batching),
        },
        "inputs": stat_inputs(list_files(job.inputs)),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(identity))
    return loaded


def _output_format(job: Job) -> OutputFormat:
    return output_format(job.output, unit=job.unit, topics=job.model.topics)


def _check_output(job: Job) -> None:
    if job.output.is_dir():
        raise ConfigError(f"{job.output} is a folder, but the output is one file: name a file.")
    output = job.output.resolve()
    for name in job.inputs:
        path = Path(name).resolve()
        if name != "-" and (path in (output, job.rejects.resolve()) or path in output.parents):
            raise ConfigError(
                f"{job.output} lies among the inputs ({name}), and the next run would read it: "
                "choose an output outside of them."
            )


def _done_report(job: Job) -> JobReport:
    content = read_done(job.run_dir)
    if hash_file(job.output) != content["sha256"]:
        raise ConfigError(
            f"{job.output} was changed since this job wrote it. Choose another name, or make it "
            "anew with --overwrite."
        )
    tallies = tuple(Tally.from_dict(tally) for tally in content["tallies"])
    return JobReport(**{**content, "tallies": tallies, "was_done": True})


def _label(
    job: Job, workforce: Workforce, finished: Mapping[int, Part], fail_fast: bool
) -> Iterator[Part]:
    """Yield the parts that are missing as they are finished."""
    source = ChunkSource(
        inputs=job.inputs,
        columns=job.columns,
        chunk_chars=job.chunk_chars,
        finished={number: part.digest for number, part in finished.items()},
        fail_fast=fail_fast,
    )
    settings = LabelSettings(
        model=job.model.source,
        device=job.device,
        n_threads=workforce.n_threads,
        parts_dir=job.run_dir / "parts",
        output=_output_format(job),
        passages=job.passages,
        batching=job.batching,
    )
    if workforce.engine == "ray":
        from relclass.engines.ray import label_chunks as label_on_ray

        made = label_on_ray(source, settings, n_workers=workforce.n_workers)
    else:
        from relclass.engines.local import label_chunks

        made = label_chunks(source, settings, n_workers=workforce.n_workers)
    for part in made:
        yield part
        if fail_fast and part.n_rejects:
            with rejects_path(settings.parts_dir, part.number).open(encoding="utf-8") as stream:
                first = json.loads(stream.readline())
            raise DataError(str(Reject(first["file"], first["line"], first["reason"])))


def _finish(job: Job, parts: list[Part]) -> JobReport:
    """Join the parts, check the counts, put the output in its place, remove the parts."""
    parts_dir, output = job.run_dir / "parts", _output_format(job)
    joined, rejects = job.run_dir / "output.tmp", job.run_dir / "rejects.tmp"
    join_parts(_checked_data(parts_dir, parts), joined, output)
    with rejects.open("wb") as stream:
        for part in parts:
            if part.n_rejects:
                stream.write(rejects_path(parts_dir, part.number).read_bytes())
        stream.flush()
        os.fsync(stream.fileno())
    report = JobReport(
        n_read=sum(part.n_read for part in parts),
        n_articles=sum(part.n_articles for part in parts),
        n_rejects=sum(part.n_rejects for part in parts),
        n_passages=sum(part.n_passages for part in parts),
        n_written=count_records(joined, output),
        sha256=hash_file(joined),
        tallies=tuple(merge_tallies(t for part in parts for t in part.tallies).values()),
    )
    _check_counts(report, parts, rejects)
    if report.n_rejects:
        rejects.replace(job.rejects)
    else:
        job.rejects.unlink(missing_ok=True)  # of a run that was overwritten
    joined.replace(job.output)
    write_atomically(job.run_dir / "done.json", json.dumps(asdict(report)).encode())
    clear(job.run_dir, keep=("job.json", "done.json", "lock"))
    return report


def _check_counts(report: JobReport, parts: list[Part], rejects: Path) -> None:
    with rejects.open("rb") as stream:
        n_rejects = sum(1 for _ in stream)
    expected = sum(part.n_records for part in parts)
    if (
        report.n_read != report.n_articles + report.n_rejects
        or report.n_written != expected
        or report.n_rejects != n_rejects
    ):
        raise RuntimeError(
            f"The counts do not agree: {report.n_read} records read, {report.n_articles} labelled, "
            f"{report.n_rejects} refused, {n_rejects} in the file of rejects; {expected} records "
            f"made, {report.n_written} in the output. The run is kept in {rejects.parent}."
        )


def _checked_data(parts_dir: Path, parts: Iterable[Part]) -> Iterator[Path]:
    for part in parts:
        path = data_path(parts_dir, part.number)
        if hash_file(path) != part.sha256:
            state_path(parts_dir, part.number).unlink()
            raise DataError(
                f"{path}: not what was written there. Run the same command again: the part will "
                "be made anew."
            )
        yield path


def _finished_parts(parts_dir: Path) -> Iterator[Part]:
    for path in sorted(parts_dir.glob("part-*.json")):
        part = Part.from_json(path.read_text(encoding="utf-8"))
        if data_path(parts_dir, part.number).exists():
            yield part
    for path in parts_dir.glob("*.tmp"):
        path.unlink(missing_ok=True)
