import numpy as np
import pytest

from relclass.errors import ModelError
from relclass.models.onnx import open_session
from relclass.models.quantization import (
    Activation,
    make_grid,
    measure_activations,
    needs_exact_products,
    overflow_probe,
    pack_embeddings,
    quantize_columns,
    quantize_products,
    reading_order,
    round_weights,
    run_graph,
    share_embeddings,
    slice_grid,
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


def by_channel(values: np.ndarray) -> Activation:
    return Activation(values.min(axis=0), values.max(axis=0), values)


def test_a_wide_channel_is_sliced_by_hand():
    grid = slice_grid(
        Activation(np.array([0.0, 0.0]), np.array([2.55, 7.0]), np.zeros((1, 2))), n_slices=2
    )
    assert grid.scale == pytest.approx(0.01)
    assert grid.zero_point == 0
    assert grid.channels.tolist() == [1, 1]  # of 7 the grid holds 2.55, and two slices the rest
    assert grid.shifts == pytest.approx([2.55, 5.1])
    assert grid.rests == pytest.approx([0, 0])
    rounded = grid.round(np.array([[1.004, 6.666], [0.0, 2.559], [2.55, 0.004]]))
    assert rounded == pytest.approx(np.array([[1.0, 6.67], [0.0, 2.56], [2.55, 0.0]]))


@pytest.mark.parametrize("n_slices", [0, 3, 64])
def test_every_channel_is_rounded_to_half_a_step(n_slices):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 100)) + rng.normal(size=100)
    values[:, 7] *= 30
    values[:, 8] -= 20
    grid = slice_grid(by_channel(values), n_slices=n_slices)
    assert len(grid.channels) <= n_slices
    assert np.abs(grid.round(values) - values).max() <= grid.scale * 0.501


def test_slices_make_the_steps_finer():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 100))
    values[:, 7] *= 30
    scales = [slice_grid(by_channel(values), n_slices=n).scale for n in (0, 40, 64)]
    assert scales[0] > 10 * scales[1] > 10 * scales[2]


def test_a_channel_of_no_width_has_a_grid_all_the_same():
    grid = slice_grid(by_channel(np.zeros((3, 2))))
    assert grid.scale > 0
    assert grid.round(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


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
    return run_graph(model, [{"input_ids": ids, "attention_mask": np.ones_like(ids)}])


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(50, 64)).astype(np.float32),
        rng.normal(size=(64, 12)).astype(np.float32),
    )


IDS = np.arange(20, dtype=np.int64).reshape(4, 5)
BATCH = {"input_ids": np.arange(50, dtype=np.int64)[None], "attention_mask": np.ones((1, 50), int)}


@pytest.mark.parametrize(("twice", "tolerance"), [((), 0.02), (("states",), 0.01)])
def test_a_quantised_product_is_near_the_exact_one(matrices, twice, tolerance):
    model = build_model(*matrices)
    small = quantize_products(model, measure_activations(model, [BATCH]), twice=twice)
    assert "MatMul" not in [node.op_type for node in small.graph.node]
    assert "weights" not in [tensor.name for tensor in small.graph.initializer]
    exact = run(model, IDS)
    assert np.abs(run(small, IDS) - exact).max() < tolerance * np.abs(exact).max()


@pytest.mark.parametrize("twice", [(), ("states",)])
def test_exact_products_give_the_same(matrices, twice):
    embeddings, weights = matrices
    embeddings[:, 3] *= 30
    small = quantize_products(
        build_model(embeddings, weights),
        measure_activations(build_model(embeddings, weights), [BATCH]),
        twice=twice,
    )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    exact = onnxruntime.InferenceSession(
        small.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = exact.run(["logits"], {"input_ids": IDS, "attention_mask": np.ones_like(IDS)})
    probe = onnxruntime.InferenceSession(
        overflow_probe().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (product,) = probe.run(None, {"values": np.full((8, 64), 255, dtype=np.float32)})
    if (product == 64 * 255 * 127).all():  # else the fast products are the wrong ones
        np.testing.assert_allclose(given, run(small, IDS), rtol=1e-5, atol=1e-5)
    expected = run(build_model(embeddings, weights), IDS)
    assert np.abs(given - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("wide", [[], [3], [3, 20]])
def test_wide_channels_cost_the_others_nothing(matrices, wide):
    embeddings, weights = matrices
    embeddings[:, wide] = 30 * embeddings[:, wide] - 40
    model = build_model(embeddings, weights)
    small = quantize_products(model, measure_activations(model, [BATCH]))
    narrow = np.delete(np.abs(embeddings), wide, axis=1).max()
    step = 2 * narrow / 255
    # the sum of 64 and some roundings, and that of the weights
    expected = 3 * step * np.sqrt(64 / 12) + 0.01 * np.abs(embeddings @ weights).max()
    assert np.abs(run(small, IDS) - run(model, IDS)).max() < expected


def test_a_file_holds_the_weights_once(matrices):
    embeddings, weights = matrices
    embeddings[:, 3] *= 30
    model = build_model(embeddings, weights)
    small = quantize_products(model, measure_activations(model, [BATCH]))
    sizes = [np.prod(tensor.dims) for tensor in small.graph.initializer if len(tensor.dims) == 2]
    assert sorted(sizes) == sorted([embeddings.size, weights.size])


def test_what_rounding_shifts_on_average_is_put_right(matrices):
    embeddings, weights = matrices
    embeddings[:, 5] = 0.3  # the same for all: its error never evens out
    weights[5] *= 3
    model = build_model(embeddings, weights)
    activations = measure_activations(model, [BATCH])
    small = quantize_products(model, activations)
    ids = BATCH["input_ids"]
    shift = (run(small, ids) - run(model, ids)).mean(axis=(0, 1))
    spread = (run(small, ids) - run(model, ids)).std()
    assert np.abs(shift).max() < 0.5 * spread


def test_activations_are_named_in_the_order_they_are_read(matrices):
    assert reading_order(build_model(*matrices)) == ["states"]


def test_the_probe_is_exact_where_products_are():
    given = onnxruntime.InferenceSession(
        overflow_probe().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    # what a processor without VNNI gives here depends on it; the slower products never do
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    exact = onnxruntime.InferenceSession(
        overflow_probe().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = np.full((8, 64), 255, dtype=np.float32)
    assert given.get_inputs()[0].shape[1] == 64
    (product,) = exact.run(None, {"values": values})
    assert product.shape == (8, 16)
    assert (product == 64 * 255 * 127).all()


def test_longer_batches_have_more_tokens_in_the_sample(matrices):
    model = build_model(*matrices)
    alike = [np.full((1, n_tokens), token) for n_tokens, token in ((100, 1), (900, 2))]
    batches = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in alike]
    sample = measure_activations(model, batches)["states"].sample
    is_first = (sample == sample[0]).all(axis=1)
    assert is_first[0] and not is_first[-1]
    assert is_first.mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("widest", [127, 126, 90])
def test_a_matrix_that_was_rounded_before_gives_the_same_integers(widest):
    rng = np.random.default_rng(widest)
    integers = rng.integers(-widest, widest + 1, (384, 8)).astype(np.int8)
    integers[0] = widest  # after compensation the widest need not be 127 any more
    scales = rng.uniform(1e-4, 1e-2, 8).astype(np.float32)
    weights = integers * scales
    again = quantize_columns(weights)
    assert (again.integers == integers).all()
    assert np.allclose(again.scales, scales, rtol=1e-6)
    compensated = round_weights(rng.normal(size=(500, 384)), weights)
    assert (compensated.integers == integers).all()


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


@pytest.mark.parametrize("twice", [(), ("states",)])
def test_a_bias_goes_into_the_product_it_is_added_to(matrices, twice):
    model = add_bias(build_model(*matrices))
    small = quantize_products(model, measure_activations(model, [BATCH]), twice=twice)
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("Add") == len(twice)  # that of the two products alone
    exact = run(model, IDS)
    tolerance = 0.01 if twice else 0.02
    assert np.abs(run(small, IDS) - exact).max() < tolerance * np.abs(exact).max()


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


def test_a_graph_is_tried_with_exact_products_where_the_fast_ones_overflow(matrices, monkeypatch):
    embeddings, weights = matrices
    model = build_model(embeddings, weights)
    small = quantize_products(model, measure_activations(model, [BATCH]))
    asked = []

    def note(source, **options):
        asked.append(options["is_exact"])
        return open_session(source, **options)

    monkeypatch.setattr("relclass.models.quantization.open_session", note)
    monkeypatch.setattr("relclass.models.quantization.needs_exact_products", lambda: True)
    exact = run(model, IDS)
    assert np.abs(run(small, IDS) - exact).max() < 0.02 * np.abs(exact).max()
    assert asked == [True, True]


def test_this_processor_needs_exact_products_if_its_fast_ones_are_wrong():
    session = open_session(overflow_probe().SerializeToString())
    (product,) = session.run(None, {"values": np.full((8, 64), 255, dtype=np.float32)})
    assert needs_exact_products() == bool((product != 64 * 255 * 127).any())
