"""Several runs of one config -> one network with the mean of their weights.

A uniform soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482): as steady as an ensemble
of the runs, and as fast as one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from relclass.errors import ModelError
from relclass.models.transformer import TransformerScorer

_AROUND = (
    "encoder", "layers", "activation", "exits", "keep_tokens", "keep_at_least", "pooling", "prefix",
    "max_length",
)  # fmt: skip


def average_scorers(scorers: Sequence[TransformerScorer]) -> TransformerScorer:
    """Average the weights of networks that were fine-tuned from the same encoder.

    Raises
    ------
    ModelError
        If there is none, or they differ in how passages go through the network or in its tensors.
    """
    import torch

    if not scorers:
        raise ModelError("a soup needs at least one run")
    first = scorers[0]
    if len(scorers) == 1:
        return first
    states = [scorer.network.state_dict() for scorer in scorers]
    for scorer, state in zip(scorers, states, strict=True):
        _check_alike(first, scorer)
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in states[0].items()}:
            raise ModelError("the runs of a soup differ in their networks' tensors")
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    network = copy.deepcopy(first.network)
    network.load_state_dict(mean)
    return TransformerScorer.wrap(network.eval(), first.tokenizer, first.settings)


def _check_alike(one: TransformerScorer, other: TransformerScorer) -> None:
    for name in _AROUND:
        mine, theirs = getattr(one.settings, name), getattr(other.settings, name)
        if mine != theirs:
            raise ModelError(
                f"the runs of a soup differ in model.{name}: {mine!r} and {theirs!r}; "
                "average runs of one config with different seeds"
            )
