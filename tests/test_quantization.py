import numpy as np
import pytest

from relclass.errors import ModelError
from relclass.models.quantization import (
    Activation,
    make_grid,
    measure_activations,
    off_by,
    pack_embeddings,
    quantize_columns,
    quantize_products,
    round_weights,
    share_embeddings,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def make_activation(values: np.ndarray) -> Activation:
    return Activation(float(values.min()), float(values.max()), values)


def test_columns_are_rounded_by_their_own_scale_by_hand():
    integers, scales = quantize_columns(np.array([[1.27, 0.0], [-0.64, 0.0]], dtype=np.float32))
    assert integers.tolist() == [[127, 0], [-64, 0]]
    assert scales[0] == pytest.approx(0.01)
    assert scales[1] == 1


def test_a_grid_spans_the_values_with_room_and_holds_zero():
    grid = make_grid(make_activation(np.array([[-1.0], [4.08]])))
    assert grid.scale == pytest.approx(5.08 / 127)
    assert grid.zero_point == 25
    assert grid.round(np.zeros(1)) == 0


def test_fine_steps_take_up_what_coarse_ones_miss():
    values = np.random.default_rng(0).normal(size=(100, 8))
    grid = make_grid(make_activation(values))
    error = np.abs(grid.round(values) - values).max()
    assert error <= grid.scale / 127 / 2 * 1.001
    assert error > 0


def test_wider_values_than_any_measured_are_still_rounded_well():
    grid = make_grid(make_activation(np.array([[-1.0], [1.0]])))
    assert grid.round(np.array([2.5]))[0] == pytest.approx(2.5, abs=1e-3)


def test_no_pair_of_products_overflows_sixteen_bits():
    grid = make_grid(make_activation(np.array([[-3.0], [9.0]])))
    widest_step = round(9.0 / grid.scale) + grid.zero_point
    assert 2 * widest_step * 127 < 2**15


def test_weights_rounded_together_are_nearer_than_each_by_itself():
    rng = np.random.default_rng(0)
    sample = (rng.normal(size=(400, 4)) @ rng.normal(size=(4, 32))).astype(np.float32)
    sample += 0.1 * rng.normal(size=sample.shape).astype(np.float32)
    weights = rng.normal(size=(32, 12)).astype(np.float32)
    exact = sample @ weights

    def error(columns):
        return np.square(sample @ (columns.integers * columns.scales) - exact).mean()

    together = round_weights(sample, weights)
    assert np.abs(together.integers).max() <= 127
    assert error(together) < 0.5 * error(quantize_columns(weights))


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
BATCH = {"input_ids": np.arange(50, dtype=np.int64)[None], "attention_mask": np.ones((1, 50), int)}


def test_a_quantised_product_is_near_the_exact_one(matrices):
    model = build_model(*matrices)
    batch = {"input_ids": np.arange(50, dtype=np.int64)[None]}
    batch["attention_mask"] = np.ones_like(batch["input_ids"])
    small = quantize_products(model, measure_activations(model, [batch]))
    assert "MatMul" not in [node.op_type for node in small.graph.node]
    assert "weights" not in [tensor.name for tensor in small.graph.initializer]
    exact = run(model, IDS)
    assert np.abs(run(small, IDS) - exact).max() < 0.01 * np.abs(exact).max()


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


def add_bias(model):
    from onnx import helper, numpy_helper

    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    product.output[0] = "product"
    bias = np.linspace(-1, 1, 12, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    model.graph.node.append(helper.make_node("Add", ["bias", "product"], ["logits"]))
    return model


@pytest.mark.parametrize("is_twice", [False, True])
def test_a_bias_goes_into_the_product_it_is_added_to(matrices, is_twice):
    model = add_bias(build_model(*matrices))
    small = quantize_products(model, measure_activations(model, [BATCH]), is_twice=is_twice)
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("Add") == is_twice  # that of the two products alone
    exact = run(model, IDS)
    tolerance = 0.01 if is_twice else 0.05
    assert np.abs(run(small, IDS) - exact).max() < tolerance * np.abs(exact).max()


def test_the_greatest_difference_of_a_probability_is_found(matrices):
    embeddings, weights = matrices
    model, other = build_model(embeddings, weights), build_model(embeddings, 2 * weights)
    logits = embeddings @ weights
    expected = np.abs(1 / (1 + np.exp(-logits)) - 1 / (1 + np.exp(-2 * logits))).max()
    assert off_by(model, other, [BATCH]) == pytest.approx(expected, rel=1e-4)
    assert off_by(model, model, [BATCH]) == 0


def test_embeddings_that_two_graphs_share_are_kept_once(matrices):
    embeddings, weights = matrices
    models = [
        pack_embeddings(build_model(embeddings, w), "embeddings") for w in (weights, -weights)
    ]
    whole = [run(model, IDS) for model in models]
    shared = share_embeddings(models, "embeddings").SerializeToString()
    for model, expected in zip(models, whole, strict=True):
        alone = model.SerializeToString()
        assert len(alone) < len(shared)
        session = onnxruntime.InferenceSession(alone + shared, providers=["CPUExecutionProvider"])
        (given,) = session.run(["logits"], {"input_ids": IDS, "attention_mask": np.ones_like(IDS)})
        np.testing.assert_array_equal(given, expected)


def test_embeddings_that_differ_are_not_shared(matrices):
    embeddings, weights = matrices
    models = [
        pack_embeddings(build_model(values, weights), "embeddings")
        for values in (embeddings, 2 * embeddings)
    ]
    with pytest.raises(ModelError, match="different word embeddings"):
        share_embeddings(models, "embeddings")
