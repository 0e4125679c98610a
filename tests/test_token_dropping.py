import inspect
import logging

import numpy as np
import pytest
import torch
from test_shipping import runs, student_run  # noqa: F401
from test_transformer import TEXTS, make_scorer
from tiny_encoders import SENTENCES

from relclass.cli import main
from relclass.commands import train as commands
from relclass.config import TransformerSettings, load_config
from relclass.errors import ConfigError
from relclass.models.export import ExportSettings
from relclass.models.store import load_model
from relclass.models.token_dropping import drop_tokens, token_worth
from relclass.run_folder import RunOptions
from relclass.shipping import build_default_model
from relclass.training import train

SAMPLE = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]


def test_a_tokens_worth_is_what_the_logits_lose_without_it(tiny_encoder):
    scorer = make_scorer(tiny_encoder("bert"))
    network = scorer.network.double()
    ids = torch.tensor(scorer.tokenize(SENTENCES[:1]).input_ids)
    states, worth = token_worth(network, ids, torch.ones_like(ids), [1])[1]
    assert states.shape == (ids.shape[1], network.encoder.config.hidden_size)
    assert float(worth.mean()) == pytest.approx(1)

    def logits(gates):
        """Scale what others see of a token in the second layer, and its part in the pooling."""
        layer = network.encoder.encoder.layer[1]
        seen = layer(states[None], gates.log()[None, None, None, :])
        return network.head((seen * gates[:, None]).sum(1) / gates.sum())

    whole = logits(torch.ones(len(worth), dtype=torch.float64))
    y_prob = whole.sigmoid()
    expected = []
    for place in range(len(worth)):
        gates = torch.ones(len(worth), dtype=torch.float64)
        gates[place] -= 1e-6
        lost = (logits(gates) - whole) * ((y_prob * (1 - y_prob)).sqrt() + 0.1)
        expected.append(float(lost.detach().norm()))
    assert np.allclose(worth.numpy(), np.array(expected) / np.mean(expected), rtol=1e-3)


def test_padding_changes_no_tokens_worth(tiny_encoder):
    network = make_scorer(tiny_encoder("bert")).network
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    alone = token_worth(network, ids, torch.ones_like(ids), [1])[1]
    padded = torch.tensor([[2, 7, 8, 9, 3, 0, 0], [2, 5, 5, 6, 6, 7, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
    for given, expected in zip(token_worth(network, padded, mask, [1])[1], alone, strict=True):
        assert len(given) == 12
        assert torch.allclose(given[:5], expected, atol=1e-4)


def test_the_tokens_that_go_on_are_those_of_most_worth(tiny_encoder):
    scorer = make_scorer(tiny_encoder("bert"))
    torch.manual_seed(0)
    with torch.no_grad():  # some words are unlike the others, which are much alike
        words = scorer.network.encoder.get_input_embeddings().weight
        words *= 0.1
        words[torch.randperm(len(words))[:40], 0] += 3
    (weights,) = drop_tokens(scorer, SAMPLE, {1: 0.2}, at_least=1).network.token_scorers
    of_kept, of_best, of_any = 0.0, 0.0, 0.0
    for ids in scorer.tokenize(SENTENCES).input_ids:  # the sample has them in pairs
        tokens = torch.tensor([ids])
        states, worth = token_worth(scorer.network, tokens, torch.ones_like(tokens), [1])[1]
        n_kept = round(0.2 * len(ids))
        of_kept += float(worth[(states @ weights).topk(n_kept).indices].sum())
        of_best += float(worth.topk(n_kept).values.sum())
        of_any += n_kept  # the mean is 1
    assert of_best > 1.3 * of_any
    assert (of_kept - of_any) / (of_best - of_any) > 0.7


def test_only_what_is_kept_changes(tiny_encoder, caplog):
    scorer = make_scorer(tiny_encoder("bert"))
    before = scorer.score(TEXTS)
    with caplog.at_level(logging.INFO):
        dropping = drop_tokens(scorer, SAMPLE, {1: 0.5}, at_least=1)
    assert "after layer 1: what a token is worth is told with r = " in caplog.text
    assert dropping.settings.keep_tokens == {1: 0.5}
    mild = drop_tokens(scorer, SAMPLE, {1: 0.5}, at_least=32)  # longer than any window here
    assert mild.settings.keep_at_least == 32
    assert np.allclose(mild.score(TEXTS), before, atol=1e-5)
    assert (scorer.score(TEXTS) == before).all()
    assert not np.allclose(dropping.score(TEXTS), before)
    again = drop_tokens(dropping, SAMPLE, {1: 0.25}, at_least=1)  # as if it had never dropped any
    (one,), (other,) = again.network.token_scorers, dropping.network.token_scorers
    assert torch.equal(one, other)
    state = dropping.network.state_dict()
    for name, values in scorer.network.state_dict().items():
        assert torch.equal(state[name], values)


@pytest.mark.parametrize(
    ("keep_tokens", "texts", "message"),
    [
        ({2: 0.5}, SAMPLE, r"got \{2: 0.5\}, expected ascending layers from 1 to 1"),
        ({0: 0.5}, SAMPLE, "expected ascending layers from 1 to 1"),
        ({}, SAMPLE, "expected ascending layers"),
        ({1: 1.0}, SAMPLE, "each with a share between 0 and 1"),
        ({1: 0.0}, SAMPLE, "each with a share between 0 and 1"),
        ({1: 0.5}, [], "needs passages that show which matter, got none"),
    ],
)
def test_shares_that_do_not_fit_are_refused(tiny_encoder, keep_tokens, texts, message):
    with pytest.raises(ConfigError, match=message):
        drop_tokens(make_scorer(tiny_encoder("bert")), texts, keep_tokens, at_least=1)


@pytest.mark.parametrize(("architecture", "pooling"), [("deberta-v2", "mean"), ("bert", "native")])
def test_networks_that_cannot_drop_tokens_are_refused(tiny_encoder, architecture, pooling):
    scorer = make_scorer(tiny_encoder(architecture), pooling=pooling)
    with pytest.raises(ConfigError, match="only encoders built like BERT, with mean or cls"):
        drop_tokens(scorer, SAMPLE, {1: 0.5}, at_least=1)


def run_cli(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def test_a_run_drops_tokens_and_is_shipped_and_trained_on(runs, tmp_path, capsys):  # noqa: F811
    folder = tmp_path / "dropping"
    assert run_cli("drop-tokens", runs[0], "--keep", "1:0.5", "--at-least", 1, "--out", folder) == 0
    assert "'model.keep_tokens={1: 0.5}'" in capsys.readouterr().out
    classifier = load_model(folder)
    assert classifier.scorer.settings.keep_tokens == {1: 0.5}
    assert classifier.card["config"]["model"]["keep_tokens"] == {"1": 0.5}
    assert load_model(runs[0] / "model").scorer.settings.keep_tokens == {}
    small = build_default_model([folder], tmp_path / "small", ExportSettings(), student_dir=folder)
    assert small.scorer.student_share == 1
    expected = classifier.scorer.score(TEXTS)
    assert np.abs(small.scorer.score(TEXTS) - expected).max() < 0.1

    changes = [f"model.encoder={folder}", "model.keep_head=true", "model.keep_tokens={1: 0.5}"]
    changes.append("model.keep_at_least=1")
    config = load_config(runs[0] / "config.yaml", changes)
    trained = train(config, tmp_path / "on", device="cpu", options=RunOptions(max_steps=1))
    mine, theirs = (c.scorer.network.token_scorers[0] for c in (trained, classifier))
    assert torch.equal(mine.cpu(), theirs)
    other = load_config(runs[0] / "config.yaml", [*changes, "model.keep_tokens={1: 0.3}"])
    with pytest.raises(ConfigError, match=r"its model.keep_tokens is \{1: 0.5\}, not \{1: 0.3\}"):
        train(other, tmp_path / "other", device="cpu", options=RunOptions(max_steps=1))


def test_the_command_keeps_at_least_what_a_config_does():
    default = inspect.signature(commands.drop_tokens).parameters["at_least"].default
    assert default == TransformerSettings().keep_at_least


@pytest.mark.parametrize("text", ["4", "4:half", "1:0.5:2", ""])
def test_shares_that_cannot_be_read_are_refused(runs, tmp_path, capsys, text):  # noqa: F811
    assert run_cli("drop-tokens", runs[0], "--keep", text, "--out", tmp_path / "no") == 1
    assert "expected LAYER:SHARE,… as 4:0.5,8:0.25" in capsys.readouterr().err
    assert run_cli("drop-tokens", runs[0], "--keep", "1:0.5,1:0.2", "--out", tmp_path / "no") == 1
    assert "names a layer twice" in capsys.readouterr().err
