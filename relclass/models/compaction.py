"""Heads and neurons that a network does without: found by their zeros, left out, put back.

A checkpoint holds a pruned network at full size with zeros where something was taken out, so that
transformers reads it as any other. In memory, and in what is exported, the zeros are not there.
"""

from __future__ import annotations

from typing import Any

from relclass.errors import MissingExtraError

try:
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("torch", "train") from error

_HEADS = ("query", "key", "value")


def leave_out_zeros(encoder: Any) -> None:
    """Take out the heads and neurons whose every output weight is zero: they change nothing.

    An encoder that is not built like BERT is left as it is.
    """
    for layer in bert_layers(encoder):
        is_read = layer.attention.output.dense.weight.detach().any(0)
        heads = is_read.view(-1, layer.attention.self.attention_head_size).any(1)
        neurons = layer.output.dense.weight.detach().any(0)
        heads[0] |= ~heads.any()  # a layer keeps one of each
        neurons[0] |= ~neurons.any()
        keep_heads(layer, heads)
        keep_neurons(layer, neurons)


def keep_heads(layer: Any, kept: Tensor) -> None:
    """Take out a layer's other attention heads; `kept` has shape (n_heads,), bool."""
    attention = layer.attention.self
    columns = kept.repeat_interleave(attention.attention_head_size)
    for name in _HEADS:
        setattr(attention, name, _keep_rows(getattr(attention, name), columns))
    layer.attention.output.dense = _keep_columns(layer.attention.output.dense, columns)


def keep_neurons(layer: Any, kept: Tensor) -> None:
    """Take out a layer's other neurons; `kept` has shape (n_neurons,), bool."""
    layer.intermediate.dense = _keep_rows(layer.intermediate.dense, kept)
    layer.output.dense = _keep_columns(layer.output.dense, kept)


def full_state(encoder: Any) -> dict[str, Tensor]:
    """Return an encoder's weights at the size that its config names, zeros where there are none."""
    state: dict[str, Tensor] = encoder.state_dict()
    n_neurons = getattr(encoder.config, "intermediate_size", 0)
    for number, layer in enumerate(bert_layers(encoder)):
        prefix = f"encoder.layer.{number}."
        attention = layer.attention.self
        for name in _HEADS:
            _fill(state, f"{prefix}attention.self.{name}", rows=attention.all_head_size)
        _fill(state, f"{prefix}attention.output.dense", columns=attention.all_head_size)
        _fill(state, f"{prefix}intermediate.dense", rows=n_neurons)
        _fill(state, f"{prefix}output.dense", columns=n_neurons)
    return state


def bert_layers(encoder: Any) -> list[Any]:
    """Return the layers that are built like BERT's."""
    layers = getattr(getattr(encoder, "encoder", None), "layer", None) or []
    return [layer for layer in layers if _is_like_bert(layer)]


def _is_like_bert(layer: Any) -> bool:
    attention = getattr(getattr(layer, "attention", None), "self", None)
    return all(
        isinstance(getattr(attention, name, None), nn.Linear) for name in _HEADS
    ) and hasattr(attention, "attention_head_size")


def _keep_rows(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    return _linear(linear.weight[kept], linear.bias[kept])


def _keep_columns(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    return _linear(linear.weight[:, kept], linear.bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = nn.Parameter(bias.detach().clone())
    return made


def _fill(state: dict[str, Tensor], name: str, *, rows: int = 0, columns: int = 0) -> None:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    n_rows, n_columns = max(0, rows - len(weight)), max(0, columns - weight.shape[1])
    pad = nn.functional.pad
    state[f"{name}.weight"] = pad(weight, (0, n_columns, 0, n_rows))
    state[f"{name}.bias"] = pad(bias, (0, n_rows))
