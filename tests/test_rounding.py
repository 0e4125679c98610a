import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from test_finetuning import CPU, fit
from test_transformer import TEXTS, make_scorer

from relclass.errors import ConfigError
from relclass.models.rounding import _Rounder, rounded_activations


def train_logits(scorer):
    """Return the logits of the forward pass that training makes, without dropout."""
    windows = scorer.tokenize(TEXTS[:1]).input_ids
    ids = torch.tensor(windows)
    scorer.network.train()
    for module in scorer.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    logits = scorer.network(ids, torch.ones_like(ids)).detach().numpy()
    scorer.network.eval()
    return logits


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_only_training_rounds_and_nothing_is_left_afterwards(tiny_encoder, architecture):
    scorer = make_scorer(tiny_encoder(architecture))
    exact, scored = train_logits(scorer), scorer.score(TEXTS)
    with rounded_activations(scorer.network):
        rounded = train_logits(scorer)
        assert np.array_equal(scorer.score(TEXTS), scored)
    assert 0 < np.abs(rounded - exact).max() < 0.05
    assert np.array_equal(train_logits(scorer), exact)


def test_a_wide_channel_does_not_make_the_steps_coarse():
    rng = np.random.default_rng(0)
    width = np.array([1.0, 1.0, 100.0])
    states = torch.tensor(rng.uniform(-1, 1, (50, 3)) * width, dtype=torch.float32)
    reader = torch.nn.Linear(3, 4)
    module = torch.nn.Identity().train()
    (rounded,) = _Rounder(reader)(module, (states,))
    missed = np.abs((rounded - states).numpy()).max(axis=0)
    # half of a step of a grid of 255 over the wide one's width would be 0.4
    assert (missed > 0.002).all() and (missed < 0.02).all()
    assert all(len(np.unique(channel)) > 10 for channel in rounded.numpy().T)


def test_the_gradient_goes_through_as_if_nothing_were_rounded():
    states = torch.randn(5, 3, requires_grad=True)
    (rounded,) = _Rounder(torch.nn.Linear(3, 2))(torch.nn.Identity().train(), (states,))
    assert not torch.equal(rounded, states)
    weights = torch.randn(5, 3)
    (rounded * weights).sum().backward()
    assert torch.equal(states.grad, weights)


def test_a_range_follows_the_network_down_slowly():
    rounder = _Rounder(torch.nn.Linear(2, 2))
    module = torch.nn.Identity().train()
    rounder(module, (torch.full((3, 2), 8.0),))
    rounder(module, (torch.full((3, 2), 2.0),))
    assert rounder.high == pytest.approx([8 * 0.98] * 2)
    assert rounder.low == pytest.approx([0, 0])


def test_an_architecture_of_another_build_is_refused(tiny_encoder):
    scorer = make_scorer(tiny_encoder("deberta-v2"))
    with (
        pytest.raises(ConfigError, match=r"round_activations: not known .*'deberta-v2'"),
        rounded_activations(scorer.network),
    ):
        pass


def test_a_network_is_trained_with_rounding(tiny_encoder, tmp_path):
    folder = tiny_encoder("bert")
    plain = fit(folder, tmp_path / "plain", options=CPU)
    rounded = fit(folder, tmp_path / "rounded", options=CPU, round_activations=True)
    assert not np.array_equal(plain.score(TEXTS), rounded.score(TEXTS))
    assert not rounded.network.encoder.encoder.layer[0].attention.self._forward_pre_hooks


def test_a_resumed_rounder_goes_on_where_it_was():
    reader, module = torch.nn.Linear(4, 3), torch.nn.Identity().train()
    whole = _Rounder(reader)
    for _ in range(20):
        whole(module, (3 * torch.randn(8, 4),))
    resumed = _Rounder(reader)
    resumed.restore(whole.state())
    states = torch.randn(8, 4)
    assert torch.equal(resumed(module, (states,))[0], whole(module, (states,))[0])
    assert resumed.n_batches == whole.n_batches == 21
