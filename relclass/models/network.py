"""The network: a pretrained encoder, a pooling, a linear head with one logit per topic."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from relclass.config import LoraSettings, TransformerSettings
from relclass.errors import ConfigError, MissingExtraError, ModelError
from relclass.models.encoders import check_vocabulary, explain_load_error, find_encoder

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # an nn.Module cannot be defined without it
    raise MissingExtraError("torch", "train") from error

_DROPOUT_KEYS = ("hidden_dropout_prob", "embedding_dropout", "mlp_dropout", "dropout")
_ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")
_EXITS = "exits."
_HEAD_DROPOUT_KEYS = ("classifier_dropout", "cls_dropout", "pooler_dropout")
_BERT_TYPES = ("bert", "roberta", "xlm-roberta", "camembert")


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
        self, input_ids: Tensor, attention_mask: Tensor, with_exits: bool = False
    ) -> Tensor:
        """Return logits, shape (batch, n_topics), float32.

        Parameters
        ----------
        with_exits : the logits of every head, the exits' first: (n_heads, batch, n_topics).
        """
        if not self.exits and not self.halve_after:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            logits = self.read(self.head, hidden.last_hidden_state, attention_mask)
            return logits.unsqueeze(0) if with_exits else logits
        logits = self.read_layers(input_ids, attention_mask)
        return torch.stack(logits) if with_exits else logits[-1]

    def read_layers(self, input_ids: Tensor, mask: Tensor) -> list[Tensor]:
        """Run the encoder layer by layer, halving the passages where that is due.

        Returns
        -------
        The logits of every head, the exits' first.
        """
        from transformers.masking_utils import create_bidirectional_mask

        states = self.encoder.embeddings(input_ids=input_ids)
        logits, seen = [], None
        for n_read, layer in enumerate(self.encoder.encoder.layer, start=1):
            if seen is None:  # by all layers that read the same tokens
                seen = create_bidirectional_mask(
                    config=self.encoder.config, inputs_embeds=states, attention_mask=mask
                )
            states = layer(states, seen)
            if n_read in self.exits:
                head = self.exit_heads[self.exits.index(n_read)]
                logits.append(self.read(head, states, mask))
            if n_read in self.halve_after:
                states, mask = halve(states, mask)
                seen = None
        return [*logits, self.read(self.head, states, mask)]

    def read(self, head: nn.Module, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Return a head's logits, shape (batch, n_topics), float32.

        Parameters
        ----------
        states : shape (batch, seq_len, hidden).
        """
        if self.pooling == "mean":
            mask = attention_mask.unsqueeze(-1).to(states.dtype)  # (batch, seq_len, 1)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)  # (batch, hidden)
        else:
            pooled = states[:, 0]  # (batch, hidden)
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


def build_network(
    settings: TransformerSettings, topics: tuple[str, ...], *, device: str = "cpu"
) -> tuple[Network, Any]:
    """Load the pretrained encoder and its tokenizer and put a new head on it.

    Parameters
    ----------
    topics : names in codebook order.
    device : where it will run; on a CPU "auto" attention is the eager one, which trains 2.3 times
        as fast there as scaled_dot_product_attention (measured with bf16, 192 tokens).

    Returns
    -------
    The network, on the CPU, frozen and with adapters as the settings say; and the tokenizer.

    Raises
    ------
    ConfigError
        If the encoder cannot be found or loaded, lacks weights, or does not fit its tokenizer.
    """
    source = find_encoder(settings.encoder)
    attention = choose_attention(settings.attention, device)
    tokenizer = load_tokenizer(source)
    network = load_network(source, settings, topics, attention=attention, new_head=True)
    config = network.encoder.config
    check_vocabulary(settings.encoder, n_pieces=len(tokenizer), n_embeddings=config.vocab_size)
    _check_max_length(settings, config)
    if settings.layers is not None:
        _keep_layers(network, settings.layers)
    if settings.activation is not None:
        _replace_activations(network, settings.activation)
    _check_places(settings, network)
    if settings.lora is not None:
        network.replace_encoder(_add_adapters(network.encoder, settings.lora))
    _freeze(network, settings.freeze)
    return network, tokenizer


def choose_attention(attention: str, device: str) -> str | None:
    """Resolve "auto"; None leaves the choice to transformers."""
    if attention != "auto":
        return attention
    return "eager" if device == "cpu" else None


def load_tokenizer(source: str) -> Any:
    """Load the tokenizer of a checkpoint.

    Raises
    ------
    ConfigError
        If there is none that loads.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds here
        raise explain_load_error(source, error) from error
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"model.encoder: {source}: its tokenizer names no padding token")
    return tokenizer


def load_network(
    source: str,
    settings: TransformerSettings,
    topics: tuple[str, ...],
    *,
    attention: str | None,
    new_head: bool,
) -> Network:
    """Load a checkpoint's weights; with `new_head` the native head may be missing in it.

    Raises
    ------
    ConfigError
        If it cannot be loaded, or a weight of the encoder is missing.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    is_native = settings.pooling == "native"
    auto_class = AutoModelForSequenceClassification if is_native else AutoModel
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        _set_dropouts(config, settings)
        if is_native:
            _name_topics(config, topics)
        with _without_chatter():
            model, info = auto_class.from_pretrained(
                source,
                config=config,
                trust_remote_code=False,
                output_loading_info=True,
                use_safetensors=True,
                dtype=torch.float32,
                **({} if attention is None else {"attn_implementation": attention}),
            )
    except Exception as error:
        raise explain_load_error(source, error) from error
    _check_missing(source, info["missing_keys"], may_lack_head=not is_native or new_head)
    if is_native:
        return NativeNetwork(model)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # unused here: it would only travel, and trouble multi-GPU training
    return PooledNetwork(
        model,
        pooling=settings.pooling,
        n_topics=len(topics),
        head_dropout=settings.head_dropout,
        exits=settings.exits,
        halve_after=settings.halve_after,
    )


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    # its loading report warns of the head that is meant to be new; we check missing keys ourselves
    from transformers.utils import logging as chatter

    verbosity, has_bar = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if has_bar:
            chatter.enable_progress_bar()


def _name_topics(config: Any, topics: tuple[str, ...]) -> None:
    config.num_labels = len(topics)
    config.id2label = dict(enumerate(topics))
    config.label2id = {topic: index for index, topic in enumerate(topics)}
    config.problem_type = "multi_label_classification"


def _set_dropouts(config: Any, settings: TransformerSettings) -> None:
    values = [
        (_DROPOUT_KEYS, settings.encoder_dropout),
        (_ATTENTION_DROPOUT_KEYS, 0.0),  # its mask is most of eager attention's cost on a CPU
        (_HEAD_DROPOUT_KEYS, settings.head_dropout),
    ]
    for keys, value in values:
        for key in keys:
            if hasattr(config, key):
                setattr(config, key, value)


def _check_missing(source: str, missing: Any, *, may_lack_head: bool) -> None:
    optional = re.compile(r"pooler|classifier|(^|\.)head\." if may_lack_head else r"^$")
    lacking = sorted(name for name in missing if not optional.search(name))
    if lacking:
        raise ConfigError(
            f"model.encoder: {source}: its weights lack {len(lacking)} tensors of the "
            f"architecture that its config.json names, such as {lacking[0]}; the two do not "
            "belong together: give a complete checkpoint or set model.encoder=bundled"
        )


def _check_max_length(settings: TransformerSettings, config: Any) -> None:
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or getattr(config, "position_biased_input", True) is False:
        return  # relative positions only
    if config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        limit -= 2  # positions there start after the padding id
    if settings.max_length > limit:
        raise ConfigError(
            f"model.max_length is {settings.max_length} but {settings.encoder} reads at most "
            f"{limit} tokens; longer passages are windowed, so lower it to {limit} or less"
        )


def _layers(network: Network, key: str) -> Any:
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


def _keep_layers(network: Network, n_kept: int) -> None:
    layers = _layers(network, "layers")
    if n_kept > len(layers):
        raise ConfigError(f"model.layers is {n_kept} but the encoder has {len(layers)}")
    kept = [(place + 1) * len(layers) // n_kept - 1 for place in range(n_kept)]
    _set_layers(network, [layers[number] for number in kept])


def _set_layers(network: Network, layers: Sequence[nn.Module]) -> None:
    network.encoder.encoder.layer = nn.ModuleList(layers)
    network.encoder.config.num_hidden_layers = len(layers)


def _replace_activations(network: Network, activation: str) -> None:
    from transformers.activations import ACT2FN

    for layer in _layers(network, "activation"):
        layer.intermediate.intermediate_act_fn = ACT2FN[activation]
    network.encoder.config.hidden_act = activation


def _check_places(settings: TransformerSettings, network: Network) -> None:
    """Refuse exits and halvings where there is no such layer, or no way to get at it."""
    n_layers = network.encoder.config.num_hidden_layers
    for key in ("exits", "halve_after"):
        places = getattr(settings, key)
        if not places:
            continue
        # others take more between the layers than states and a mask, or change them there
        if network.encoder.config.model_type not in _BERT_TYPES:
            raise unknown_for(network, key)
        if settings.pooling == "native" or settings.lora is not None:
            raise ConfigError(
                f"model.{key}: neither a native head nor adapters go with it; set model.pooling "
                "to mean or cls and leave model.lora out"
            )
        if list(places) != sorted(set(places)) or not 1 <= places[0] <= places[-1] < n_layers:
            raise ConfigError(
                f"model.{key} is {list(places)}: expected ascending layers from 1 to {n_layers - 1}"
            )


def take_head(network: Network, settings: TransformerSettings, topics: tuple[str, ...]) -> None:
    """Give a network the head of the model folder that its encoder came from.

    Those of early exits too, if both have the same exits.

    Raises
    ------
    ConfigError
        If the encoder is no model folder with such a head, of the same topics.
    """
    from relclass.models.store import load_model

    try:
        theirs = load_model(settings.encoder)
        scorer: Any = theirs.scorer
        if theirs.topics != topics:
            raise ModelError(f"its topics are {list(theirs.topics)}")
        if scorer.settings.exits == settings.exits:
            network.load_heads(scorer.network.heads_state())
        else:
            network.head.load_state_dict(scorer.network.head.state_dict())
    except (ModelError, AttributeError, RuntimeError) as error:
        raise ConfigError(
            f"model.keep_head: {settings.encoder} has no head for the topics {list(topics)}: "
            f"{error}; leave keep_head out to begin with a new one"
        ) from error


def keep_until_exit(network: PooledNetwork) -> None:
    """Cut a network down to the layers before its first exit, whose head becomes its own."""
    place = network.exits[0]
    _set_layers(network, network.encoder.encoder.layer[:place])
    network.head = network.exit_heads[0]
    network.exits, network.exit_heads = (), nn.ModuleList()
    network.halve_after = tuple(layer for layer in network.halve_after if layer < place)


def _add_adapters(encoder: Any, lora: LoraSettings) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear"
    )
    return get_peft_model(encoder, config)


def merge_adapters(network: Network) -> None:
    """Fold LoRA's adapters into the weights they adapt; does nothing where there are none."""
    if hasattr(network.encoder, "merge_and_unload"):
        network.replace_encoder(network.encoder.merge_and_unload())


def _freeze(network: Network, freeze: str) -> None:
    if freeze == "embeddings":
        network.encoder.get_input_embeddings().weight.requires_grad_(False)
    elif freeze == "encoder":
        network.encoder.requires_grad_(False)


def parameter_groups(network: Network, settings: TransformerSettings) -> list[dict[str, Any]]:
    """Give each trainable parameter its learning rate and weight decay.

    The head has its own rate; a layer's falls by `layer_decay` for each layer above it (Howard
    and Ruder 2018, https://arxiv.org/abs/1801.06146); vectors (biases, norms) do not decay.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter, rate in _rates(network, settings):
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _rates(network: Network, settings: TransformerSettings) -> Iterator[tuple[Tensor, float]]:
    of_encoder = {id(parameter) for parameter in network.encoder.parameters()}
    n_layers = network.encoder.config.num_hidden_layers
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) not in of_encoder or "pooler" in name:
            yield parameter, settings.head_learning_rate
            continue
        found = re.search(r"\.layers?\.(\d+)\.", name)
        depth = int(found[1]) + 1 if found else 0
        yield parameter, settings.learning_rate * settings.layer_decay ** (n_layers - depth)
