"""Round activations in training as their int8 form will, so that the network learns to bear it.

The forward pass sees rounded activations and the backward pass takes no notice (the straight-
through estimator of quantisation-aware training; Jacob et al. 2018,
https://arxiv.org/abs/1712.05877). Nothing of it stays in the network: the export lays its own
grids, of the same width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from relclass.errors import MissingExtraError
from relclass.models.network import Network, unknown_for
from relclass.models.quantization import Activation, slice_grid

try:
    import torch
    from safetensors.torch import load_file, save_file
    from torch import Tensor, nn
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError(str(error.name), "train") from error

ROUNDING_FILE = "rounding.safetensors"

_FIRST = 16  # batches that are all measured
_EVERY = 64  # of the batches after them, one in so many
_KEPT = 0.98  # of a range, where a batch spans less: the network changes as it learns


class _Round(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(context: Any, states: Tensor, width: Tensor) -> Tensor:
        return (states / width).round_().mul_(width)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Rounder:
    """Rounds what enters some weights' products.

    Parameters
    ----------
    reader : a linear layer that reads it.
    """

    def __init__(self, reader: nn.Linear) -> None:
        self.reader = reader
        self.n_batches = 0
        self.width = torch.empty(())  # of a step
        self.low = np.zeros(reader.in_features, dtype=np.float32)
        self.high = np.zeros(reader.in_features, dtype=np.float32)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not module.training:
            return None
        states, *others = inputs
        if self.n_batches < _FIRST or self.n_batches % _EVERY == 0:
            self.measure(states)
        self.n_batches += 1
        return (_Round.apply(states, self.width), *others)

    def measure(self, states: Tensor) -> None:
        """Widen the channels' ranges to those of a batch, and lay the grid over them."""
        tokens = states.detach().reshape(-1, states.shape[-1]).float()
        low, high = (found.cpu().numpy() for found in tokens.aminmax(dim=0))
        self.low = np.minimum(low, self.low * _KEPT)
        self.high = np.maximum(high, self.high * _KEPT)
        grid = slice_grid(Activation(self.low, self.high, self.low[None]))
        self.width = torch.tensor(grid.scale, device=states.device, dtype=states.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` takes."""
        return {
            "n_batches": torch.tensor(self.n_batches),
            "width": self.width.cpu(),
            "low": torch.from_numpy(self.low),
            "high": torch.from_numpy(self.high),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on with ranges and steps that were found earlier."""
        self.n_batches = int(state["n_batches"])
        self.width = state["width"].to(self.reader.weight.device)
        self.low, self.high = state["low"].numpy(), state["high"].numpy()


class _Rounders(TrainerCallback):  # type: ignore[misc]
    """Keeps what the rounders found beside each checkpoint, so that a resumed run rounds alike."""

    def __init__(self, rounders: Sequence[_Rounder]) -> None:
        self.rounders = rounders

    def start(self, checkpoint: Path | None) -> None:
        """Begin anew, or with what a checkpoint kept."""
        if checkpoint is not None and (checkpoint / ROUNDING_FILE).is_file():
            content = load_file(checkpoint / ROUNDING_FILE)
            for number, rounder in enumerate(self.rounders):
                rounder.restore({name: content[f"{number}.{name}"] for name in rounder.state()})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what the rounders found into the checkpoint."""
        if state.is_world_process_zero:
            content = {
                f"{number}.{name}": tensor
                for number, rounder in enumerate(self.rounders)
                for name, tensor in rounder.state().items()
            }
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file(content, folder / ROUNDING_FILE)


@contextmanager
def rounded_activations(network: Network) -> Iterator[_Rounders]:
    """Round what enters each weight's product of the encoder's layers while the network trains.

    Yields
    ------
    A callback for the Trainer.

    Raises
    ------
    ConfigError
        If the architecture is not built like BERT.
    """
    try:
        points = [point for layer in network.encoder.encoder.layer for point in _points(layer)]
    except AttributeError as error:
        raise unknown_for(network, "round_activations") from error
    rounders = [_Rounder(reader) for _, reader in points]
    hooks = [
        module.register_forward_pre_hook(rounder)
        for (module, _), rounder in zip(points, rounders, strict=True)
    ]
    try:
        yield _Rounders(rounders)
    finally:
        for hook in hooks:
            hook.remove()


def _points(layer: Any) -> list[tuple[nn.Module, nn.Linear]]:
    """Return the modules at which a layer's activations are rounded, each with one that reads."""
    attention = layer.attention.self
    alone = (layer.attention.output.dense, layer.intermediate.dense, layer.output.dense)
    return [
        (attention, attention.query),  # as key and value do
        *((reader, reader) for reader in alone),
    ]
