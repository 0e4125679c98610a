"""A running average of the weights during training, which generalises better than the last ones.

Polyak and Juditsky 1992, https://doi.org/10.1137/0330046, with exponential weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relclass.errors import MissingExtraError

try:
    import torch
    from safetensors.torch import load_file, save_file
    from torch import Tensor, nn
    from transformers import TrainerCallback
except ImportError as error:  # the callback cannot be subclassed without it
    raise MissingExtraError(str(error.name), "train") from error

AVERAGE_FILE = "weight_average.safetensors"
_WARMUP_STEPS = 10


class WeightAverage(TrainerCallback):  # type: ignore[misc]
    """Keeps the average, beside each checkpoint too, so that a resumed run goes on with it.

    Parameters
    ----------
    network : the one that is trained; only its trainable parameters are averaged.
    decay : share of the old average kept at a step, in (0, 1); fewer steps count at first.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    def start(self, checkpoint: Path | None) -> None:
        """Begin with the network's weights, or with what a checkpoint kept."""
        if checkpoint is not None and (checkpoint / AVERAGE_FILE).is_file():
            self.average = load_file(checkpoint / AVERAGE_FILE)
        else:
            self.average = {name: p.detach().clone() for name, p in self._trained()}

    def finish(self) -> None:
        """Put the average in the place of the network's weights."""
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(self.average[name])

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the average towards the weights of this step."""
        step = state.global_step
        decay = min(self.decay, (1 + step) / (_WARMUP_STEPS + step))
        with torch.no_grad():
            for name, parameter in self._trained():
                average = self.average[name].to(parameter.device)
                self.average[name] = average.lerp_(parameter.detach(), 1 - decay)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the average into the checkpoint."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            content = {name: tensor.contiguous() for name, tensor in self.average.items()}
            save_file(content, folder / AVERAGE_FILE)
