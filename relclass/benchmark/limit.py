"""The wall: how many int8 operations a second this machine does, and how many a passage costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relclass.errors import MissingExtraError

_TOKENS = (256, 1024)
_SECONDS = 1.0
# products of weights, by the position of the weight among the inputs
_PRODUCTS = {
    "MatMul": 1, "MatMulInteger": 1, "DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1,
    "Gemm": 1, "Attention": 1, "QAttention": 1, "QLinearMatMul": 3, "QGemm": 3,
}  # fmt: skip


def weight_sizes(model_path: Path) -> list[tuple[int, int]]:
    """List the sizes of the weights that every token is multiplied with.

    Returns
    -------
    (inputs, outputs) of each product of activations and weights in the network; the embeddings
    are looked up, so they are not among them.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "train") from error
    return [size for _, size in _products(onnx.load(str(model_path)))]


def _products(model: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the output's name and the weight's size of each product by a weight."""
    shapes = _constant_shapes(model)
    for node in model.graph.node:
        place = _PRODUCTS.get(node.op_type)
        if place is None or place >= len(node.input):
            continue
        shape = shapes.get(node.input[place], ())
        if len(shape) == 2 and min(shape) > 1:
            yield node.output[0], (int(shape[0]), int(shape[1]))


def _constant_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of constants by name, those computed when the session opens among them."""
    from onnx import shape_inference

    inferred = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in shape_inference.infer_shapes(model).graph.value_info
    }
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.input and all(name in shapes for name in node.input if name):
            shapes |= {name: inferred[name] for name in node.output if name in inferred}
    return shapes


def count_operations(
    model_path: Path, batches: Sequence[Mapping[str, np.ndarray]], *, rest: bytes = b""
) -> int:
    """Count the operations that reading some batches takes: not all layers read all tokens.

    Parameters
    ----------
    batches : what enters the network, by name.
    rest : of the network, see `relclass.models.onnx.open_session`.
    """
    import onnx
    import onnxruntime

    model = onnx.load_from_string(model_path.read_bytes() + rest)
    products = dict(_products(model))
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in products)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = list(products)
    return sum(
        2 * product.size * products[name][0]
        for batch in batches
        for name, product in zip(names, session.run(names, dict(batch)), strict=True)
    )


def ops_per_token(sizes: Sequence[tuple[int, int]]) -> int:
    """Count the operations of a token: a multiplication and an addition a weight."""
    return sum(2 * inputs * outputs for inputs, outputs in sizes)


def measure_limit(sizes: Sequence[tuple[int, int]], *, n_threads: int) -> float:
    """Measure int8 products of the network's own sizes and nothing else.

    Returns
    -------
    Operations a second, at the best number of tokens.
    """
    return max(_measure_at(n_tokens, sizes, n_threads) for n_tokens in _TOKENS)


def _measure_at(n_tokens: int, sizes: Sequence[tuple[int, int]], n_threads: int) -> float:
    """Run one product of each distinct size in turn, as often as the network has it."""
    distinct = {size: list(sizes).count(size) for size in dict.fromkeys(sizes)}
    rng = np.random.default_rng(0)
    seconds = 0.0
    for (inputs, outputs), count in distinct.items():
        session = _open_product(inputs, outputs, n_threads)
        tokens = rng.integers(0, 255, (n_tokens, inputs), dtype=np.uint8)
        session.run(None, {"tokens": tokens})
        n_runs, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < _SECONDS / len(distinct):
            session.run(None, {"tokens": tokens})
            n_runs += 1
        seconds += count * spent / n_runs
    return n_tokens * ops_per_token(sizes) / seconds


def _open_product(inputs: int, outputs: int, n_threads: int) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    from relclass.models.onnx import open_session
    from relclass.models.quantization import needs_exact_products

    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 127, (inputs, outputs), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["tokens", "weights"], ["product"])],
        "product",
        [helper.make_tensor_value_info("tokens", TensorProto.UINT8, [None, inputs])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [None, outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    # as the network's own: fast products that are wrong are no limit to go by
    is_exact = needs_exact_products()
    return open_session(model.SerializeToString(), is_exact=is_exact, n_threads=n_threads)
