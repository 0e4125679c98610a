import numpy as np
import pytest

from relclass.models.quantization import (
    Activation,
    choose_grid,
    make_grid,
    measure_activations,
    pack_embeddings,
    quantize_columns,
    quantize_products,
)

onnx = pytest.importorskip("onnx")


def make_activation(values: np.ndarray) -> Activation:
    return Activation(values.min(axis=0), values.max(axis=0), values)


def test_columns_are_rounded_by_their_own_scale_by_hand():
    integers, scales = quantize_columns(np.array([[1.27, 0.0], [-0.64, 0.0]], dtype=np.float32))
    assert integers.tolist() == [[127, 0], [-64, 0]]
    assert scales[0] == pytest.approx(0.01)
    assert scales[1] == 1


def test_a_grid_spans_the_values_and_holds_zero():
    values = np.array([[-1.0, 0.5], [0.0, 4.1]], dtype=np.float32)
    grid = make_grid(make_activation(values), None)
    assert grid.scale == pytest.approx(5.1 / 255)
    assert grid.zero_point == 50
    assert np.abs(grid.round(values) - values).max() <= grid.scale / 2
    assert grid.round(np.zeros((1, 2)))[0, 0] == 0


def test_values_beyond_those_measured_are_held_at_the_edge():
    grid = make_grid(make_activation(np.array([[0.0], [1.0]])), None)
    assert grid.round(np.array([[9.0]]))[0, 0] == pytest.approx(1.0)


def test_a_wide_channel_is_smoothed_and_the_product_is_nearer():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 16)).astype(np.float32)
    values[:, 3] *= 60
    weights = rng.normal(size=(16, 8)).astype(np.float32)
    activation = make_activation(values)
    grid = choose_grid(activation, weights)
    assert grid.smoothing is not None
    exact = values @ weights
    plain = make_grid(activation, None).round(values) @ weights
    smooth = grid.round(values) @ (weights * grid.smoothing[:, None])
    assert np.square(smooth - exact).mean() < 0.3 * np.square(plain - exact).mean()


def test_even_channels_are_left_as_they_are():
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, size=(200, 16)).astype(np.float32)
    weights = rng.uniform(-1, 1, size=(16, 8)).astype(np.float32)
    assert choose_grid(make_activation(values), weights).smoothing is None


def build_model(embeddings: np.ndarray, weights: np.ndarray):
    """ids -> embeddings -> product with the weights; the mask is only there to be asked for."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["states"]),
        helper.make_node("MatMul", ["states", "weights"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq_len"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    constants = [
        numpy_helper.from_array(embeddings, "embeddings"),
        numpy_helper.from_array(weights, "weights"),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(model, ids):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(50, 64)).astype(np.float32),
        rng.normal(size=(64, 12)).astype(np.float32),
    )


IDS = np.arange(20, dtype=np.int64).reshape(4, 5)


def test_a_quantised_product_is_near_the_exact_one(matrices):
    model = build_model(*matrices)
    batch = {"input_ids": np.arange(50, dtype=np.int64)[None]}
    batch["attention_mask"] = np.ones_like(batch["input_ids"])
    small = quantize_products(model, measure_activations(model, [batch]))
    assert "MatMul" not in [node.op_type for node in small.graph.node]
    assert "weights" not in [tensor.name for tensor in small.graph.initializer]
    exact = run(model, IDS)
    assert np.abs(run(small, IDS) - exact).max() < 0.02 * np.abs(exact).max()


def test_padding_is_not_measured(matrices):
    embeddings, weights = matrices
    embeddings[49] = 1000.0
    model = build_model(embeddings, weights)
    ids = np.array([[0, 1, 2, 49]], dtype=np.int64)
    batch = {"input_ids": ids, "attention_mask": np.array([[1, 1, 1, 0]])}
    assert measure_activations(model, [batch])["states"].high.max() < 10


def test_embeddings_that_came_from_blocks_stay_in_them_without_loss(matrices):
    from relclass.models.blocks import to_blocks

    embeddings = to_blocks(matrices[0]).values()
    model = build_model(embeddings, matrices[1])
    packed = pack_embeddings(model, "embeddings")
    assert "GatherBlockQuantized" in [node.op_type for node in packed.graph.node]
    assert np.allclose(run(packed, IDS), run(model, IDS), atol=1e-6)
    assert packed.ByteSize() < model.ByteSize() - embeddings.nbytes * 0.75


def test_other_embeddings_go_to_int8_by_row(matrices):
    model = build_model(*matrices)
    packed = pack_embeddings(model, "embeddings")
    assert "GatherBlockQuantized" not in [node.op_type for node in packed.graph.node]
    exact = run(model, IDS)
    assert np.abs(run(packed, IDS) - exact).max() < 0.02 * np.abs(exact).max()
