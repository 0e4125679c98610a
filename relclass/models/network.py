"""The network: a pretrained encoder, a pooling, a linear head with one logit per topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relclass.errors import ConfigError, MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # an nn.Module cannot be defined without it
    raise MissingExtraError("torch", "train") from error

_EXITS = "exits."
TOKENS = "tokens."


class PooledNetwork(nn.Module):  # type: ignore[misc]
    """Encoder, mean or [CLS] pooling, dropout, linear head; and a head at each early exit."""

    def __init__(
        self,
        encoder: Any,
        *,
        pooling: str,
        n_topics: int,
        head_dropout: float,
        exits: tuple[int, ...] = (),
        keep_tokens: Mapping[int, float] | None = None,
        keep_at_least: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.exits = exits
        self.keep_tokens = dict(keep_tokens or {})
        self.keep_at_least = keep_at_least
        self.dropout = nn.Dropout(head_dropout)
        self.head = _new_head(encoder.config.hidden_size, n_topics)
        self.exit_heads = nn.ModuleList(
            _new_head(encoder.config.hidden_size, n_topics) for _ in exits
        )
        self.token_scorers = nn.ParameterList(
            nn.Parameter(torch.zeros(encoder.config.hidden_size), requires_grad=False)
            for _ in self.keep_tokens
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        with_exits: bool = False,
        with_pooled: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits, shape (batch, n_topics), float32.

        Parameters
        ----------
        with_exits : the logits of every head, the exits' first: (n_heads, batch, n_topics).
        with_pooled : the pooled states that the last head reads too, (batch, hidden).
        """
        if self.exits or self.keep_tokens:
            pooled = self.read_layers(input_ids, attention_mask)
        else:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            pooled = [self.pool(hidden.last_hidden_state, attention_mask)]
        if with_exits:
            heads = (*self.exit_heads, self.head)
            read = (self.read(head, states) for head, states in zip(heads, pooled, strict=True))
            logits = torch.stack(list(read))
        else:
            logits = self.read(self.head, pooled[-1])
        return (logits, pooled[-1]) if with_pooled else logits

    def read_layers(self, input_ids: Tensor, mask: Tensor) -> list[Tensor]:
        """Run the encoder layer by layer, dropping tokens where that is due.

        Returns
        -------
        The pooled states that every head reads, the exits' first; shape (batch, hidden).
        """
        from transformers.masking_utils import create_bidirectional_mask

        states = self.encoder.embeddings(input_ids=input_ids)
        scorers, n_tokens = iter(self.token_scorers), mask.sum(dim=1)
        pooled, seen = [], None
        for n_read, layer in enumerate(self.encoder.encoder.layer, start=1):
            if seen is None:  # by all layers that read the same tokens
                seen = create_bidirectional_mask(
                    config=self.encoder.config, inputs_embeds=states, attention_mask=mask
                )
            states = layer(states, seen)
            if n_read in self.exits:
                pooled.append(self.pool(states, mask))
            if n_read in self.keep_tokens:
                n_kept = count_kept(n_tokens, self.keep_tokens[n_read], at_least=self.keep_at_least)
                states, mask = keep_best(states, mask, states @ next(scorers), n_kept)
                seen = None
        return [*pooled, self.pool(states, mask)]

    def pool(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Turn the tokens' states, shape (batch, seq_len, hidden), into one: (batch, hidden)."""
        if self.pooling == "cls":
            return states[:, 0]
        mask = attention_mask.unsqueeze(-1).to(states.dtype)  # (batch, seq_len, 1)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)

    def read(self, head: nn.Module, pooled: Tensor) -> Tensor:
        """Return a head's logits, shape (batch, n_topics), float32."""
        pooled = self.dropout(pooled.to(head.weight.dtype))  # on a GPU a head may be bfloat16
        logits: Tensor = head(pooled).float()  # (batch, n_topics)
        return logits

    def replace_encoder(self, encoder: Any) -> None:
        """Put another module in the encoder's place."""
        self.encoder = encoder

    def heads_state(self) -> dict[str, Tensor]:
        """Return the weights of the head, of each exit's ("exits.N.…") and of token scorers."""
        state = self.head.state_dict() | self.exit_heads.state_dict(prefix=_EXITS)
        state |= self.token_scorers.state_dict(prefix=TOKENS)
        return {name: value.cpu() for name, value in state.items()}

    def load_heads(self, state: dict[str, Tensor]) -> None:
        """Take over what `heads_state` gave.

        Raises
        ------
        RuntimeError
            If a weight is missing, unknown or of another shape.
        """
        rest = dict(state)
        for prefix, module in ((_EXITS, self.exit_heads), (TOKENS, self.token_scorers)):
            names = [name for name in state if name.startswith(prefix)]
            module.load_state_dict({name.removeprefix(prefix): rest.pop(name) for name in names})
        self.head.load_state_dict(rest)

    def set_priors(self, prior_logits: Tensor) -> None:
        """Start the heads at each topic's log-odds in training, shape (n_topics,)."""
        with torch.no_grad():
            for head in (self.head, *self.exit_heads):
                head.bias.copy_(prior_logits)


def count_kept(n_tokens: Tensor, share: float, *, at_least: int) -> Tensor:
    """Say how many tokens of windows go on: the share, rounded up, but so many where there are.

    Parameters
    ----------
    n_tokens : of each window, shape (batch,), integers; the result is of that shape.
    share : in (0, 1).
    """
    n_kept = (n_tokens * share).ceil().long()
    return torch.minimum(n_kept.clamp(min=at_least), n_tokens)


def keep_best(
    states: Tensor, mask: Tensor, scores: Tensor, n_kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Keep the first token and those of the highest scores, in order of these.

    Nothing is lost by the order: the positions are in the states.

    Parameters
    ----------
    states : shape (batch, seq_len, hidden).
    mask : 1 at tokens, 0 at the padding after them, shape (batch, seq_len).
    scores : shape (batch, seq_len).
    n_kept : of each passage, in [1, its number of tokens], shape (batch,).

    Returns
    -------
    Shapes (batch, max n_kept, hidden) and (batch, max n_kept).
    """
    n_passages, seq_len, hidden = states.shape
    scores = scores.masked_fill(mask == 0, -torch.inf)
    is_first = torch.arange(seq_len, device=states.device) == 0
    scores = scores.masked_fill(is_first, torch.inf)
    n_longest = n_kept.max()
    best = scores.argsort(dim=1, descending=True)[:, :n_longest]  # (batch, max n_kept)
    rows = best + torch.arange(n_passages, device=states.device)[:, None] * seq_len
    kept = states.reshape(-1, hidden).index_select(0, rows.reshape(-1))
    kept = kept.reshape(n_passages, -1, hidden)
    is_kept = torch.arange(kept.shape[1], device=states.device) < n_kept[:, None]
    return kept, is_kept.to(mask.dtype)


def _new_head(hidden_size: int, n_topics: int) -> nn.Linear:
    head = nn.Linear(hidden_size, n_topics)
    nn.init.zeros_(head.weight)  # begin at the priors: no noise flows into the encoder
    nn.init.zeros_(head.bias)
    return head


class NativeNetwork(nn.Module):  # type: ignore[misc]
    """The architecture's own head for sequence classification: a plain checkpoint when saved."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def encoder(self) -> Any:
        """The encoder inside, without the head."""
        return getattr(self.model, self.model.base_model_prefix)

    def replace_encoder(self, encoder: Any) -> None:
        """Put another module in the encoder's place."""
        setattr(self.model, self.model.base_model_prefix, encoder)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, with_exits: bool = False
    ) -> Tensor:
        """Return logits, shape (batch, n_topics), float32; there are no exits."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        logits: Tensor = output.logits.float()  # (batch, n_topics)
        return logits.unsqueeze(0) if with_exits else logits

    def set_priors(self, prior_logits: Tensor) -> None:
        """Leave the head as the architecture initialises it."""


Network = PooledNetwork | NativeNetwork


def layers_of(network: Network, key: str) -> Any:
    """Return the encoder's layers.

    Parameters
    ----------
    key : the setting under "model." that asks for them.

    Raises
    ------
    ConfigError
        If the architecture is not built like BERT.
    """
    layers = getattr(getattr(network.encoder, "encoder", None), "layer", None)
    if layers is None:
        raise unknown_for(network, key)
    return layers


def unknown_for(network: Network, key: str) -> ConfigError:
    """Make the error of a setting that asks for a network built like BERT."""
    return ConfigError(
        f"model.{key}: not known for the architecture {network.encoder.config.model_type!r}, "
        "only for those built like BERT; leave it out"
    )


def set_layers(network: Network, layers: Sequence[nn.Module]) -> None:
    """Put other layers in the place of the encoder's."""
    network.encoder.encoder.layer = nn.ModuleList(layers)
    network.encoder.config.num_hidden_layers = len(layers)


def keep_until_exit(network: PooledNetwork) -> None:
    """Cut a network down to the layers before its first exit, whose head becomes its own."""
    place = network.exits[0]
    set_layers(network, network.encoder.encoder.layer[:place])
    network.head = network.exit_heads[0]
    network.exits, network.exit_heads = (), nn.ModuleList()
    kept = {layer: share for layer, share in network.keep_tokens.items() if layer < place}
    network.keep_tokens, network.token_scorers = kept, network.token_scorers[: len(kept)]
