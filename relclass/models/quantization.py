"""A float ONNX graph -> the same network in int8, the word embeddings in 4-bit blocks.

Every activation that enters a weight's product is quantised on a grid fixed at export. A grid
taken from the batch at hand (dynamic quantisation) would make a passage's probabilities depend on
its neighbours. A few channels of BERT's activations are ten times as wide as the rest, and would
make the steps of one grid coarse: they enter the product several times, in slices. Where one grid
is too coarse all the same, what it misses is quantised again, by a finer one, and the two products
are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from relclass.errors import MissingExtraError, ModelError
from relclass.models.blocks import BLOCK_SIZE, to_blocks
from relclass.models.onnx import open_session, overflows

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("onnx", "train") from error

MICROSOFT = "com.microsoft"
_BIAS = 6  # place among the inputs of an integer product
_OPSET = 21  # the first with 4-bit integers
_IR_VERSION = 10
_STEPS = 255
_COARSE_STEPS = 127  # of the first of two grids: the others are room for wider texts
_WIDEST = 127  # step of a weight
_NARROWEST = 63  # the widest of a column that was rounded before has more steps
_ON_GRID = 1e-3  # of a step
_FINE_ZERO = 64
_N_SLICES = 64  # a width that int8 kernels read in one go
_PROBE_SHAPE = (64, 16)
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


@dataclass(frozen=True)
class SlicedGrid:
    """How an activation is rounded once: to 256 steps, its wide channels in slices.

    A channel that reaches beyond the steps is read again for each further slice that it reaches
    into, shifted so that the slice lies on the steps. What leaves the steps is cut off, so a slice
    that the channel has passed is worth its whole width, and one that it does not reach a constant,
    which is taken off. So a wide channel is rounded no more coarsely than the others, and enters
    the product with the same weights several times (duplicating wide channels: Zhao et al. 2019,
    https://arxiv.org/abs/1901.09504).

    Parameters
    ----------
    scale : width of a step.
    zero_point : the step that stands for zero, in [0, 255].
    channels : of each further slice, shape (n_slices,), int64.
    shifts : what is taken off the channel before it is rounded, shape (n_slices,), float32.
    rests : what a slice is worth where its channel does not reach it, shape (n_slices,), float32.
    """

    scale: float
    zero_point: int
    channels: np.ndarray
    shifts: np.ndarray
    rests: np.ndarray

    def round(self, values: np.ndarray) -> np.ndarray:
        """Return values, shape (..., n_channels), as the int8 network sees them."""
        rounded = self._cut(values)
        slices = self._cut(values[..., self.channels] - self.shifts) - self.rests
        for place, channel in enumerate(self.channels):
            rounded[..., channel] += slices[..., place]
        return rounded

    def _cut(self, values: np.ndarray) -> np.ndarray:
        steps = np.clip(np.rint(values / self.scale) + self.zero_point, 0, _STEPS)
        cut: np.ndarray = (steps - self.zero_point) * self.scale
        return cut


def slice_grid(activation: Activation, *, n_slices: int = _N_SLICES) -> SlicedGrid:
    """Lay the finest steps over an activation for which so many further slices suffice."""
    low, high = np.minimum(activation.low, 0.0), np.maximum(activation.high, 0.0)
    lowest, highest = np.sort(low)[: n_slices + 1], np.sort(high)[::-1][: n_slices + 1]
    shares = 1 / np.arange(2, n_slices + 2)  # one channel may be far wider than all others
    tops = np.concatenate([highest, highest[0] * shares])
    bottoms = np.concatenate([lowest, lowest[0] * shares])
    widths = np.maximum(tops[:, None] - bottoms, 1e-6)  # (n_tops, n_bottoms)
    above = np.ceil((highest - tops[:, None]).clip(0)[:, None] / widths[..., None])
    below = np.ceil((bottoms[:, None] - lowest).clip(0) / widths[..., None])
    n_needed = above.sum(axis=-1) + below.sum(axis=-1)  # (n_tops, n_bottoms)
    best = np.where(n_needed <= n_slices, widths, np.inf).argmin()
    of_top, of_bottom = np.unravel_index(best, widths.shape)
    top, bottom = float(tops[of_top]), float(bottoms[of_bottom])
    scale = float(widths[of_top, of_bottom]) / _STEPS
    zero_point = round(-bottom / scale)
    width = _STEPS * scale
    slices = []
    for channel in np.flatnonzero((high > top) | (low < bottom)):
        for number in range(1, 1 + int(np.ceil((high[channel] - top) / width))):
            slices.append((channel, number * width, -zero_point * scale))
        for number in range(1, 1 + int(np.ceil((bottom - low[channel]) / width))):
            slices.append((channel, -number * width, (_STEPS - zero_point) * scale))
    columns = np.array(slices, dtype=np.float64).reshape(-1, 3).T
    channels, shifts, rests = columns
    return SlicedGrid(
        scale,
        zero_point,
        channels.astype(np.int64),
        shifts.astype(np.float32),
        rests.astype(np.float32),
    )


@dataclass(frozen=True)
class Grid:
    """How an activation is rounded twice: to coarse steps, and what they miss to fine ones.

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
        return self.scale / _COARSE_STEPS

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
    scale = max(high - low, 1e-6) / _COARSE_STEPS
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
    batches : input_ids and attention_mask, each shape (batch, seq_len), int64; without padding,
        as some activations are of fewer tokens, and nothing here says which of these are padding.

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
    n_tokens = sum(batch["input_ids"].size for batch in batches)
    rng = np.random.default_rng(0)
    for batch in batches:
        n_sampled = max(1, _N_SAMPLED * batch["input_ids"].size // n_tokens)
        for name, values in zip(names, session.run(names, dict(batch)), strict=True):
            tokens = values.reshape(-1, values.shape[-1])  # (n_tokens, n_channels)
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

    def values(self) -> np.ndarray:
        """Return the matrix that they stand for, float32."""
        values: np.ndarray = self.integers * self.scales
        return values


def quantize_columns(weights: np.ndarray) -> Columns:
    """Round each value of a matrix, shape (n_inputs, n_outputs), by itself.

    A column that was read from such integers gives the same ones again, whatever the widest is.
    """
    widest = np.abs(weights).max(axis=0)
    scales = np.where(widest == 0, 1, widest / _WIDEST).astype(np.float32)
    left = np.flatnonzero(widest)
    for steps in range(_WIDEST, _NARROWEST, -1):
        candidates = widest[left] / steps
        in_steps = weights[:, left] / candidates
        fits = np.abs(in_steps - np.rint(in_steps)).max(axis=0) < _ON_GRID
        scales[left[fits]] = candidates[fits]
        left = left[~fits]
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

    initializers: Mapping[str, Any]
    activations: Mapping[str, Activation]
    rounded: Mapping[str, Columns]
    twice: Collection[str]
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    grids: dict[str, SlicedGrid | Grid] = field(default_factory=dict)
    quantised: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def add(
        self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
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
        """Quantise an activation, once however many products it enters."""
        if name not in self.quantised:
            round_it = self._twice if name in self.twice else self._once
            self.quantised[name] = round_it(name)
        return self.quantised[name]

    def _twice(self, name: str) -> list[tuple[str, str, str]]:
        grid = self.grids[name] = make_grid(self.activations[name])
        coarse = self.quantise(name, grid.scale, grid.zero_point)
        back = self.add("DequantizeLinear", list(coarse), f"{name}_coarse")
        missed = self.add("Sub", [name, back], f"{name}_missed")
        return [coarse, self.quantise(missed, grid.fine_scale, _FINE_ZERO)]

    def _once(self, name: str) -> list[tuple[str, str, str]]:
        grid = self.grids[name] = slice_grid(self.activations[name])
        values, scale, zero_point = self.quantise(name, grid.scale, grid.zero_point)
        if len(grid.channels):
            channels = self.constant(f"{name}_channels", grid.channels)
            shifts = self.constant(f"{name}_shifts", grid.shifts)
            wide = self.add("Gather", [name, channels], f"{name}_wide", axis=-1)
            shifted = self.add("Sub", [wide, shifts], f"{name}_shifted")
            slices = self.add("QuantizeLinear", [shifted, scale, zero_point], f"{name}_slices")
            values = self.add("Concat", [values, slices], f"{name}_whole", axis=-1)
        return [(values, scale, zero_point)]

    def product(self, node: Any, *, bias: str, output: str) -> None:
        source = node.input[0]
        columns = self.rounded[node.output[0]]
        of_weights = self.constant(f"{output}_weights_int8", columns.integers)
        of_scales = self.constant(f"{output}_weights_scale", columns.scales)
        quantised = self.activation(source)
        grid = self.grids[source]
        shift = self._missed_on_average(node)
        if isinstance(grid, SlicedGrid) and len(grid.channels):
            # made when the session opens: the file holds a row once
            rows = self.add("Gather", [of_weights, f"{source}_channels"], f"{output}_rows")
            of_weights = self.add("Concat", [of_weights, rows], f"{output}_weights", axis=0)
            shift -= grid.rests @ columns.values()[grid.channels]
        if bias:
            shift += self._values(bias)
        of_bias = self.constant(f"{output}_bias", shift.astype(np.float32))
        first, *fine = quantised
        name = f"{output}_coarse" if fine else output
        self._multiply(first, of_weights, of_scales, name, bias=of_bias)
        for second in fine:
            # a copy, made when the session opens: where onnxruntime has to take exact products, it
            # cannot do so for a constant of two
            again = self.add("Concat", [of_weights], f"{output}_weights_again", axis=0)
            missed = self._multiply(second, again, of_scales, f"{output}_fine")
            self.add("Add", [name, missed], output)

    def _multiply(
        self,
        quantised: tuple[str, str, str],
        weights: str,
        scales: str,
        output: str,
        *,
        bias: str = "",
    ) -> str:
        values, scale, zero = quantised
        inputs = [values, weights, scale, scales, zero, *(["", bias] if bias else [])]
        return self.add("MatMulIntegerToFloat", inputs, output, MICROSOFT)

    def _missed_on_average(self, node: Any) -> np.ndarray:
        """Say by what rounding shifts each output's mean (Nagel et al. 2019).

        https://arxiv.org/abs/1906.04721. The logits are read off a mean over tokens, where such a
        shift stays and the rest of an error evens out.
        """
        sample = self.activations[node.input[0]].sample
        given = self.grids[node.input[0]].round(sample) @ self.rounded[node.output[0]].values()
        shift: np.ndarray = (sample @ self._values(node.input[1]) - given).mean(axis=0)
        return shift

    def _values(self, name: str) -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(self.initializers[name])
        return values


def reading_order(model: Any) -> list[str]:
    """Return the activations that enter a weight's product, in the order of the graph."""
    return list(dict.fromkeys(node.input[0] for node in weighted_nodes(model)))


def round_products(model: Any, activations: Mapping[str, Activation]) -> dict[str, Columns]:
    """Quantise the matrix of each product by a constant one; see `round_weights`.

    Returns
    -------
    Name of the product to its matrix.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.output[0]: round_weights(
            activations[node.input[0]].sample, numpy_helper.to_array(constants[node.input[1]])
        )
        for node in weighted_nodes(model)
    }


def quantize_products(
    model: Any,
    activations: Mapping[str, Activation],
    *,
    twice: Collection[str] = (),
    rounded: Mapping[str, Columns] | None = None,
) -> Any:
    """Return the graph with each product by a constant matrix computed in int8.

    A bias that is added to a product and to nothing else goes into it.

    Parameters
    ----------
    twice : activations of which a second grid quantises what the first one misses.
    rounded : what `round_products` returned; None calls it.
    """
    rounded = round_products(model, activations) if rounded is None else rounded
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    weighted = {node.output[0] for node in weighted_nodes(model)}
    sums = _biased(model, weighted)
    taken_up = {output for _, output in sums.values()}
    rewriter = _Rewriter(constants, activations, rounded, twice)
    for node in model.graph.node:
        if node.output[0] in weighted:
            bias, output = sums.get(node.output[0], ("", node.output[0]))
            rewriter.product(node, bias=bias, output=output)
        elif node.output[0] not in taken_up:
            rewriter.nodes.append(node)
    return _rebuilt(model, rewriter.nodes, list(rewriter.constants.values()))


def run_graph(model: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Return a graph's logits of some batches, shape (n_windows, n_topics)."""
    session = open_session(model.SerializeToString(), is_exact=needs_exact_products(), n_threads=0)
    return np.concatenate([session.run(["logits"], dict(batch))[0] for batch in batches])


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
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[Any] = []
    sums: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "SkipLayerNormalization":
            nodes.append(node)
            continue
        values, skipped, gamma, beta, *bias = node.input
        if bias:
            product = producers[values]
            if product.op_type == "Add":  # of the coarse product and the fine one
                product = producers[product.input[0]]
            parts = (constants[name] for name in (product.input[_BIAS], *bias))
            whole = sum(numpy_helper.to_array(part) for part in parts)
            product.input[_BIAS] = f"{product.output[0]}_biases"
            sums.append(numpy_helper.from_array(whole, product.input[_BIAS]))
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
    return _rebuilt(model, nodes, sums)


def overflow_probe() -> Any:
    """Return a graph whose product is wrong where a processor adds pairs of them in 16 bits.

    It takes "values", shape (n, 64), all 255, and gives "product", shape (n, 16), all 2,072,640
    where integer products are exact.
    """
    n_inputs, n_outputs = _PROBE_SHAPE
    weights = np.full((n_inputs, n_outputs), _WIDEST, dtype=np.int8)
    constants = {
        "weights": weights,
        "scale": np.array(1, dtype=np.float32),
        "zero": np.array(0, dtype=np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["values", "scale", "zero"], ["integers"]),
        helper.make_node(
            "MatMulIntegerToFloat",
            ["integers", "weights", "scale", "scale", "zero"],
            ["product"],
            domain=MICROSOFT,
        ),
    ]
    values, product = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("values", n_inputs), ("product", n_outputs))
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "overflow", [values], [product], tensors)
    return helper.make_model(graph, opset_imports=_opsets(), ir_version=_IR_VERSION)


@cache
def needs_exact_products() -> bool:
    """Say whether this processor's fastest int8 products are wrong; see `overflows`."""
    return overflows(overflow_probe().SerializeToString())


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
    new.opset_import.extend(_opsets())
    new.ir_version = _IR_VERSION
    return new


def _opsets() -> list[Any]:
    return [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
