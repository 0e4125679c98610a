import numpy as np
import pytest
from test_quantization import IDS, run

from relclass.models.quantization import Activation, measure_activations, quantize_products

onnx = pytest.importorskip("onnx")

from relclass.models.balancing import balance_channels, choose_factors  # noqa: E402

N, HIDDEN, INNER = 50, 16, 24


def build_feed_forward(*, is_read_twice: bool = False):
    """ids -> embeddings -> product, bias, ReLU -> product; a few channels very wide."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(N, HIDDEN)).astype(np.float32)
    embeddings[:, 3] *= 40
    inner = rng.normal(size=(HIDDEN, INNER)).astype(np.float32) / 4
    inner[:, 5] *= 30
    bias = rng.normal(size=INNER).astype(np.float32)
    outer = rng.normal(size=(INNER, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["states"]),
        helper.make_node("MatMul", ["states", "inner"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["active"]),
        helper.make_node("MatMul", ["active", "outer"], ["narrow"]),
    ]
    if is_read_twice:
        nodes.append(helper.make_node("ReduceSum", ["active", "axes"], ["whole"], keepdims=1))
        nodes.append(helper.make_node("Add", ["narrow", "whole"], ["logits"]))
    else:
        nodes.append(helper.make_node("Identity", ["narrow"], ["logits"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq_len"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    values = {"embeddings": embeddings, "inner": inner, "bias": bias, "outer": outer}
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    constants.append(numpy_helper.from_array(np.array([-1]), "axes"))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def measured(model):
    ids = np.arange(N, dtype=np.int64)[None]
    return measure_activations(model, [{"input_ids": ids, "attention_mask": np.ones_like(ids)}])


def widths(activation):
    return np.maximum(-activation.low, activation.high)


@pytest.mark.parametrize("is_read_twice", [False, True])
def test_a_balanced_graph_gives_the_same_logits_of_even_channels(is_read_twice):
    model = build_feed_forward(is_read_twice=is_read_twice)
    before = measured(model)
    balanced, after = balance_channels(model, before)
    np.testing.assert_allclose(run(balanced, IDS), run(model, IDS), rtol=1e-4, atol=1e-4)
    for old, new in zip(before.values(), after.values(), strict=True):
        spread = widths(new).max() / np.median(widths(new))
        assert spread < 0.5 * widths(old).max() / np.median(widths(old))
    again = measured(balanced)  # what it claims of them is what they are
    assert set(again) == set(after)
    for name, activation in after.items():
        np.testing.assert_allclose(activation.high, again[name].high, rtol=1e-4)


def test_a_division_costs_nothing_where_a_product_can_take_it_up():
    model = build_feed_forward()
    balanced, after = balance_channels(model, measured(model))
    divided = [node.input[0] for node in balanced.graph.node if node.op_type == "Mul"]
    assert divided == ["states"]
    assert set(after) == {"states_balanced", "active"}


def test_what_others_read_too_is_divided_on_the_side():
    model = build_feed_forward(is_read_twice=True)
    balanced, _ = balance_channels(model, measured(model))
    divided = [node.input[0] for node in balanced.graph.node if node.op_type == "Mul"]
    assert divided == ["states", "active"]


def test_the_model_that_is_given_is_left_as_it_was():
    model = build_feed_forward()
    before = model.SerializeToString()
    balance_channels(model, measured(model))
    assert model.SerializeToString() == before


def test_balanced_channels_are_quantised_better():
    model = build_feed_forward()
    activations = measured(model)
    exact = run(model, IDS)

    def error(graph, found):
        return np.abs(run(quantize_products(graph, found, is_twice=False), IDS) - exact).max()

    assert error(*balance_channels(model, activations)) < 0.5 * error(model, activations)


def test_a_channel_that_is_never_used_gets_a_factor_all_the_same():
    activation = Activation(np.array([0.0, -1.0]), np.array([0.0, 2.0]), np.zeros((3, 2)))
    factors = choose_factors(activation, np.array([[0.0], [1.0]]))
    assert (factors > 0).all()
    assert np.isfinite(factors).all()
