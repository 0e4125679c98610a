"""A teacher's pooled states of the training passages, for a network that learns to give them too.

Matching states as well as probabilities: Sanh et al. 2019, https://arxiv.org/abs/1910.01108, and
Jiao et al. 2020, https://arxiv.org/abs/1909.10351. The teacher reads each passage once, before the
training; what it gave lies beside the checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relclass.errors import ConfigError, MissingExtraError, ModelError
from relclass.models.store import load_model, manifest_sha256
from relclass.models.transformer import TransformerScorer
from relclass.models.windows import padded_batches

try:
    import torch
    from safetensors import safe_open
    from safetensors.numpy import save_file
    from torch import Tensor
except ImportError as error:
    raise MissingExtraError(str(error.name), "train") from error

logger = logging.getLogger(__name__)

STATES_FILE = "imitated.safetensors"
_MAX_TOKENS = 4096  # of a batch
_LOG_EVERY = 200  # batches
_SMALLEST = 1e-4  # standard deviation of a dimension that says nothing


@dataclass(frozen=True)
class Imitated:
    """What a teacher gave.

    Parameters
    ----------
    states : of each window, shape (n_windows, hidden), float16.
    scale : standard deviation of each dimension, shape (hidden,), float32.
    """

    states: np.ndarray
    scale: np.ndarray

    def select(self, places: Sequence[int]) -> Tensor:
        """Return some windows' states, shape (n_places, hidden), float32."""
        return torch.from_numpy(self.states[places].astype(np.float32))

    def loss(self, pooled: Tensor, expected: Tensor) -> Tensor:
        """Return the mean square distance in standard deviations."""
        scale = torch.from_numpy(self.scale).to(pooled.device)
        return ((pooled.float() - expected) / scale).square().mean()


def read_states(
    teacher: str,
    scorer: TransformerScorer,
    windows: Sequence[list[int]],
    *,
    work_dir: Path,
    device: str,
    is_bf16: bool,
) -> Imitated:
    """Let a teacher read windows, or take what it gave when the run was begun.

    Parameters
    ----------
    teacher : its model folder.
    scorer : the network that is to learn from it.
    windows : token ids.
    work_dir : gets the states.
    is_bf16 : let it compute in bfloat16.

    Raises
    ------
    ConfigError
        If the teacher is no transformer's model folder or reads or pools other tokens, or its
        states have another size.
    """
    try:
        theirs = load_model(teacher).scorer
    except ModelError as error:
        raise ConfigError(f"model.imitate: {error}") from error
    if not isinstance(theirs, TransformerScorer):
        raise ConfigError(f"model.imitate: {teacher} is of kind {theirs.kind!r}, not transformer")
    _check_alike(teacher, theirs, scorer)
    key = hashlib.sha256(json.dumps([manifest_sha256(teacher), list(windows)]).encode()).hexdigest()
    path = work_dir / STATES_FILE
    states = _read(path, key)
    if states is None:
        logger.info("%s reads %d windows, whose states are to be met", teacher, len(windows))
        states = _pooled(theirs, windows, device=device, is_bf16=is_bf16)
        work_dir.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")  # each of several processes its own
        save_file({"states": states}, partial, metadata={"key": key})
        os.replace(partial, path)
    scale = states.astype(np.float32).std(axis=0).clip(min=_SMALLEST)
    return Imitated(states, scale)


def _check_alike(teacher: str, theirs: TransformerScorer, ours: TransformerScorer) -> None:
    found = {
        "model.pooling": (theirs.settings.pooling, ours.settings.pooling),
        "windows": (theirs.rule, ours.rule),
        "tokenizer": (len(theirs.tokenizer), len(ours.tokenizer)),
        "hidden size": tuple(s.network.encoder.config.hidden_size for s in (theirs, ours)),
    }
    for what, (one, other) in found.items():
        if one != other:
            raise ConfigError(
                f"model.imitate: {teacher} differs from model.encoder in its {what}: {one!r} and "
                f"{other!r}"
            )
    if ours.settings.pooling == "native":
        raise ConfigError("model.imitate: a native head reads no pooled states to be met")


def _read(path: Path, key: str) -> np.ndarray | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="numpy") as content:
        if content.metadata().get("key") != key:
            return None
        states: np.ndarray = content.get_tensor("states")
        return states


def _pooled(
    teacher: TransformerScorer, windows: Sequence[list[int]], *, device: str, is_bf16: bool
) -> np.ndarray:
    network = teacher.network.to(device).eval()
    states = np.zeros((len(windows), network.encoder.config.hidden_size), dtype=np.float16)
    batches = padded_batches(windows, pad_token_id=teacher.pad_token_id, max_tokens=_MAX_TOKENS)
    n_read = 0
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=is_bf16):
        for number, (batch, input_ids, mask) in enumerate(batches, start=1):
            _, pooled = network(
                torch.from_numpy(input_ids).to(device),
                torch.from_numpy(mask).to(device),
                with_pooled=True,
            )
            states[batch] = pooled.float().cpu().numpy()
            n_read += len(batch)
            if number % _LOG_EVERY == 0:
                logger.info("read %d of %d windows", n_read, len(windows))
    return states
