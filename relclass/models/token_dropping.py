"""Let a fine-tuned network drop, on the way up, the tokens that its topics hang on least.

Half of the work for hardly a mark: the first layers have read a token into its neighbours, and
most of what is said of a topic stands in a few. Goyal et al. 2020 (https://arxiv.org/abs/2001.08950)
drop tokens by the attention that they get; here a vector at each place where tokens are dropped
says what a token's state is worth. It is fitted by ridge regression to what the topics' logits
would lose without the token, to first order, as Michel et al. 2019
(https://arxiv.org/abs/1905.10650) ask of heads.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from relclass.errors import ConfigError, MissingExtraError
from relclass.models.compaction import bert_layers
from relclass.models.transformer import TransformerScorer
from relclass.models.windows import padded_batches

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("torch", "train") from error

logger = logging.getLogger(__name__)

N_PASSAGES = 1200
"""Passages that show which tokens matter: some 90,000 tokens."""

_MAX_TOKENS = 2048  # of a batch: the states of all layers are kept for the gradients
_CLEAR = 0.1  # weight of a topic that is sure, where an even one has 0.6
_LEAST = 1e-3  # times the mean token's worth, added before the logarithm is taken
_RIDGE = 1e-3  # of the channels' mean variance


def drop_tokens(
    scorer: TransformerScorer,
    texts: Sequence[str],
    keep_tokens: Mapping[int, float],
    *,
    at_least: int,
) -> TransformerScorer:
    """Return a copy of a network that drops tokens; its weights are the same.

    Parameters
    ----------
    texts : normalised passages like those it will read, some hundreds at least.
    keep_tokens : layer to the share of a window's tokens that goes on after it, in (0, 1); layers
        ascend, shares fall. What the network kept before counts no more.
    at_least : so many tokens of a window go on whatever the shares, all of a shorter one.

    Raises
    ------
    ConfigError
        If there is no such layer, a share does not fit, there is no text, the network has early
        exits or no pooling of ours, or the architecture is not built like BERT.
    """
    _check(scorer, texts, keep_tokens)
    network = copy.deepcopy(scorer.network).eval().requires_grad_(False)
    network.keep_tokens, network.token_scorers = {}, nn.ParameterList()
    places = tuple(keep_tokens)
    fits = {place: _Fit(network.encoder.config.hidden_size) for place in places}
    batches = padded_batches(
        scorer.tokenize(texts).input_ids, pad_token_id=scorer.pad_token_id, max_tokens=_MAX_TOKENS
    )
    for _, input_ids, mask in batches:
        worth = token_worth(network, torch.from_numpy(input_ids), torch.from_numpy(mask), places)
        for place, (states, of_tokens) in worth.items():
            fits[place].add(states, (of_tokens + _LEAST).log())
    for place, fit in fits.items():
        weights, correlation = fit.solve()
        logger.info(
            "after layer %d: what a token is worth is told with r = %.2f", place, correlation
        )
        network.token_scorers.append(nn.Parameter(weights, requires_grad=False))
    kept = {"keep_tokens": dict(keep_tokens), "keep_at_least": at_least}
    settings = scorer.settings.model_copy(update=kept)
    network.keep_tokens, network.keep_at_least = settings.keep_tokens, settings.keep_at_least
    return TransformerScorer.wrap(network, scorer.tokenizer, settings)


def _check(
    scorer: TransformerScorer, texts: Sequence[str], keep_tokens: Mapping[int, float]
) -> None:
    layers = bert_layers(scorer.network.encoder)
    if not layers or scorer.settings.pooling == "native":
        kind = scorer.network.encoder.config.model_type
        raise ConfigError(
            f"only encoders built like BERT, with mean or cls pooling, can drop tokens; got "
            f"{kind!r} with {scorer.settings.pooling!r}"
        )
    if not texts:
        raise ConfigError("dropping tokens needs passages that show which matter, got none")
    places, shares = list(keep_tokens), list(keep_tokens.values())
    if (
        not places
        or places != sorted(places)
        or not 1 <= places[0] <= places[-1] < len(layers)
        or not all(0 < low < high for low, high in zip(shares, [1.0, *shares], strict=False))
    ):
        raise ConfigError(
            f"keep_tokens: got {dict(keep_tokens)}, expected ascending layers from 1 to "
            f"{len(layers) - 1}, each with a share between 0 and 1 below the one before"
        )


def token_worth(
    network: Any, input_ids: Tensor, mask: Tensor, places: Sequence[int]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Say what the layers above a place, and the pooling, would lose without each token.

    To first order: a gate at every token scales how much others attend to it and how much of it is
    pooled; its worth is the length of the logits' gradient by it, a topic weighing the more the
    less sure it is.

    Parameters
    ----------
    input_ids, mask : shape (batch, seq_len).
    places : numbers of layers, ascending.

    Returns
    -------
    Place to the states of the tokens there, shape (n_tokens, hidden), and their worth, shape
    (n_tokens,): 1 is the mean of a passage's.
    """
    layers = network.encoder.encoder.layer
    is_token = mask.bool()
    found = {}
    with torch.inference_mode(False), torch.enable_grad():
        states = network.encoder.embeddings(input_ids=input_ids)
        hidden = torch.finfo(states.dtype).min * (~is_token).to(states.dtype)
        gates: dict[int, Tensor] = {}  # logarithms, shape (batch, seq_len)
        for number, layer in enumerate(layers, start=1):
            seen = hidden + sum(gates.values()) if gates else hidden
            states = layer(states, seen[:, None, None, :])
            if number in places:
                found[number] = states[is_token].detach()
                gates[number] = torch.zeros_like(hidden, requires_grad=True)
        pooled = network.pool(states, mask * sum(gates.values()).exp())
        logits = network.read(network.head, pooled)  # (batch, n_topics)
        y_prob = logits.detach().sigmoid()
        of_topics = (logits * ((y_prob * (1 - y_prob)).sqrt() + _CLEAR)).sum(0)
        squares = {place: torch.zeros_like(hidden) for place in gates}
        for of_topic in of_topics:
            gradients = torch.autograd.grad(of_topic, list(gates.values()), retain_graph=True)
            for place, gradient in zip(gates, gradients, strict=True):
                squares[place] += gradient.square()
    worth = {}
    for place, square in squares.items():
        length = square.sqrt()
        mean = length.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        tiny = torch.finfo(length.dtype).tiny
        worth[place] = (found[place], (length / mean.clamp(min=tiny))[is_token])
    return worth


class _Fit:
    """Ridge regression of a number on a token's state, the tokens added batch by batch."""

    def __init__(self, hidden: int) -> None:
        # of 1, the channels and the number: sums of their products
        self.products = torch.zeros(hidden + 2, hidden + 2, dtype=torch.float64)

    def add(self, states: Tensor, numbers: Tensor) -> None:
        """Add tokens: states of shape (n_tokens, hidden), numbers of shape (n_tokens,)."""
        one = torch.ones_like(numbers)[:, None]
        rows = torch.cat([one, states, numbers[:, None]], dim=1).double()
        self.products += rows.T @ rows

    def solve(self) -> tuple[Tensor, float]:
        """Return the channels' weights, shape (hidden,), float32, and how well they fit (r)."""
        means = self.products[0] / self.products[0, 0]
        around = (self.products / self.products[0, 0] - torch.outer(means, means))[1:, 1:]
        square, product = around[:-1, :-1], around[:-1, -1]
        ridge = _RIDGE * square.diagonal().mean().clamp(min=torch.finfo(square.dtype).tiny)
        weights = torch.linalg.solve(square + ridge * torch.eye(len(square)).double(), product)
        spread = (weights @ square @ weights * around[-1, -1]).clamp(min=0).sqrt()
        correlation = float(weights @ product / spread) if spread > 0 else 0.0
        return weights.float(), correlation
