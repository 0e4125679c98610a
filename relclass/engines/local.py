"""Label chunks in this process, or in several on this machine."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from relclass.chunks import Chunk
from relclass.errors import ConfigError, DataError, MissingExtraError, ModelError
from relclass.parts import LabelSettings, Part, load_labeller

logger = logging.getLogger(__name__)

_TRIES = 2
"""Times that a chunk is begun before the worker's death is taken for the chunk's fault."""

Label = Callable[[Chunk], Part]
MakeLabel = Callable[[LabelSettings], Label]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    chunk: Chunk | None = None


def label_chunks(
    chunks: Iterable[Chunk],
    settings: LabelSettings,
    *,
    n_workers: int = 1,
    make_label: MakeLabel = load_labeller,
) -> Iterator[Part]:
    """Label chunks and write their parts.

    Parameters
    ----------
    chunks : read one ahead of the workers.
    n_workers : processes; 1 stays in this one.
    make_label : loads the model; called once in each worker, so it must be importable there.

    Yields
    ------
    The parts as they are finished, with several workers in any order.

    Raises
    ------
    DataError, ConfigError, ModelError
        As raised in a worker.
    RuntimeError
        If a worker dies twice over the same chunk, or fails otherwise.
    """
    if n_workers > 1:
        yield from _label_in_processes(chunks, settings, n_workers, make_label)
        return
    label = make_label(settings)
    for chunk in chunks:
        yield label(chunk)


def _label_in_processes(
    chunks: Iterable[Chunk], settings: LabelSettings, n_workers: int, make_label: MakeLabel
) -> Iterator[Part]:
    source = iter(chunks)
    ahead: deque[Chunk] = deque()
    tries: Counter[int] = Counter()
    workers: list[_Worker] = []
    try:
        while True:
            _read_ahead(source, ahead, workers, n_workers)
            while ahead and (worker := _idle_worker(workers, n_workers, settings, make_label)):
                _hand_over(worker, ahead.popleft(), tries)
            busy = {worker.connection: worker for worker in workers if worker.chunk is not None}
            if not busy:
                return
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                part = _receive(worker)
                if part is None:  # the worker died; its chunk goes first to the next
                    workers.remove(worker)
                    ahead.appendleft(_bury(worker, tries))
                else:
                    worker.chunk = None
                    yield part
    finally:
        for worker in workers:
            worker.connection.close()
            worker.process.terminate()
            worker.process.join()


def _read_ahead(
    source: Iterator[Chunk], ahead: deque[Chunk], workers: list[_Worker], n_workers: int
) -> None:
    """Read one chunk a worker while they work, but keep no finished one waiting."""
    while len(ahead) < n_workers:
        busy = [worker.connection for worker in workers if worker.chunk is not None]
        if ahead and (len(busy) < n_workers or wait(busy, timeout=0)):
            return
        chunk = next(source, None)
        if chunk is None:
            return
        ahead.append(chunk)


def _idle_worker(
    workers: list[_Worker], n_workers: int, settings: LabelSettings, make_label: MakeLabel
) -> _Worker | None:
    for worker in workers:
        if worker.chunk is None:
            return worker
    if len(workers) == n_workers:
        return None
    # spawn: a forked copy of a process with onnxruntime's or torch's threads can hang
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, settings, make_label), daemon=True)
    process.start()
    theirs.close()  # only the worker holds it now, so its death reads as the end of the pipe
    workers.append(_Worker(process, ours))
    return workers[-1]


def _hand_over(worker: _Worker, chunk: Chunk, tries: Counter[int]) -> None:
    worker.chunk = chunk
    tries[chunk.number] += 1
    with suppress(BrokenPipeError):  # it died: its end of the pipe says so when it is read
        worker.connection.send(chunk)


def _receive(worker: _Worker) -> Part | None:
    """Return the worker's part, raise its error, or return None if it died."""
    try:
        answer: Any = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return None
    if isinstance(answer, Part):
        return answer
    raise answer


def _bury(worker: _Worker, tries: Counter[int]) -> Chunk:
    worker.process.join()
    worker.connection.close()
    chunk = worker.chunk
    assert chunk is not None
    code = worker.process.exitcode
    if tries[chunk.number] >= _TRIES:
        first = chunk.articles[0].article_id if chunk.articles else "-"
        raise RuntimeError(
            f"A worker died twice (exit code {code}) over part {chunk.number}, which begins with "
            f"article {first!r}. Exit code -9 is most often too little memory: use fewer workers. "
            "What is finished is kept."
        )
    logger.warning("A worker died (exit code %s); part %d is done again.", code, chunk.number)
    return chunk


def _work(connection: Connection, settings: LabelSettings, make_label: MakeLabel) -> None:
    """Label what comes through the pipe until it ends, as it does when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers Ctrl-C
    try:
        label = make_label(settings)
        while True:
            connection.send(label(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except (ConfigError, DataError, ModelError) as error:
        connection.send(type(error)(str(error)))
    except MissingExtraError as error:
        connection.send(ImportError(str(error)))
    except Exception:
        connection.send(RuntimeError(f"A worker failed:\n{traceback.format_exc()}"))
