"""Label chunks on Ray Data: one task reads, actors that hold the model label and write.

The inputs and the run folder must lie where every machine of the cluster sees them by the same
path. An actor that dies is started again and its chunk labelled anew: a part is written whole or
not at all, so nothing comes twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relclass.chunks import Chunk, ChunkSource
from relclass.errors import ConfigError, DataError, MissingExtraError, ModelError
from relclass.parts import LabelSettings, Part, load_labeller

if TYPE_CHECKING:
    import numpy as np

_TRIES = 3
"""Times that a chunk is begun again before a dying actor is taken for the chunk's fault."""


def label_chunks(
    chunks: ChunkSource, settings: LabelSettings, *, n_workers: int = 1
) -> Iterator[Part]:
    """Label chunks and write their parts; one Ray actor a worker.

    Without a running cluster (``ray start``, or the variable RAY_ADDRESS) one is started on this
    machine and ended afterwards.

    Parameters
    ----------
    chunks : files only, not standard input.
    n_workers : actors; each takes one CPU, and one GPU where the device is "cuda".

    Yields
    ------
    The parts as they are finished, in any order.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    ConfigError, DataError, ModelError
        As raised on a worker; ConfigError also for standard input.
    """
    if "-" in chunks.inputs:
        raise ConfigError("Standard input cannot be read on Ray: use --engine local.")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        _start(n_workers)
    try:
        for row in _pipeline(chunks, settings, n_workers).iter_rows():
            yield Part.from_json(row["part"])
    except (ConfigError, DataError, ModelError) as error:
        raise _plain(error) from None
    finally:
        if is_ours:
            ray.shutdown()


def _start(n_workers: int) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" not in os.environ:
        n_cpus = max(n_workers, os.cpu_count() or 1)
        options.update(num_cpus=n_cpus, include_dashboard=False)
    ray.init(**options)


def _pipeline(chunks: ChunkSource, settings: LabelSettings, n_workers: int) -> Any:
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block a chunk, so that each goes to the next free actor
    context.target_min_block_size = 1
    # the reader waits for the actors most of the time, so it takes no CPU of theirs
    read = ray.data.read_datasource(_source_of(chunks), override_num_blocks=1, num_cpus=0)
    is_gpu = settings.device == "cuda"
    return read.map_batches(
        _Labeller,
        fn_constructor_args=(settings, os.getcwd()),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=n_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=1 if is_gpu else 0,
        ray_remote_args_fn=_endure,
    )


def _endure() -> dict[str, int]:
    """Start a dead actor again as often as needed, but begin one chunk only so often."""
    return {"max_restarts": -1, "max_task_retries": _TRIES}


class _Labeller:
    """The actor: a model, and what it is to do."""

    def __init__(self, settings: LabelSettings, folder: str) -> None:
        os.chdir(folder)  # the driver's, from where relative paths lead
        self._label = load_labeller(settings)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        chunks: list[Chunk] = list(batch["chunk"])
        return {"part": [self._label(chunk).to_json() for chunk in chunks]}


def _source_of(chunks: ChunkSource) -> Any:
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    folder = os.getcwd()

    def read() -> Iterator[Any]:
        import pandas as pd

        os.chdir(folder)
        for chunk in chunks:
            yield pd.DataFrame({"chunk": [chunk]})

    class ChunkDatasource(Datasource):  # type: ignore[misc]
        """One task that reads the files in order, a block a chunk."""

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, **_: Any
        ) -> list[Any]:
            metadata = BlockMetadata(
                num_rows=None, size_bytes=None, input_files=None, exec_stats=None
            )
            return [ReadTask(read, metadata)]

        def estimate_inmemory_data_size(self) -> int | None:
            return None

    return ChunkDatasource()


def _plain(error: Exception) -> Exception:
    """Undo Ray's wrapping: the cause's own message, without a remote traceback."""
    cause = getattr(error, "cause", error)
    for kind in (ConfigError, DataError, ModelError):
        if isinstance(cause, kind):
            return kind(str(cause))
    return error
