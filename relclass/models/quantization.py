"""A float ONNX graph -> the same network in int8, the word embeddings in 4-bit blocks.

Every activation that enters a weight's product is quantised on a grid fixed at export. A grid
taken from the batch at hand (dynamic quantisation) would make a passage's probabilities depend on
its neighbours. Where one grid is too coarse, even for balanced channels, what it misses is
quantised again, by a finer one, and the two products are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from relclass.calibration import sigmoid
from relclass.errors import MissingExtraError, ModelError
from relclass.models.blocks import BLOCK_SIZE, to_blocks

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("onnx", "train") from error

MICROSOFT = "com.microsoft"
_OPSET = 21  # the first with 4-bit integers
_IR_VERSION = 10
# 7 bits by 8: in 8 by 8, processors without VNNI overflow where two products are added in 16 bits
_STEPS = 127
_WIDEST = 127  # step of a weight
_FINE_ZERO = 64
_N_SAMPLED = 4096
_DAMPING = 0.05


@dataclass(frozen=True)
class Activation:
    """What an activation that enters a weight's product looked like on calibration texts.

    Parameters
    ----------
    low, high : what each channel spans, shape (n_channels,); padding left out.
    sample : shape (n_tokens, n_channels), some tokens' values.
    """

    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray

    def divide(self, factors: np.ndarray) -> Activation:
        """Return it with each channel divided by a factor above 0, shape (n_channels,)."""
        return Activation(self.low / factors, self.high / factors, self.sample / factors)


@dataclass(frozen=True)
class Grid:
    """How an activation is rounded: to 128 coarse steps, and what they miss to 128 fine ones.

    Parameters
    ----------
    scale : width of a coarse step; a fine one is a 127th of it.
    zero_point : the coarse step that stands for zero, in [0, 127]; steps beyond 127 take what is
        wider than anything seen on the calibration texts.
    """

    scale: float
    zero_point: int

    @property
    def fine_scale(self) -> float:
        """Width of a fine step."""
        return self.scale / _STEPS

    def round(self, values: np.ndarray) -> np.ndarray:
        """Return values of any shape as the int8 network sees them."""
        steps = np.clip(np.rint(values / self.scale) + self.zero_point, 0, 255)
        coarse = (steps - self.zero_point) * self.scale
        fine = np.rint((values - coarse) / self.fine_scale) + _FINE_ZERO
        rounded: np.ndarray = coarse + (np.clip(fine, 0, 255) - _FINE_ZERO) * self.fine_scale
        return rounded


def make_grid(activation: Activation) -> Grid:
    """Lay the steps over what an activation spans; the steps beyond are room for wider texts."""
    low = min(float(np.min(activation.low)), 0.0)
    high = max(float(np.max(activation.high)), 0.0)
    scale = max(high - low, 1e-6) / _STEPS
    return Grid(scale, round(-low / scale))


def weighted_nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes that multiply an activation (input 0) by a constant matrix (input 1)."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        of_constant = node.op_type == "MatMul" and node.input[1] in constants
        if of_constant and len(constants[node.input[1]].dims) == 2:
            yield node


def measure_activations(
    model: Any, batches: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Activation]:
    """Run the float network on calibration batches and note what its activations look like.

    Parameters
    ----------
    batches : input_ids and attention_mask, each shape (batch, seq_len), int64. An activation of
        half as many tokens is of neighbours' means.

    Returns
    -------
    Name to activation, for each that enters a weight's product.
    """
    import onnxruntime

    names = sorted({node.input[0] for node in weighted_nodes(model)})
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for name in names:
        probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    n_sampled = max(1, _N_SAMPLED // len(batches))
    rng = np.random.default_rng(0)
    for batch in batches:
        for name, values in zip(names, session.run(names, dict(batch)), strict=True):
            is_text = batch["attention_mask"].astype(bool)  # (batch, seq_len)
            while values.ndim == 3 and is_text.shape[1] > values.shape[1]:
                is_text = is_text[:, ::2]
            tokens = values[is_text] if values.shape[:2] == is_text.shape else values
            tokens = tokens.reshape(-1, tokens.shape[-1])  # (n_tokens, n_channels)
            low[name] = np.minimum(low.get(name, np.inf), tokens.min(axis=0))
            high[name] = np.maximum(high.get(name, -np.inf), tokens.max(axis=0))
            found[name].append(tokens[rng.integers(0, len(tokens), n_sampled)])
    return {name: Activation(low[name], high[name], np.concatenate(found[name])) for name in names}


class Columns(NamedTuple):
    """A matrix in int8, symmetric, one scale a column.

    Parameters
    ----------
    integers : in [-127, 127], shape (n_inputs, n_outputs), int8.
    scales : shape (n_outputs,), float32.
    """

    integers: np.ndarray
    scales: np.ndarray


def quantize_columns(weights: np.ndarray) -> Columns:
    """Round each value of a matrix, shape (n_inputs, n_outputs), by itself."""
    scales = np.abs(weights).max(axis=0) / _WIDEST
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    return Columns(np.clip(np.rint(weights / scales), -_WIDEST, _WIDEST).astype(np.int8), scales)


def round_weights(sample: np.ndarray, weights: np.ndarray) -> Columns:
    """Quantise a matrix so that its products with an activation are nearest to exact.

    Rounding each weight by itself is not the best: the error of one channel's row can be taken up
    by rows not yet rounded, as far as their channels go together (GPTQ, Frantar et al. 2022,
    https://arxiv.org/abs/2210.17323).

    Parameters
    ----------
    sample : shape (n_tokens, n_channels), the activation.
    weights : shape (n_channels, n_outputs).
    """
    moment = sample.T.astype(np.float64) @ sample  # (n_channels, n_channels)
    moment[np.diag_indices_from(moment)] += _DAMPING * max(moment.diagonal().mean(), 1e-12)
    order = np.argsort(-moment.diagonal())  # the busiest channels first, while all can help
    inverse = np.linalg.inv(moment[np.ix_(order, order)])
    upper = np.linalg.cholesky(inverse).T.astype(np.float32)
    scales = quantize_columns(weights).scales
    left = weights[order].astype(np.float32)
    integers = np.empty(weights.shape, dtype=np.int8)
    for row, channel in enumerate(order):
        rounded = np.clip(np.rint(left[row] / scales), -_WIDEST, _WIDEST)
        integers[channel] = rounded
        error = (left[row] - rounded * scales) / upper[row, row]
        left[row + 1 :] -= np.outer(upper[row, row + 1 :], error)
    return Columns(integers, scales)


@dataclass
class _Rewriter:
    """Builds the int8 graph's nodes and constants."""

    activations: Mapping[str, Activation]
    is_twice: bool
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    quantised: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def add(self, kind: str, inputs: list[str], output: str, domain: str = "") -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain))
        return output

    def quantise(self, name: str, scale: float, zero_point: int) -> tuple[str, str, str]:
        of_scale = self.constant(f"{name}_scale", np.array(scale, dtype=np.float32))
        of_zero = self.constant(f"{name}_zero", np.array(zero_point, dtype=np.uint8))
        return (
            self.add("QuantizeLinear", [name, of_scale, of_zero], f"{name}_int8"),
            of_scale,
            of_zero,
        )

    def activation(self, name: str) -> list[tuple[str, str, str]]:
        """Quantise an activation, once however many products it enters: coarse, perhaps fine."""
        if name not in self.quantised:
            grid = make_grid(self.activations[name])
            coarse = self.quantise(name, grid.scale, grid.zero_point)
            self.quantised[name] = [coarse]
            if not self.is_twice:
                return self.quantised[name]
            back = self.add("DequantizeLinear", list(coarse), f"{name}_coarse")
            missed = self.add("Sub", [name, back], f"{name}_missed")
            self.quantised[name].append(self.quantise(missed, grid.fine_scale, _FINE_ZERO))
        return self.quantised[name]

    def product(self, node: Any, weights: np.ndarray, *, bias: str, output: str) -> None:
        source = node.input[0]
        integers, scales = round_weights(self.activations[source].sample, weights)
        of_weights = self.constant(f"{output}_weights_int8", integers)
        of_scales = self.constant(f"{output}_weights_scale", scales)
        grids = self.activation(source)
        names = [output] if len(grids) == 1 else [f"{output}_{n}" for n in range(len(grids))]
        for number, ((values, scale, zero), name) in enumerate(zip(grids, names, strict=True)):
            inputs = [values, of_weights, scale, of_scales, zero]
            inputs += ["", bias] if bias and number == 0 else []
            self.add("MatMulIntegerToFloat", inputs, name, MICROSOFT)
        if len(grids) > 1:
            self.add("Add", names, output)


def quantize_products(
    model: Any, activations: Mapping[str, Activation], *, is_twice: bool = True
) -> Any:
    """Return the graph with each product by a constant matrix computed in int8.

    A bias that is added to a product and to nothing else goes into it.

    Parameters
    ----------
    is_twice : what the first grid of an activation misses is quantised by a second.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    weighted = {node.output[0] for node in weighted_nodes(model)}
    sums = _biased(model, weighted)
    taken_up = {output for _, output in sums.values()}
    rewriter = _Rewriter(activations, is_twice)
    for node in model.graph.node:
        if node.output[0] in weighted:
            bias, output = sums.get(node.output[0], ("", node.output[0]))
            weights = numpy_helper.to_array(constants[node.input[1]])
            rewriter.product(node, weights, bias=bias, output=output)
        elif node.output[0] not in taken_up:
            rewriter.nodes.append(node)
    return _rebuilt(model, rewriter.nodes, list(rewriter.constants.values()))


def off_by(model: Any, other: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Return the greatest difference of a probability between two graphs on some batches."""
    difference = _probabilities(model, batches) - _probabilities(other, batches)
    return float(np.abs(difference).max())


def _probabilities(model: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits = [session.run(["logits"], dict(batch))[0] for batch in batches]
    return sigmoid(np.concatenate(logits))


def _biased(model: Any, weighted: Collection[str]) -> dict[str, tuple[str, str]]:
    """Find the products to which a constant vector is added, and nothing else is done.

    Returns
    -------
    Name of the product to the names of the vector and of the sum.
    """
    vectors = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 1}
    n_read = Counter(name for node in model.graph.node for name in node.input)
    sums = {}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for product, vector in (tuple(node.input), tuple(node.input)[::-1]):
            if product in weighted and n_read[product] == 1 and vector in vectors:
                sums[product] = vector, node.output[0]
    return sums


def split_norms(model: Any) -> Any:
    """Return the int8 graph with each fused sum and layer norm as two operators.

    onnxruntime's fused one takes several times as long on a CPU as the two together. A bias goes
    into the integer product before it, which adds it in passing.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "SkipLayerNormalization":
            nodes.append(node)
            continue
        values, skipped, gamma, beta, *bias = node.input
        if bias:
            product = producers[values]
            if product.op_type == "Add":  # of the coarse product and the fine one
                product = producers[product.input[0]]
            product.input.extend([""] * (6 - len(product.input)) + bias)
        total = f"{node.output[0]}_sum"
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        nodes.append(helper.make_node("Add", [values, skipped], [total]))
        nodes.append(
            helper.make_node(
                "LayerNormalization",
                [total, gamma, beta],
                [node.output[0]],
                axis=-1,
                epsilon=epsilon,
            )
        )
    return _rebuilt(model, nodes, [])


def pack_embeddings(model: Any, name: str) -> Any:
    """Return the graph with an embedding matrix in few bits.

    Where its values came from 4-bit blocks, as the bundled encoder's do, they stay in them and
    nothing is lost; others go to int8, one scale a row.

    Parameters
    ----------
    name : of the constant, shape (n_pieces, hidden), that a Gather reads.
    """
    matrix = next(
        numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name
    )
    if matrix.shape[1] % BLOCK_SIZE == 0 and (to_blocks(matrix).values() == matrix).all():
        nodes, constants, gather = _blocks(name, matrix)
    else:
        nodes, constants, gather = _int8_rows(name, matrix)
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] == name:
            nodes.extend(gather(node.input[1], node.output[0]))
        else:
            nodes.append(node)
    return _rebuilt(model, nodes, constants)


Gather = Callable[[str, str], list[Any]]


def _blocks(name: str, matrix: np.ndarray) -> tuple[list[Any], list[Any], Gather]:
    blocks = to_blocks(matrix)
    nibbles = (blocks.quants.reshape(-1) & 15).astype(np.uint8)  # two's complement
    packed = (nibbles[0::2] | (nibbles[1::2] << 4)).tobytes()
    quants = helper.make_tensor(
        f"{name}_int4", TensorProto.INT4, list(matrix.shape), packed, raw=True
    )
    scales = numpy_helper.from_array(blocks.scales, f"{name}_scale_fp16")
    # folded when the session opens, so the product is exact and the file small
    cast = helper.make_node("Cast", [scales.name], [f"{name}_scale"], to=TensorProto.FLOAT)

    def gather(ids: str, output: str) -> list[Any]:
        return [
            helper.make_node(
                "GatherBlockQuantized",
                [quants.name, ids, f"{name}_scale"],
                [output],
                domain=MICROSOFT,
                gather_axis=0,
                quantize_axis=1,
                block_size=BLOCK_SIZE,
            )
        ]

    return [cast], [quants, scales], gather


def _int8_rows(name: str, matrix: np.ndarray) -> tuple[list[Any], list[Any], Gather]:
    integers, scales = quantize_columns(matrix.T)
    quants = numpy_helper.from_array(np.ascontiguousarray(integers.T), f"{name}_int8")
    by_row = numpy_helper.from_array(scales[:, None], f"{name}_scale")  # (n_pieces, 1)

    def gather(ids: str, output: str) -> list[Any]:
        return [
            helper.make_node("Gather", [quants.name, ids], [f"{output}_int8"]),
            helper.make_node("Gather", [by_row.name, ids], [f"{output}_scale"]),
            helper.make_node("Cast", [f"{output}_int8"], [f"{output}_whole"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{output}_whole", f"{output}_scale"], [output]),
        ]

    return [], [quants, by_row], gather


def share_embeddings(models: Sequence[Any], name: str) -> Any:
    """Take the packed embeddings, which are the same in all graphs, out of each of them.

    Parameters
    ----------
    name : of the matrix that `pack_embeddings` packed.

    Returns
    -------
    What was taken out: serialised and put behind a serialised graph it makes it whole again.

    Raises
    ------
    ModelError
        If the embeddings are not the same.
    """
    taken = [[t for t in model.graph.initializer if t.name.startswith(name)] for model in models]
    serialised = {tuple(t.SerializeToString() for t in tensors) for tensors in taken}
    if len(serialised) > 1:
        raise ModelError(
            "a network and its student have different word embeddings: both must be trained from "
            "one encoder with model.freeze: embeddings"
        )
    for model, tensors in zip(models, taken, strict=True):
        for tensor in tensors:
            model.graph.initializer.remove(tensor)
    shared = onnx.ModelProto()
    shared.graph.initializer.extend(taken[0])
    return shared


def _rebuilt(model: Any, nodes: list[Any], constants: list[Any]) -> Any:
    new = onnx.ModelProto()
    new.CopyFrom(model)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del new.graph.node[:], new.graph.initializer[:], new.graph.value_info[:]
    new.graph.node.extend(nodes)
    new.graph.initializer.extend([*kept, *constants])
    del new.opset_import[:]
    new.opset_import.extend([helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)])
    new.ir_version = _IR_VERSION
    return new
