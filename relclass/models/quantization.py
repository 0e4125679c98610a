"""A float ONNX graph -> the same network in int8, the word embeddings in 4-bit blocks.

Every activation that enters a weight's product is quantised by a scale fixed at export. A scale
taken from the batch at hand (dynamic quantisation) would make a passage's probabilities depend on
its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from relclass.errors import MissingExtraError
from relclass.models.blocks import BLOCK_SIZE, to_blocks

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("onnx", "train") from error

MICROSOFT = "com.microsoft"
_OPSET = 21  # the first with 4-bit integers
_IR_VERSION = 10
_STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8)  # of smoothing; 1 would leave all of it to the weights
_WORTH_A_STEP = 0.8  # smoothing costs an operator: it must take a fifth off the error
_N_SAMPLED = 4096
_DAMPING = 0.01
_ATTENTION_KEYS = ("num_heads", "unidirectional", "mask_filter_value")


@dataclass(frozen=True)
class Activation:
    """What an activation that enters a weight's product looked like on calibration texts.

    Parameters
    ----------
    low, high : shape (n_channels,), what each channel spans; padding left out.
    sample : shape (n_tokens, n_channels), some tokens' values, to compare settings on.
    """

    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray


@dataclass(frozen=True)
class Grid:
    """How an activation is rounded to 256 steps.

    Parameters
    ----------
    smoothing : shape (n_channels,), what each channel is divided by first, and its row of the
        weights multiplied by; None leaves both as they are. A few channels of a BERT are ten times
        as wide as the rest, and would take the steps from them (SmoothQuant, Xiao et al. 2023,
        https://arxiv.org/abs/2211.10438).
    scale : width of a step.
    zero_point : the step that stands for zero, in [0, 255].
    """

    smoothing: np.ndarray | None
    scale: float
    zero_point: int

    def round(self, values: np.ndarray) -> np.ndarray:
        """Return values, shape (n_tokens, n_channels), as the int8 network sees them, divided."""
        divided = values if self.smoothing is None else values / self.smoothing
        steps = np.clip(np.rint(divided / self.scale) + self.zero_point, 0, 255)
        rounded: np.ndarray = (steps - self.zero_point) * self.scale
        return rounded


def round_weights(activation: Activation, grid: Grid, weights: np.ndarray) -> Columns:
    """Quantise a matrix so that its products with the rounded activation are nearest to exact.

    Rounding each weight by itself is not the best: the error of one channel's row can be taken up
    by rows not yet rounded, as far as their channels go together (GPTQ, Frantar et al. 2022,
    https://arxiv.org/abs/2210.17323).

    Parameters
    ----------
    weights : shape (n_channels, n_outputs), before smoothing.
    """
    seen = grid.round(activation.sample)  # (n_tokens, n_channels)
    moment = seen.T.astype(np.float64) @ seen  # (n_channels, n_channels)
    moment[np.diag_indices_from(moment)] += _DAMPING * max(moment.diagonal().mean(), 1e-12)
    left = scaled_rows(weights, grid.smoothing).astype(np.float64)
    missed = activation.sample @ weights - seen @ left  # what rounding the activation loses
    left += np.linalg.solve(moment, seen.T @ missed)
    scales = quantize_columns(left).scales
    order = np.argsort(-moment.diagonal())  # the busiest channels first, while all can help
    inverse = np.linalg.inv(moment[np.ix_(order, order)])
    upper = np.linalg.cholesky(inverse).T.astype(np.float32)
    left = left[order].astype(np.float32)
    rounded = np.empty_like(left)
    for row in range(len(left)):
        rounded[row] = np.clip(np.rint(left[row] / scales), -127, 127)
        error = (left[row] - rounded[row] * scales) / upper[row, row]
        left[row + 1 :] -= np.outer(upper[row, row + 1 :], error)
    integers = np.empty(left.shape, dtype=np.int8)
    integers[order] = rounded.astype(np.int8)
    return Columns(integers, scales)


def choose_grid(activation: Activation, weights: np.ndarray) -> Grid:
    """Choose the grid whose products with the weights, in int8 as well, are nearest to exact.

    Parameters
    ----------
    weights : shape (n_channels, n_outputs), of all products that the activation enters.
    """
    exact = activation.sample @ weights  # (n_tokens, n_outputs)
    best, least = make_grid(activation, None), np.inf
    for strength in (None, *_STRENGTHS):
        smoothing = None if strength is None else _smoothing(activation, weights, strength)
        grid = make_grid(activation, smoothing)
        integers, scales = quantize_columns(scaled_rows(weights, smoothing))
        error = float(np.square(grid.round(activation.sample) @ (integers * scales) - exact).mean())
        if strength is None:
            error *= _WORTH_A_STEP
        if error < least:
            best, least = grid, error
    return best


def make_grid(activation: Activation, smoothing: np.ndarray | None) -> Grid:
    """Lay 256 steps over what an activation spans, once divided."""
    divisor = 1.0 if smoothing is None else smoothing
    low = min(float((activation.low / divisor).min()), 0.0)
    high = max(float((activation.high / divisor).max()), 0.0)
    scale = max(high - low, 1e-6) / 255
    return Grid(smoothing, scale, round(-low / scale))


def _smoothing(activation: Activation, weights: np.ndarray, strength: float) -> np.ndarray:
    widest = np.maximum(np.abs(activation.low), np.abs(activation.high))
    rows = np.abs(weights).max(axis=1)
    floor = 1e-3
    widest = np.maximum(widest, floor * widest.max() + 1e-12)
    rows = np.maximum(rows, floor * rows.max() + 1e-12)
    smoothing: np.ndarray = widest**strength / rows ** (1 - strength)
    return smoothing.astype(np.float32)


def scaled_rows(weights: np.ndarray, smoothing: np.ndarray | None) -> np.ndarray:
    """Multiply each channel's row of the weights by what the channel is divided by."""
    return weights if smoothing is None else weights * smoothing[:, None]


def weighted_nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes that multiply an activation (input 0) by a constant matrix (input 1)."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        is_product = node.op_type == "MatMul" or (
            node.op_type == "Attention" and node.domain == MICROSOFT
        )
        if is_product and node.input[1] in constants and len(constants[node.input[1]].dims) == 2:
            yield node


def measure_activations(
    model: Any, batches: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Activation]:
    """Run the float network on calibration batches and note what its activations look like.

    Parameters
    ----------
    batches : input_ids and attention_mask, each shape (batch, seq_len), int64.

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
        is_text = batch["attention_mask"].astype(bool)  # (batch, seq_len)
        for name, values in zip(names, session.run(names, dict(batch)), strict=True):
            tokens = values[is_text] if values.shape[:2] == is_text.shape else values
            tokens = tokens.reshape(-1, tokens.shape[-1])  # (n_tokens, n_channels)
            low[name] = np.minimum(low.get(name, tokens[0]), tokens.min(axis=0))
            high[name] = np.maximum(high.get(name, tokens[0]), tokens.max(axis=0))
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
    scales = np.abs(weights).max(axis=0) / 127
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    return Columns(np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), scales)


@dataclass
class _Rewriter:
    """Builds the int8 graph's nodes and constants."""

    activations: Mapping[str, Activation]
    grids: Mapping[str, Grid]
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    quantised: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def activation(self, name: str) -> tuple[str, str, str]:
        """Quantise an activation once, however many products it enters."""
        if name in self.quantised:
            return self.quantised[name]
        grid, source = self.grids[name], name
        if grid.smoothing is not None:
            factor = self.constant(f"{name}_smoothing", 1 / grid.smoothing)
            source = f"{name}_smooth"
            self.nodes.append(helper.make_node("Mul", [name, factor], [source]))
        scale = self.constant(f"{name}_scale", np.array(grid.scale, dtype=np.float32))
        zero = self.constant(f"{name}_zero", np.array(grid.zero_point, dtype=np.uint8))
        output = f"{name}_int8"
        self.nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [output]))
        self.quantised[name] = (output, scale, zero)
        return self.quantised[name]

    def product(self, node: Any, weights: np.ndarray) -> None:
        x, x_scale, x_zero = self.activation(node.input[0])
        source = node.input[0]
        integers, scales = round_weights(self.activations[source], self.grids[source], weights)
        name = f"{node.output[0]}_weights"  # a shared matrix is smoothed for each activation
        w = self.constant(f"{name}_int8", integers)
        w_scale = self.constant(f"{name}_scale", scales)
        if node.op_type == "MatMul":
            inputs = [x, w, x_scale, w_scale, x_zero]
            new = helper.make_node(
                "MatMulIntegerToFloat", inputs, list(node.output), domain=MICROSOFT
            )
        else:
            w_zero = self.constant(f"{name}_zero", np.zeros(scales.shape, dtype=np.int8))
            mask = node.input[3] if len(node.input) > 3 else ""
            inputs = [x, w, node.input[2], x_scale, w_scale, mask, x_zero, w_zero]
            given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            kept = {key: given[key] for key in _ATTENTION_KEYS if key in given}
            new = helper.make_node(
                "QAttention", inputs, list(node.output), domain=MICROSOFT, **kept
            )
        self.nodes.append(new)


def quantize_products(model: Any, activations: Mapping[str, Activation]) -> Any:
    """Return the graph with each product by a constant matrix computed in int8."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    weights: dict[str, list[np.ndarray]] = {}
    weighted = set()
    for node in weighted_nodes(model):
        matrix = numpy_helper.to_array(constants[node.input[1]])
        weights.setdefault(node.input[0], []).append(matrix)
        weighted.add(node.output[0])
    grids = {
        name: choose_grid(activations[name], np.concatenate(matrices, axis=1))
        for name, matrices in weights.items()
    }
    rewriter = _Rewriter(activations, grids)
    for node in model.graph.node:
        if node.output[0] in weighted:
            rewriter.product(node, numpy_helper.to_array(constants[node.input[1]]))
        else:
            rewriter.nodes.append(node)
    return _rebuilt(model, rewriter.nodes, list(rewriter.constants.values()))


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
