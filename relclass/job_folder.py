"""The run folder of a batch job: whose it is, whether to begin, go on or be done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from relclass.articles import is_read_in_folder, walk_folder
from relclass.errors import ConfigError, DataError
from relclass.parts import write_atomically

State = Literal["begin", "go_on", "done"]
InputStat = list[Any]
"""[path, bytes, nanoseconds of the last change]; the last two are None for what is no file."""


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder, so that two processes never write one output.

    The system lets go of the lock when the process ends, however it ends.

    Raises
    ------
    ConfigError
        If another process holds it, or it cannot be made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / "lock").open("w")
    except OSError as error:
        raise ConfigError(f"{run_dir}: cannot write there: {error.strerror}") from error
    with lock as stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has none
            pass
        except BlockingIOError as error:
            raise ConfigError(
                f"{run_dir}: another process is writing this output. Wait for it, or choose "
                "another name."
            ) from error
        try:
            yield
        finally:
            if os.listdir(run_dir) == ["lock"]:  # refused: leave nothing behind
                shutil.rmtree(run_dir)


def prepare(run_dir: Path, output: Path, identity: dict[str, Any], *, overwrite: bool) -> State:
    """Make the run folder ready for a job.

    Parameters
    ----------
    identity : all that decides the output's bytes; what differs is named in the error.
    overwrite : whether what is there may be replaced.

    Returns
    -------
    "begin" with an empty folder, "go_on" with that of an interrupted run of the same job, or
    "done" if it was finished. But for "done", there is a folder for the parts.

    Raises
    ------
    ConfigError, DataError
        If there is something else and `overwrite` is not set; DataError where it is the same job
        but an input changed.
    """
    try:
        before = _read_json(run_dir / "job.json")
    except DataError:
        if not overwrite:
            raise
        before = None
    is_done = (run_dir / "done.json").exists()
    if not overwrite:
        if before is None and output.exists():
            raise ConfigError(
                f"{output} is there already. Choose another name, or replace it with --overwrite."
            )
        if before is not None:
            _refuse_another_job(output, before, identity, is_done=is_done)
    if before == identity and not is_done:
        (run_dir / "parts").mkdir(exist_ok=True)
        return "go_on"
    if before == identity and output.exists() and not overwrite:
        clear(run_dir, keep=("job.json", "done.json", "lock"))
        return "done"
    (run_dir / "job.json").unlink(missing_ok=True)  # first: what is half cleared is of no job
    clear(run_dir, keep=("lock",))
    (run_dir / "parts").mkdir()
    # in ASCII, which also holds a file name that is not UTF-8
    write_atomically(run_dir / "job.json", json.dumps(identity).encode())
    return "begin"


def read_done(run_dir: Path) -> dict[str, Any]:
    """Read the counts of a finished job."""
    content = _read_json(run_dir / "done.json")
    if content is None:
        raise DataError(f"{run_dir}/done.json: cannot be read. Start over with --overwrite.")
    return content


def clear(run_dir: Path, *, keep: Iterable[str]) -> None:
    """Remove everything from the run folder but the names to keep."""
    kept = set(keep)
    for path in run_dir.iterdir():
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def list_files(inputs: Sequence[str]) -> list[str]:
    """Spell folders out: the files below them that are read, also linked ones, by name."""
    files = []
    for name in inputs:
        if not os.path.isdir(name):
            files.append(name)
            continue
        files += [path for path in walk_folder(name) if is_read_in_folder(os.path.basename(path))]
    return files


def stat_inputs(files: Sequence[str]) -> list[InputStat]:
    """Note each input's size and time of last change.

    A missing file has None for both, and so has a pipe, whose time moves while it is read.
    """
    return [[file, *_stat_file(file)] for file in files]


def _stat_file(file: str) -> tuple[int | None, int | None]:
    try:
        status = None if file == "-" else os.stat(file)
    except OSError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        return None, None
    return status.st_size, status.st_mtime_ns


def refuse_changed_inputs(before: Sequence[InputStat], now: Sequence[InputStat]) -> None:
    """Raise if an input is not what it was when the run was begun.

    Raises
    ------
    DataError
        Naming the first file that changed, came or went.
    """
    was, is_now = ({file: facts for file, *facts in stats} for stats in (before, now))
    for file, (size, _) in was.items():
        if file not in is_now:
            what = "is no longer among the inputs"
        elif is_now[file] == was[file]:
            continue
        elif size is None:
            what = "was missing when the run was begun"
        elif is_now[file][0] is None:
            what = "is missing now"
        elif is_now[file][0] != size:
            what = f"has {is_now[file][0]} bytes, and had {size} when the run was begun"
        else:
            what = "was written to since the run was begun"
        raise DataError(f"{file}: the input changed: it {what}. Start over with --overwrite.")
    for file in is_now:
        if file not in was:
            raise DataError(
                f"{file}: the inputs changed: it was not among them when the run was begun. Start "
                "over with --overwrite."
            )
    if [file for file, *_ in before] != [file for file, *_ in now]:
        raise DataError(
            "The inputs changed: they come in another order than when the run was begun. Give "
            "them in the same order, or start over with --overwrite."
        )


def hash_file(path: Path) -> str:
    """Give a file's SHA-256, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse_another_job(
    output: Path, before: dict[str, Any], identity: dict[str, Any], *, is_done: bool
) -> None:
    what = "was made by another job" if is_done else "has an unfinished run of another job"
    differences = list(_differences(before, identity))
    if differences:
        raise ConfigError(
            f"{output} {what}: {'; '.join(differences)}. Run the same command as before, choose "
            "another name, or start over with --overwrite."
        )
    refuse_changed_inputs(before["inputs"], identity["inputs"])


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for key in ("format_version", "relclass"):
        if before.get(key) != now[key]:
            yield f"relclass was {before.get('relclass')}, now {now['relclass']}"
            return
    if before["model"] != now["model"]:
        old, new = (f"{m['name']} ({m['sha256'][:12]})" for m in (before["model"], now["model"]))
        yield f"the model was {old}, now {new}"
    yield from _option_differences(before["options"], now["options"], "")


def _option_differences(before: dict[str, Any], now: dict[str, Any], prefix: str) -> Iterator[str]:
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _option_differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"the option {prefix}{key} was {old}, now {new}"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path}: not the JSON that a run leaves ({error}). Start over with --overwrite."
        ) from error
    return content
