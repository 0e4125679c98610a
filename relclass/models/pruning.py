"""Take heads and neurons out of a fine-tuned network, and let those that stay do their work.

Layer by layer from below, as a surgeon would: what is taken out is what the rest can replace best
(the optimal brain surgeon, Hassibi and Stork 1993, https://doi.org/10.1109/ICNN.1993.298572, for
whole heads and neurons as in Kurtic et al. 2023, https://arxiv.org/abs/2302.04089); then least
squares fit the output weights of the rest to what the layer of the whole network gave (He et al.
2017, https://arxiv.org/abs/1707.06168), so that a layer makes good what those below it lost.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

from relclass.errors import ConfigError, MissingExtraError
from relclass.models.compaction import bert_layers, keep_heads, keep_neurons
from relclass.models.transformer import TransformerScorer
from relclass.models.windows import padded_batches

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("torch", "train") from error

logger = logging.getLogger(__name__)

N_PASSAGES = 1500
"""Passages that show what heads and neurons do: some 80 tokens for each weight of a neuron."""

_MAX_TOKENS = 4096  # of a batch
_DAMPING = 1e-3  # of the inputs' mean square, added so that their products can be inverted
_PULL = 3e-3  # of it, towards the surgeon's weights, where the passages say little


def prune_scorer(
    scorer: TransformerScorer,
    texts: Sequence[str],
    *,
    heads: Sequence[int],
    neurons: Sequence[int],
) -> TransformerScorer:
    """Return a copy of a network with fewer attention heads and neurons.

    It is meant to be trained on: what is lost here comes back quickly.

    Parameters
    ----------
    texts : normalised passages like those it will read, some hundreds at least.
    heads, neurons : how many each layer keeps, 1 or more; one number holds for all layers.

    Raises
    ------
    ConfigError
        If a layer has fewer, there is no text, the network drops tokens on the way up, or the
        architecture is not built like BERT.
    """
    if scorer.settings.keep_tokens:
        raise ConfigError("a network with model.keep_tokens cannot be pruned: drop tokens last")
    if not texts:
        raise ConfigError("pruning needs passages that show what heads and neurons do, got none")
    whole = bert_layers(scorer.network.encoder)
    if not whole:
        kind = scorer.network.encoder.config.model_type
        raise ConfigError(f"only encoders built like BERT can be pruned, not {kind!r}")
    network = copy.deepcopy(scorer.network).eval()
    n_heads = _spread("heads", heads, [_n_heads(layer) for layer in whole])
    n_neurons = _spread("neurons", neurons, [_n_neurons(layer) for layer in whole])
    scorer.network.eval()
    with torch.inference_mode(False), torch.no_grad():
        streams = _Streams(scorer, texts)
        layers = zip(whole, bert_layers(network.encoder), n_heads, n_neurons, strict=True)
        for number, (layer, pruned, kept_heads, kept_neurons) in enumerate(layers, start=1):
            streams.pass_attention(layer, pruned, kept_heads)
            error = streams.pass_neurons(layer, pruned, kept_neurons)
            logger.info(
                "layer %d: %d heads, %d neurons; what it gives is off by %.3f of its variance",
                number,
                kept_heads,
                kept_neurons,
                error,
            )
    return TransformerScorer.wrap(network, scorer.tokenizer, scorer.settings)


def _spread(what: str, counts: Sequence[int], there: list[int]) -> list[int]:
    given = list(counts) * len(there) if len(counts) == 1 else list(counts)
    if len(given) != len(there) or not all(
        1 <= n <= n_there for n, n_there in zip(given, there, strict=True)
    ):
        raise ConfigError(
            f"{what}: got {list(counts)}, expected one number for each of the {len(there)} layers "
            f"(or one for all), from 1 to what the layer has: {there}"
        )
    return given


def _n_heads(layer: Any) -> int:
    attention = layer.attention.self
    return int(attention.query.out_features // attention.attention_head_size)


def _n_neurons(layer: Any) -> int:
    return int(layer.intermediate.dense.out_features)


class _Streams:
    """The passages' hidden states in the whole network and in the pruned one, batch by batch."""

    def __init__(self, scorer: TransformerScorer, texts: Sequence[str]) -> None:
        batches = padded_batches(
            scorer.tokenize(texts).input_ids,
            pad_token_id=scorer.pad_token_id,
            max_tokens=_MAX_TOKENS,
        )
        self.masks: list[Tensor] = []  # (batch, seq_len), bool
        self.whole: list[Tensor] = []  # (batch, seq_len, hidden)
        for _, input_ids, mask in batches:
            states = scorer.network.encoder.embeddings(input_ids=torch.from_numpy(input_ids))
            self.masks.append(torch.from_numpy(mask).bool())
            self.whole.append(states)
        self.pruned = list(self.whole)

    def pass_attention(self, layer: Any, pruned: Any, n_kept: int) -> None:
        """Go through a layer's attention, of which the pruned network keeps so many heads."""
        of_whole = [self._attend(layer, x, m) for x, m in zip(self.whole, self.masks, strict=True)]
        size = layer.attention.self.attention_head_size
        inputs = [self._attend(pruned, x, m) for x, m in zip(self.pruned, self.masks, strict=True)]
        expected = self._through(layer.attention.output.dense, of_whole, self.whole)
        kept = self._refit(
            pruned.attention.output.dense, inputs, expected, size=size, n_kept=n_kept
        )
        keep_heads(pruned, kept)
        columns = kept.repeat_interleave(size)
        given = self._through(
            pruned.attention.output.dense, [x[..., columns] for x in inputs], self.pruned
        )
        self.whole = [layer.attention.output.LayerNorm(x) for x in expected]
        self.pruned = [pruned.attention.output.LayerNorm(x) for x in given]

    def pass_neurons(self, layer: Any, pruned: Any, n_kept: int) -> float:
        """Go through a layer's feed-forward part, of which so many neurons are kept.

        Returns
        -------
        The mean square of what the two networks differ by after it, over the variance.
        """
        inputs = [pruned.intermediate(states) for states in self.pruned]
        of_whole = [layer.intermediate(states) for states in self.whole]
        expected = self._through(layer.output.dense, of_whole, self.whole)
        kept = self._refit(pruned.output.dense, inputs, expected, size=1, n_kept=n_kept)
        keep_neurons(pruned, kept)
        given = self._through(pruned.output.dense, [x[..., kept] for x in inputs], self.pruned)
        self.whole = [layer.output.LayerNorm(x) for x in expected]
        self.pruned = [pruned.output.LayerNorm(x) for x in given]
        whole = self._tokens(self.whole)
        difference = (self._tokens(self.pruned) - whole).square().mean()
        return float(difference / whole.var(dim=0).mean())

    def _attend(self, layer: Any, states: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.finfo(states.dtype).min * (~mask)[:, None, None, :].to(states.dtype)
        context: Tensor = layer.attention.self(states, hidden)[0]
        return context

    def _through(
        self, reader: nn.Linear, inputs: Sequence[Tensor], residual: Sequence[Tensor]
    ) -> list[Tensor]:
        return [reader(x) + states for x, states in zip(inputs, residual, strict=True)]

    def _tokens(self, batches: Sequence[Tensor]) -> Tensor:
        """Leave the padding out; shape (n_tokens, …)."""
        return torch.cat([x[mask] for x, mask in zip(batches, self.masks, strict=True)])

    def _refit(
        self,
        reader: nn.Linear,
        inputs: Sequence[Tensor],
        expected: Sequence[Tensor],
        *,
        size: int,
        n_kept: int,
    ) -> Tensor:
        """Choose which groups of inputs stay, and fit a reader's weights to them.

        Returns
        -------
        Which stay, shape (n_groups,), bool; the weights of the others are zero.
        """
        read = self._tokens(inputs)
        wanted = self._tokens(expected) - self._tokens(self.pruned)
        mean = read.mean(0)
        square = ((read - mean).T @ (read - mean)).double() / len(read)
        kept, weight = choose_groups(square, reader.weight.double(), size=size, n_kept=n_kept)
        columns = kept.repeat_interleave(size)
        offset = wanted.mean(0)
        product = ((read - mean)[:, columns].T @ (wanted - offset)).double() / len(read)
        left = square[columns][:, columns]
        pull = _PULL * left.diagonal().mean()
        left = left + pull * torch.eye(len(left), dtype=left.dtype)
        fitted = torch.linalg.solve(left, product + pull * weight[:, columns].T).T.float()
        reader.weight.zero_()
        reader.weight[:, columns] = fitted
        reader.bias.copy_(offset - fitted @ mean[columns])
        return kept


def choose_groups(
    square: Tensor, weight: Tensor, *, size: int, n_kept: int
) -> tuple[Tensor, Tensor]:
    """Take out the groups of inputs that the others replace best, one after the other.

    Parameters
    ----------
    square : mean products of the inputs, shape (n_inputs, n_inputs), float64.
    weight : of those who read them, shape (n_outputs, n_inputs), float64.
    size : inputs of a group, which are neighbours.
    n_kept : groups to keep.

    Returns
    -------
    Which stay, shape (n_groups,), bool; and the weights, those of the others zero.
    """
    n_inputs = len(square)
    n_groups = n_inputs // size
    damping = _DAMPING * square.diagonal().mean().clamp(min=torch.finfo(square.dtype).tiny)
    inverse = torch.linalg.inv(square + damping * torch.eye(n_inputs, dtype=square.dtype))
    weight = weight.clone()
    kept = torch.ones(n_groups, dtype=torch.bool)
    unit = torch.eye(size, dtype=square.dtype)
    for _ in range(n_groups - n_kept):
        blocks = inverse.view(n_groups, size, n_groups, size).diagonal(dim1=0, dim2=2)
        blocks = blocks.permute(2, 0, 1).clone()  # (n_groups, size, size)
        blocks[~kept] = unit
        precision = torch.linalg.inv(blocks)
        by_group = weight.view(len(weight), n_groups, size)
        cost = torch.einsum("ogi,gij,ogj->g", by_group, precision, by_group)
        cost[~kept] = torch.inf
        group = int(cost.argmin())
        place = slice(group * size, (group + 1) * size)
        step = precision[group] @ inverse[place]  # (size, n_inputs)
        weight -= weight[:, place] @ step
        inverse -= inverse[:, place] @ step
        weight[:, place] = 0
        inverse[place] = 0
        inverse[:, place] = 0
        kept[group] = False
    return kept, weight
