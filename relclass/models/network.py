"""The network: a pretrained encoder, a pooling, a linear head with one logit per topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relclass.errors import ConfigError, MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # an nn.Module cannot be defined without it
    raise MissingExtraError("torch", "train") from error

_EXITS = "exits."


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
        halve_after: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.exits = exits
        self.halve_after = halve_after
        self.dropout = nn.Dropout(head_dropout)
        self.head = _new_head(encoder.config.hidden_size, n_topics)
        self.exit_heads = nn.ModuleList(
            _new_head(encoder.config.hidden_size, n_topics) for _ in exits
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
        if self.exits or self.halve_after:
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
        """Run the encoder layer by layer, halving the passages where that is due.

        Returns
        -------
        The pooled states that every head reads, the exits' first; shape (batch, hidden).
        """
        from transformers.masking_utils import create_bidirectional_mask

        states = self.encoder.embeddings(input_ids=input_ids)
        pooled, seen = [], None
        for n_read, layer in enumerate(self.encoder.encoder.layer, start=1):
            if seen is None:  # by all layers that read the same tokens
                seen = create_bidirectional_mask(
                    config=self.encoder.config, inputs_embeds=states, attention_mask=mask
                )
            states = layer(states, seen)
            if n_read in self.exits:
                pooled.append(self.pool(states, mask))
            if n_read in self.halve_after:
                states, mask = halve(states, mask)
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
        """Return the weights of the head, and of each exit's under "exits.NUMBER."."""
        state = self.head.state_dict() | self.exit_heads.state_dict(prefix=_EXITS)
        return {name: value.cpu() for name, value in state.items()}

    def load_heads(self, state: dict[str, Tensor]) -> None:
        """Take over what `heads_state` gave.

        Raises
        ------
        RuntimeError
            If a weight is missing, unknown or of another shape.
        """
        early = {name: state[name] for name in state if name.startswith(_EXITS)}
        self.head.load_state_dict({name: state[name] for name in state if name not in early})
        self.exit_heads.load_state_dict(
            {name.removeprefix(_EXITS): value for name, value in early.items()}
        )

    def set_priors(self, prior_logits: Tensor) -> None:
        """Start the heads at each topic's log-odds in training, shape (n_topics,)."""
        with torch.no_grad():
            for head in (self.head, *self.exit_heads):
                head.bias.copy_(prior_logits)


def halve(states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Average each two neighbouring tokens; padding counts for nothing.

    So does the Funnel-Transformer (Dai et al. 2020, https://arxiv.org/abs/2006.03236).

    Parameters
    ----------
    states : shape (batch, seq_len, hidden).
    mask : 1 at tokens, 0 at the padding after them, shape (batch, seq_len).

    Returns
    -------
    Shapes (batch, ceil(seq_len / 2), hidden) and (batch, ceil(seq_len / 2)).
    """
    of_first = mask[:, ::2]  # (batch, half)
    of_second = nn.functional.pad(mask, (0, 1))[:, 1::2]  # (batch, half)
    left, right = (part.unsqueeze(-1).to(states.dtype) for part in (of_first, of_second))
    second = nn.functional.pad(states, (0, 0, 0, 1))[:, 1::2]
    mean = (states[:, ::2] * left + second * right) / (left + right).clamp(min=1)
    return mean, of_first


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
    network.halve_after = tuple(layer for layer in network.halve_after if layer < place)
