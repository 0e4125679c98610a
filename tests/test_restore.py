import sys
from dataclasses import replace

import numpy as np
import pytest
from test_pruning import redundant, sizes  # noqa: F401
from test_shipping import runs, student_run  # noqa: F401
from test_transformer import CODEBOOK, LONG, TEXTS, make_scorer
from tiny_encoders import SENTENCES, TOPICS

from relclass.calibration import Calibration
from relclass.cli import main
from relclass.config import NormalizeSettings, TrainConfig, load_config
from relclass.errors import ModelError
from relclass.models.base import Classifier
from relclass.models.export import ExportSettings, export_scorer
from relclass.models.network import keep_until_exit
from relclass.models.onnx import OnnxScorer
from relclass.models.pruning import prune_scorer
from relclass.models.restore import restore_classifier
from relclass.models.store import load_model, save_model
from relclass.shipping import build_default_model
from relclass.training import train

SAMPLE = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]
READ = ["گاز", "کامیون در مرز", *TEXTS]


def make_classifier(scorer, folder, *, corpus=()):
    """Export a network and put it in a classifier whose card says how it was trained."""
    folder.mkdir()
    export_scorer(scorer, TOPICS, folder, ExportSettings(corpus=corpus), texts=SAMPLE)
    small = OnnxScorer.load(folder, CODEBOOK, threads=1)
    card = {"config": {"model": scorer.settings.model_dump(mode="json")}}
    thresholds = np.full(len(TOPICS), 0.5)
    return Classifier(
        "tiny", CODEBOOK, small, NormalizeSettings(), Calibration(), thresholds, card=card
    )


@pytest.fixture
def wide(tiny_encoder):
    """Make a network with a few wide channels, so that the export slices them."""
    import torch

    scorer = make_scorer(tiny_encoder("bert"), prefix="query: ")
    with torch.no_grad():
        for layer in scorer.network.encoder.encoder.layer:
            layer.output.LayerNorm.weight[3] *= 20
            layer.output.LayerNorm.bias[5] += 15
            torch.nn.init.normal_(layer.intermediate.dense.bias, std=0.3)
            torch.nn.init.normal_(layer.attention.self.value.bias, std=0.3)
    return scorer


def test_a_restored_network_has_the_weights_that_were_exported(wide, tmp_path):
    import onnx

    classifier = make_classifier(wide, tmp_path / "small")
    graph = onnx.load(tmp_path / "small" / "model.onnx").graph
    assert any(tensor.name.endswith("_channels") for tensor in graph.initializer)
    restored = restore_classifier(classifier)
    state, expected = (s.network.state_dict() for s in (restored.scorer, wide))
    assert set(state) == set(expected)
    for name, values in state.items():
        rows = expected[name][: len(values)]  # positions that no window reaches are not kept
        step = rows.abs().max() / 60  # int8 weights move each other; biases take up mean errors
        assert (values - rows).abs().max() <= max(step, 0.05), name
    logits = wide.score([*READ, LONG])
    assert np.abs(restored.scorer.score([*READ, LONG]) - logits).max() < 0.1 * logits.std()


def test_what_is_restored_exports_to_the_same_weights(wide, tmp_path):
    from onnx import load, numpy_helper

    restored = restore_classifier(make_classifier(wide, tmp_path / "once")).scorer
    make_classifier(restored, tmp_path / "again")

    def matrices(folder):
        graph = load(tmp_path / folder / "model.onnx").graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        names = sorted(name for name in constants if name.endswith("weights_int8"))
        scales = [constants[name.removesuffix("_int8") + "_scale"] for name in names]
        return [(constants[name], scale) for name, scale in zip(names, scales, strict=True)]

    for (one, step), (other, others) in zip(matrices("once"), matrices("again"), strict=True):
        assert (one == other).all()
        assert np.allclose(step, others, rtol=1e-6)


def test_a_restored_network_drops_the_same_tokens(tiny_encoder, tmp_path):
    scorer = make_scorer(tiny_encoder("bert"), keep_tokens={1: 0.4}, keep_head=True)
    classifier = make_classifier(scorer, tmp_path / "small")
    restored = restore_classifier(classifier)
    assert restored.scorer.settings.keep_tokens == {1: 0.4}
    mine, theirs = (s.network.token_scorers[0].detach().numpy() for s in (restored.scorer, scorer))
    assert (mine == theirs).all() and mine.any()
    expected = scorer.score(READ)
    difference = np.abs(restored.scorer.score(READ) - expected).max(axis=1)
    assert np.median(difference) < 0.1 * expected.std()  # near-equal tokens may change places


def test_a_trimmed_vocabulary_stays_trimmed(wide, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES[:8]), encoding="utf-8")
    classifier = make_classifier(wide, tmp_path / "small", corpus=(corpus,))
    restored = restore_classifier(classifier)
    assert len(restored.scorer.tokenizer) == classifier.scorer.tokenizer.get_vocab_size()
    assert len(restored.scorer.tokenizer) < len(wide.tokenizer)
    for text in [*READ, LONG]:
        given, expected = (s.tokenize([text]) for s in (restored.scorer, classifier.scorer))
        assert given.input_ids == expected.input_ids


def test_layers_of_unlike_sizes_are_restored(redundant, tmp_path):  # noqa: F811
    pruned = prune_scorer(redundant, SAMPLE, heads=[2, 1], neurons=[40, 24])
    classifier = make_classifier(pruned, tmp_path / "small")
    save_model(restore_classifier(classifier), tmp_path / "restored")
    restored = load_model(tmp_path / "restored").scorer
    assert sizes(restored) == [(2, 40), (1, 24)]
    expected = pruned.score(READ)
    assert np.abs(restored.score(READ) - expected).mean() < 0.05 * expected.std()


def test_a_shipped_model_and_its_student_are_trained_on(runs, student_run, tmp_path, capsys):  # noqa: F811
    shipped, whole, small = (tmp_path / name for name in ("shipped", "whole", "small"))
    classifier = build_default_model(runs[:1], shipped, ExportSettings(), student_dir=student_run)
    for out, options in ((whole, []), (small, ["--student"])):
        with pytest.raises(SystemExit) as caught:
            main(["restore", str(shipped), "--out", str(out), *options])
        assert caught.value.code == 0
        assert f"model.encoder={out} model.keep_head=true" in capsys.readouterr().out
    expected = load_model(runs[0] / "model").scorer.score(READ)
    assert np.abs(load_model(whole).scorer.score(READ) - expected).max() < 0.1
    student = load_model(student_run / "model").scorer
    keep_until_exit(student.network)
    assert np.abs(load_model(small).scorer.score(READ) - student.score(READ)).max() < 0.1
    assert load_model(small).card["config"]["model"]["activation"] == "relu"
    config = load_config(runs[0] / "config.yaml")
    onward = {"encoder": str(whole), "keep_head": True, "epochs": 1, "learning_rate": 1e-6}
    onward["head_learning_rate"] = 1e-6
    model = config.model.model_copy(update=onward)
    train(TrainConfig(name="on", data=config.data, model=model), tmp_path / "on", device="cpu")
    given = load_model(tmp_path / "on" / "model").scorer.score(READ)
    assert np.abs(given - expected).max() < 0.1
    averaged = build_default_model([tmp_path / "on", whole], tmp_path / "mean", ExportSettings())
    assert averaged.topics == classifier.topics
    assert np.abs(averaged.scorer.score(READ) - expected).max() < 0.1


def test_what_cannot_be_restored_is_refused(wide, tiny_encoder, tmp_path):
    classifier = make_classifier(wide, tmp_path / "small")
    with pytest.raises(ModelError, match=r"no student\.onnx: the model has no student"):
        restore_classifier(classifier, student=True)
    with pytest.raises(ModelError, match=r"its card does not say how it was trained \(KeyError"):
        restore_classifier(replace(classifier, card={}))
    with pytest.raises(ModelError, match="kind 'transformer'; only an ONNX model"):
        restore_classifier(replace(classifier, scorer=wide))
    other = make_scorer(tiny_encoder("xlm-roberta"))
    with pytest.raises(ModelError, match=r"model\.onnx: the network is not built like BERT"):
        restore_classifier(make_classifier(other, tmp_path / "other"))


@pytest.mark.skipif(sys.platform == "win32", reason="paths in the message")
def test_the_command_names_a_model_that_it_cannot_restore(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["restore", "lexicon", "--out", str(tmp_path / "out")])
    assert caught.value.code == 1
    assert "lexicon: kind 'lexicon'; only an ONNX model can be restored" in capsys.readouterr().err
