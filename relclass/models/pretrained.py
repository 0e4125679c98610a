"""A pretrained checkpoint -> the network that is fine-tuned: loaded, cut, frozen, its rates set."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from relclass.config import LoraSettings, TransformerSettings
from relclass.errors import ConfigError, MissingExtraError, ModelError
from relclass.models.compaction import leave_out_zeros
from relclass.models.encoders import check_vocabulary, explain_load_error, find_encoder
from relclass.models.network import (
    NativeNetwork,
    Network,
    PooledNetwork,
    layers_of,
    set_layers,
    unknown_for,
)

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise MissingExtraError("torch", "train") from error

_DROPOUT_KEYS = ("hidden_dropout_prob", "embedding_dropout", "mlp_dropout", "dropout")
_ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")
_HEAD_DROPOUT_KEYS = ("classifier_dropout", "cls_dropout", "pooler_dropout")
_BERT_TYPES = ("bert", "roberta", "xlm-roberta", "camembert")


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
    leave_out_zeros(model)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # unused here: it would only travel, and trouble multi-GPU training
    return PooledNetwork(
        model,
        pooling=settings.pooling,
        n_topics=len(topics),
        head_dropout=settings.head_dropout,
        exits=settings.exits,
        keep_tokens=settings.keep_tokens,
        keep_at_least=settings.keep_at_least,
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


def _keep_layers(network: Network, kept: int | tuple[int, ...]) -> None:
    layers = layers_of(network, "layers")
    if isinstance(kept, int):
        if kept > len(layers):
            raise ConfigError(f"model.layers is {kept} but the encoder has {len(layers)}")
        kept = tuple((place + 1) * len(layers) // kept for place in range(kept))
    if not kept or list(kept) != sorted(set(kept)) or kept[-1] > len(layers):
        raise ConfigError(
            f"model.layers is {list(kept)}: expected ascending layers from 1 to {len(layers)}"
        )
    set_layers(network, [layers[number - 1] for number in kept])


def _replace_activations(network: Network, activation: str) -> None:
    from transformers.activations import ACT2FN

    for layer in layers_of(network, "activation"):
        layer.intermediate.intermediate_act_fn = ACT2FN[activation]
    network.encoder.config.hidden_act = activation


def _check_places(settings: TransformerSettings, network: Network) -> None:
    """Refuse exits and dropped tokens where there is no such layer, or no way to get at it."""
    n_layers = network.encoder.config.num_hidden_layers
    for key in ("exits", "keep_tokens"):
        places = list(getattr(settings, key))
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
        if places != sorted(set(places)) or not 1 <= places[0] <= places[-1] < n_layers:
            raise ConfigError(
                f"model.{key} is {getattr(settings, key)}: expected ascending layers from 1 to "
                f"{n_layers - 1}"
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
        if scorer.settings.keep_tokens != settings.keep_tokens:
            raise ModelError(
                f"its model.keep_tokens is {scorer.settings.keep_tokens}, not "
                f"{settings.keep_tokens}"
            )
        if scorer.settings.exits == settings.exits:
            network.load_heads(scorer.network.heads_state())
        else:
            network.head.load_state_dict(scorer.network.head.state_dict())
            network.token_scorers.load_state_dict(scorer.network.token_scorers.state_dict())
    except (ModelError, AttributeError, RuntimeError) as error:
        raise ConfigError(
            f"model.keep_head: {settings.encoder} has no head for the topics {list(topics)}: "
            f"{error}; leave keep_head out to begin with a new one"
        ) from error


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


def _freeze(network: Network, freeze: str | int) -> None:
    if isinstance(freeze, int):
        layers = layers_of(network, "freeze")
        if freeze >= len(layers):
            raise ConfigError(
                f"model.freeze is {freeze} but the encoder has {len(layers)} layers: freeze fewer, "
                "or write encoder to train the head alone"
            )
        network.encoder.embeddings.requires_grad_(False)
        for layer in layers[:freeze]:
            layer.requires_grad_(False)
    elif freeze == "embeddings":
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
