import copy
import logging

import numpy as np
import pytest
import torch
from test_shipping import runs, student_run  # noqa: F401
from test_transformer import CODEBOOK, LONG, TEXTS, make_scorer
from tiny_encoders import SENTENCES, TOPICS
from transformers import AutoModel

from relclass.cli import main
from relclass.config import TransformerSettings
from relclass.errors import ConfigError, ModelError
from relclass.models.compaction import full_state, keep_heads, leave_out_zeros
from relclass.models.export import ExportSettings, export_scorer
from relclass.models.network import layers_of
from relclass.models.onnx import OnnxScorer
from relclass.models.pretrained import build_network
from relclass.models.pruning import choose_groups, prune_scorer
from relclass.models.store import load_model
from relclass.models.transformer import TransformerScorer
from relclass.shipping import prune_runs

SAMPLE = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]


def layers(scorer):
    return layers_of(scorer.network, "layers")


def sizes(scorer):
    return [
        (layer.attention.self.query.out_features // 16, layer.intermediate.dense.out_features)
        for layer in layers(scorer)
    ]


@pytest.fixture
def redundant(tiny_encoder):
    """Make a network whose second head does what the first does, and half of its neurons too."""
    scorer = make_scorer(tiny_encoder("bert"))
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in layers(scorer):
            for name in ("query", "key", "value"):
                linear = getattr(layer.attention.self, name)
                torch.nn.init.normal_(linear.weight[:16], std=0.5)
                linear.weight[16:], linear.bias[16:] = linear.weight[:16], linear.bias[:16]
            inner = layer.intermediate.dense
            torch.nn.init.normal_(inner.weight, std=0.5)
            inner.weight[1::2], inner.bias[1::2] = inner.weight[::2], inner.bias[::2]
            torch.nn.init.normal_(layer.attention.output.dense.weight, std=0.5)
            torch.nn.init.normal_(layer.output.dense.weight, std=0.5)
    return scorer


def test_what_another_does_as_well_is_taken_out_at_no_cost(redundant):
    before = redundant.score(TEXTS)
    pruned = prune_scorer(redundant, SAMPLE, heads=[1], neurons=[32])
    assert sizes(pruned) == [(1, 32)] * 2
    assert sizes(redundant) == [(2, 64)] * 2
    assert np.array_equal(redundant.score(TEXTS), before)
    assert before.std() > 1
    assert np.abs(pruned.score(TEXTS) - before).max() < 0.05 * before.std()


def test_it_chooses_better_than_chance(tiny_encoder):
    scorer = make_scorer(tiny_encoder("xlm-roberta"))
    expected = scorer.score(SAMPLE)
    pruned = prune_scorer(scorer, SAMPLE, heads=[2], neurons=[16])
    blind = copy.deepcopy(scorer.network)
    for layer in layers_of(blind, "layers"):
        with torch.no_grad():
            layer.output.dense.weight[:, 16:] = 0
    blind = TransformerScorer.wrap(blind, scorer.tokenizer, scorer.settings)
    lost, lost_blindly = (np.square(one.score(SAMPLE) - expected).mean() for one in (pruned, blind))
    assert lost < lost_blindly / 4


def test_each_layer_keeps_what_it_is_told_to(redundant, caplog):
    with caplog.at_level(logging.INFO):
        pruned = prune_scorer(redundant, SAMPLE, heads=[2, 1], neurons=[40, 24])
    assert sizes(pruned) == [(2, 40), (1, 24)]
    assert "layer 2: 1 heads, 24 neurons; what it gives is off by 0.0" in caplog.text
    again = prune_scorer(pruned, SAMPLE, heads=[1], neurons=[40, 20])
    assert sizes(again) == [(1, 40), (1, 20)]


@pytest.mark.parametrize(
    ("heads", "neurons", "message"),
    [
        ([3], [8], "heads: got .3., expected one number .* layer has: .2, 2."),
        ([1], [0], "neurons: got .0."),
        ([1, 1, 1], [8], "each of the 2 layers"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(tiny_encoder, heads, neurons, message):
    scorer = make_scorer(tiny_encoder("bert"))
    with pytest.raises(ConfigError, match=message):
        prune_scorer(scorer, SAMPLE, heads=heads, neurons=neurons)


def test_what_cannot_be_pruned_is_refused(tiny_encoder):
    with pytest.raises(ConfigError, match=r"built like BERT.* not 'deberta-v2'"):
        prune_scorer(make_scorer(tiny_encoder("deberta-v2")), SAMPLE, heads=[1], neurons=[8])
    bert = make_scorer(tiny_encoder("bert"))
    with pytest.raises(ConfigError, match="got none"):
        prune_scorer(bert, [], heads=[1], neurons=[8])
    dropping = make_scorer(tiny_encoder("bert"), keep_tokens={1: 0.5})
    with pytest.raises(ConfigError, match="keep_tokens"):
        prune_scorer(dropping, SAMPLE, heads=[1], neurons=[8])


def test_a_saved_one_is_a_plain_checkpoint_and_comes_back_small(redundant, tmp_path):
    pruned = prune_scorer(redundant, SAMPLE, heads=[1], neurons=[24])
    pruned.save(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path)
    assert plain.encoder.layer[0].intermediate.dense.out_features == 64
    ids = torch.tensor([pruned.tokenizer(LONG)["input_ids"][:30]])
    with torch.no_grad():
        expected = pruned.network.eval().encoder(input_ids=ids).last_hidden_state
        assert torch.allclose(plain(input_ids=ids).last_hidden_state, expected, atol=1e-4)
    again = TransformerScorer.load(tmp_path, CODEBOOK)
    assert sizes(again) == [(1, 24)] * 2
    np.testing.assert_allclose(again.score(TEXTS), pruned.score(TEXTS), atol=1e-5)


def test_training_goes_on_with_what_is_left(redundant, tmp_path):
    prune_scorer(redundant, SAMPLE, heads=[1], neurons=[24]).save(tmp_path)
    network, tokenizer = build_network(
        TransformerSettings(encoder=str(tmp_path), max_length=32), TOPICS
    )
    scorer = TransformerScorer.wrap(network, tokenizer, redundant.settings)
    assert sizes(scorer) == [(1, 24)] * 2
    assert all(
        parameter.requires_grad for layer in layers(scorer) for parameter in layer.parameters()
    )


def test_a_layer_keeps_one_of_each_even_where_all_are_zero(redundant):
    encoder = redundant.network.encoder
    with torch.no_grad():
        encoder.encoder.layer[0].output.dense.weight.zero_()
        encoder.encoder.layer[0].attention.output.dense.weight.zero_()
    before = redundant.score(TEXTS)
    leave_out_zeros(encoder)
    assert sizes(redundant) == [(1, 1), (2, 64)]
    np.testing.assert_allclose(redundant.score(TEXTS), before, atol=1e-5)
    assert full_state(encoder)["encoder.layer.0.intermediate.dense.weight"].shape == (64, 32)


def test_layers_of_unlike_numbers_of_heads_are_exported(redundant, tmp_path):
    pruned = prune_scorer(redundant, SAMPLE, heads=[2, 1], neurons=[40, 24])
    export_scorer(pruned, TOPICS, tmp_path, ExportSettings(), texts=SAMPLE)
    shipped = OnnxScorer.load(tmp_path, CODEBOOK)
    expected = pruned.score(TEXTS)
    assert np.abs(shipped.score(TEXTS) - expected).max() < 0.1 * expected.std()
    with torch.no_grad():
        keep_heads(layers(pruned)[0], torch.tensor([True, False]))
    assert np.abs(pruned.score(TEXTS) - expected).max() > 0.2 * expected.std()


def test_the_surgeon_takes_out_what_the_others_replace():
    torch.manual_seed(0)
    base = torch.randn(500, 3, dtype=torch.float64)
    inputs = torch.stack([base[:, 0], base[:, 1], base[:, 0] + base[:, 1], base[:, 2]], dim=1)
    weight = torch.tensor([[1.0, 1.0, 1.0, 0.3]], dtype=torch.float64)
    square = inputs.T @ inputs / len(inputs)
    kept, fitted = choose_groups(square, weight, size=1, n_kept=3)
    assert kept[3]  # the smallest weight, but nothing else can do its work
    assert int(kept.sum()) == 3
    expected = inputs @ weight.T
    assert torch.allclose(inputs @ fitted.T, expected, atol=0.02)
    assert float(fitted[0, ~kept]) == 0


def test_the_command_writes_a_model_to_train_on(runs, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "pruned"
    options = ["--out", str(out), "--heads", "1", "--neurons", "32,16"]
    with pytest.raises(SystemExit) as caught:
        main(["prune", *map(str, runs), *options])
    assert caught.value.code == 0
    assert f"model.encoder={out} model.keep_head=true" in capsys.readouterr().out
    model = load_model(out)
    assert sizes(model.scorer) == [(1, 32), (1, 16)]
    assert model.card["pruned"]["neurons"] == [32, 16]
    assert len(model.card["runs"]) == 2
    with pytest.raises(SystemExit) as caught:
        main(["prune", str(runs[0]), "--out", str(out), "--heads", "x", "--neurons", "8"])
    assert caught.value.code == 1
    assert "--heads: got 'x'" in capsys.readouterr().err


def test_a_student_is_pruned_until_its_exit(student_run, runs, tmp_path):  # noqa: F811
    pruned = prune_runs([student_run], tmp_path, heads=[1], neurons=[16], until_exit=True)
    assert sizes(pruned.scorer) == [(1, 16)]
    assert pruned.scorer.settings.exits == ()
    with pytest.raises(ModelError, match="a soup differ in"):
        prune_runs([student_run, runs[0]], tmp_path, heads=[1], neurons=[16], until_exit=True)
