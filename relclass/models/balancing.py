"""Even out an activation's channels before it is quantised, so that one grid fits them all.

A few channels of BERT's activations are ten times as wide as the rest. Dividing a channel of the
activation and multiplying its row of the weights by the same factor leaves the product as it is,
and moves the width to the weights, which have a scale of their own for each column (SmoothQuant,
Xiao et al. 2023, https://arxiv.org/abs/2211.10438). The division costs nothing where the operator
before it can take it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relclass.errors import MissingExtraError
from relclass.models.quantization import Activation, weighted_nodes

try:
    from onnx import helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("onnx", "train") from error

_SHARE = 0.85  # of a channel's width that moves to the weights: 0.6 to 0.9 differ little
_N_BIASES = 3  # of attention: query's, key's and value's, one after the other


@dataclass
class _Balancer:
    """Changes a float graph's constants in place and puts divisions where they are needed."""

    model: Any
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.initializers = {t.name: t for t in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.weighted = {node.output[0]: node for node in weighted_nodes(self.model)}
        self.divisions: dict[str, Any] = {}

    def is_constant(self, node: Any, place: int) -> bool:
        """Say whether a node has such an input and it is a constant."""
        name = node.input[place] if place < len(node.input) else ""
        return name in self.constants or name in self.initializers

    def constant(self, node: Any, place: int) -> np.ndarray:
        """Return a node's constant input, as changed so far."""
        name = node.input[place]
        if name in self.constants:
            return self.constants[name]
        values: np.ndarray = numpy_helper.to_array(self.initializers[name])
        return values

    def change(self, node: Any, place: int, values: np.ndarray) -> None:
        """Give a node a constant of its own: others may share the one it had."""
        name = node.input[place]
        if name not in self.constants:
            name = f"{node.output[0]}_{place}_balanced"
        self.constants[name] = values.astype(np.float32)
        node.input[place] = name

    def balance(self, name: str, activation: Activation) -> Activation:
        readers = [node for node in self.weighted.values() if node.input[0] == name]
        weights = [self.constant(node, 1) for node in readers]
        factors = choose_factors(activation, np.concatenate(weights, axis=1))
        for node, values in zip(readers, weights, strict=True):
            self.change(node, 1, values * factors[:, None])
        if not self._take_up(name, factors):
            divided = f"{name}_balanced"
            by = f"{name}_factors"
            self.constants[by] = (1 / factors).astype(np.float32)
            self.divisions[name] = helper.make_node("Mul", [name, by], [divided])
            for node in readers:
                node.input[0] = divided
        return activation.divide(factors)

    def _take_up(self, name: str, factors: np.ndarray) -> bool:
        """Divide what comes before, if it is nothing but a product and others do not read it."""
        graph = self.model.graph
        n_read = sum(list(node.input).count(name) for node in graph.node)
        is_output = name in {value.name for value in graph.output}
        if is_output or n_read > sum(n.input[0] == name for n in self.weighted.values()):
            return False
        node = self.producers.get(name)
        if node is None:
            return False
        if node.op_type == "Relu":  # a positive factor goes through it
            return self._take_up_sum(self.producers.get(node.input[0]), factors)
        if node.op_type == "MultiHeadAttention":  # a weighted mean of the values
            return self._take_up_values(node, factors)
        return False

    def _take_up_sum(self, node: Any, factors: np.ndarray) -> bool:
        if node is None or node.op_type != "Add":
            return False
        places = [place for place in (0, 1) if self.is_constant(node, place)]
        if len(places) != 1 or node.input[1 - places[0]] not in self.weighted:
            return False
        bias, product = self.constant(node, places[0]), self.weighted[node.input[1 - places[0]]]
        self.change(node, places[0], bias / factors)
        self.change(product, 1, self.constant(product, 1) / factors)
        return True

    def _take_up_values(self, node: Any, factors: np.ndarray) -> bool:
        product = self.weighted.get(node.input[2])
        if product is None or not self.is_constant(node, 3):
            return False
        bias = self.constant(node, 3)
        if len(bias) != _N_BIASES * len(factors):
            return False
        divisors = np.concatenate([np.ones((_N_BIASES - 1) * len(factors)), factors])
        self.change(node, 3, bias / divisors)
        self.change(product, 1, self.constant(product, 1) / factors)
        return True

    def finish(self) -> None:
        graph = self.model.graph
        nodes = []
        for node in graph.node:
            nodes.append(node)
            nodes.extend(self.divisions[name] for name in node.output if name in self.divisions)
        nodes = [type(node).FromString(node.SerializeToString()) for node in nodes]
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        changed = [numpy_helper.from_array(v, n) for n, v in self.constants.items() if n in used]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend([*kept, *changed])


def choose_factors(activation: Activation, weights: np.ndarray) -> np.ndarray:
    """Say by what each channel is divided, shape (n_channels,), above 0.

    Parameters
    ----------
    weights : of all products that read it, side by side, shape (n_channels, n_outputs).
    """
    width = np.maximum(np.abs(activation.low), np.abs(activation.high)).astype(np.float64)
    of_weights = np.abs(weights).max(axis=1).astype(np.float64)
    width, of_weights = (np.maximum(v, 1e-6 * max(v.max(), 1e-12)) for v in (width, of_weights))
    factors: np.ndarray = width**_SHARE / of_weights ** (1 - _SHARE)
    return factors


def balance_channels(
    model: Any, activations: Mapping[str, Activation]
) -> tuple[Any, dict[str, Activation]]:
    """Return a float graph of the same outputs whose activations have even channels.

    Parameters
    ----------
    activations : as `relclass.models.quantization.measure_activations` gives.

    Returns
    -------
    The graph, and what its activations look like, by their new names.
    """
    balanced = type(model).FromString(model.SerializeToString())
    balancer = _Balancer(balanced)
    found = {}
    for name, activation in activations.items():
        divided = balancer.balance(name, activation)
        found[f"{name}_balanced" if name in balancer.divisions else name] = divided
    balancer.finish()
    return balanced, found
