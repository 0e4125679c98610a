import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from batch_stubs import SENTENCES, TOPICS, save_lexicon_model
from tiny_encoders import write_tiny_encoder

from relclass.benchmark.growth import measure_growth, write_articles
from relclass.benchmark.limit import count_operations, measure_limit, ops_per_token, weight_sizes
from relclass.benchmark.measure import Labelled, Measurement, Task, run_alone
from relclass.benchmark.suite import (
    PIPELINE,
    Setup,
    _count,
    ratio_vs_pipeline,
    run_suite,
    sample,
    to_markdown,
)
from relclass.models.store import load_model

ROOT = Path(__file__).parent.parent


@pytest.fixture
def passages():
    y_true = [[int(word in text) for word in ("border", "railway", "gas", "shusha")]
              for text in SENTENCES]  # fmt: skip
    return Labelled(list(SENTENCES), ["en"] * len(SENTENCES), y_true)


def test_a_model_of_ours_is_measured_in_a_process_of_its_own(tmp_path, passages):
    model = save_lexicon_model(tmp_path / "tiny")
    task = Task("ours", "model", model, 1, 1, passages, passages)
    result = run_alone(task, tmp_path)
    assert result.macro_f1 == 1.0
    assert result.startup_s > 0.1
    assert result.passages_per_s > 10
    assert 20 < result.peak_mb < 600


def test_a_contender_that_fails_brings_its_last_words(tmp_path, passages):
    task = Task("gone", "model", "no-such-model", 1, 1, passages, passages)
    with pytest.raises(RuntimeError, match=r"gone failed:\n(.|\n)*no-such-model"):
        run_alone(task, tmp_path)


def test_a_sample_is_spread_evenly_and_keeps_the_labels(passages):
    three = sample(passages, 3)
    assert three.texts == [SENTENCES[0], SENTENCES[2], SENTENCES[4]]
    assert three.y_true == [passages.y_true[i] for i in (0, 2, 4)]
    assert sample(passages, 100) == passages


def make_result(name, rate, f1=None):
    return Measurement(name, 1.25, rate, 321.0, f1, "")


def test_the_table_and_the_ratio_are_taken_against_the_pipeline():
    results = [make_result("default", 200.0, 0.91), make_result(PIPELINE, 25.0)]
    assert ratio_vs_pipeline(results, "default") == 8.0
    lines = to_markdown(results).splitlines()
    assert lines[2].startswith("| default | 200.0 | 8.0 | 1.2 | 321 | 0.910 |")
    assert "| – |" in lines[3]


def test_operations_are_counted_from_the_networks_weights(tmp_path):
    onnx = pytest.importorskip("onnx")
    weights = [np.ones((8, 16), np.int8), np.ones((16, 4), np.int8)]
    names = ["first", "second"]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMulInteger", ["x", "first"], ["y"]),
            onnx.helper.make_node("MatMulInteger", ["z", "second"], ["out"]),
        ],
        "g",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [None, width])
            for name, width in (("x", 8), ("z", 16))
        ],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.INT32, [None, 4])],
        [onnx.numpy_helper.from_array(w, n) for w, n in zip(weights, names, strict=True)],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, str(tmp_path / "model.onnx"))
    sizes = weight_sizes(tmp_path / "model.onnx")
    assert sizes == [(8, 16), (16, 4)]
    assert ops_per_token(sizes) == 2 * (8 * 16 + 16 * 4)
    batch = {"x": np.ones((3, 8), np.uint8), "z": np.ones((5, 16), np.uint8)}
    counted = count_operations(tmp_path / "model.onnx", [batch, batch])
    assert counted == 2 * 2 * (3 * 8 * 16 + 5 * 16 * 4)


def test_weights_made_when_the_session_opens_count_too(tmp_path):
    onnx = pytest.importorskip("onnx")
    constants = {"weights": np.ones((8, 16), np.int8), "rows": np.array([0, 5])}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gather", ["weights", "rows"], ["again"]),
            onnx.helper.make_node("Concat", ["weights", "again"], ["whole"], axis=0),
            onnx.helper.make_node("MatMulInteger", ["x", "whole"], ["out"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [None, 10])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.INT32, [None, 16])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert weight_sizes(tmp_path / "model.onnx") == [(10, 16)]


def test_a_shipped_encoders_operations_grow_with_the_tokens():
    pytest.importorskip("onnx")
    scorer = load_model("encoder").scorer
    sizes = weight_sizes(scorer.model_dir / "model.onnx")
    texts = ["گاز", "خط لوله گاز از ایران به جمهوری آذربایجان می‌رود."]
    tokens = [len(ids) for ids in scorer.tokenize(texts).input_ids]
    for text, n_tokens in zip(texts, tokens, strict=True):
        # the head alone reads a passage once
        assert 0.99 < _count(scorer, [text]) / (n_tokens * ops_per_token(sizes)) <= 1


def test_the_limit_is_a_rate_of_operations():
    pytest.importorskip("onnx")
    assert measure_limit([(64, 128), (128, 64)], n_threads=1) > 1e8


def test_made_up_articles_have_the_passages_asked_for(tmp_path):
    model = save_lexicon_model(tmp_path / "tiny")
    row = measure_growth(model, SENTENCES, tmp_path, n_passages=20, n_words=30)
    assert (row.n_passages, row.n_words) == (20, 30)
    assert row.seconds > 0.1 and 20 < row.peak_mb < 600


def test_made_up_articles_are_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        write_articles(tmp_path / name, SENTENCES, n_passages=13, n_words=5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len((tmp_path / "a").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.slow
def test_every_peer_runs_on_a_tiny_encoder(tmp_path, passages):
    encoder = write_tiny_encoder(tmp_path / "encoder", "bert")
    setup = Setup(
        train=passages,
        test=passages,
        encoder=str(encoder),
        models=(save_lexicon_model(tmp_path / "tiny"),),
        n_threads=1,
        work_dir=tmp_path,
    )
    results = run_suite(setup, is_quick=False)
    names = [result.name for result in results]
    assert names[1:3] == [PIPELINE, "pipeline, batch 32"]
    assert [r.macro_f1 is None for r in results[:3]] == [False, True, True]
    assert all(result.passages_per_s > 0 for result in results)
    assert len(TOPICS) == 4


@pytest.mark.slow
def test_the_script_ends_with_the_ratio(tmp_path):
    encoder = write_tiny_encoder(tmp_path / "encoder", "bert")
    model = save_lexicon_model(tmp_path / "tiny")
    command = [
        sys.executable, "scripts/benchmark.py", "--quick", "--passages", "8", "--threads", "1",
        "--encoder", str(encoder), "--model", model,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ratio_vs_pipeline: ")
