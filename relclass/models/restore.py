"""An int8 ONNX model -> its network in float, to train on from: what `export` does, undone.

The weights come back as int8 rounded them, the embeddings as their 4-bit blocks are, for the pieces
that the trimmed vocabulary kept.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relclass.config import TransformerSettings
from relclass.errors import MissingExtraError, ModelError
from relclass.models.base import Classifier
from relclass.models.blocks import BLOCK_SIZE
from relclass.models.network import TOKENS
from relclass.models.onnx import EMBEDDINGS, MODEL, STUDENT, OnnxScorer
from relclass.models.transformer import HEAD, SETTINGS, TransformerScorer

try:
    from onnx import load_from_string, numpy_helper
except ImportError as error:
    raise MissingExtraError("onnx", "train") from error

_PRODUCT = re.compile(
    r"/network/(?:encoder/encoder/)?layer\.(\d+)/(.+)/(?:MatMul|Add)_output_0_weights_int8"
)
_NORM = re.compile(r"/network/(?:encoder/)?(.+)/LayerNormalization_output_0")
_ENCODER, _HEAD, _SCORERS = "network.encoder.", "network.head.", "network.token_scorers."
_WORDS = f"{_ENCODER}embeddings.word_embeddings.weight"
_BIAS = 6  # place among the inputs of an integer product
_STEPS = 255
_INNER = "intermediate/dense"
_ACTIVATIONS = {"BiasGelu": "gelu", "Gelu": "gelu", "Relu": "relu"}


def restore_classifier(classifier: Classifier, *, student: bool = False) -> Classifier:
    """Turn a model of the kind onnx into one of the kind transformer.

    Parameters
    ----------
    student : restore the student, and not the network that it reads before.

    Returns
    -------
    The classifier with a `TransformerScorer`; calibration, thresholds and card are taken over, but
    a student has the card of its own run.

    Raises
    ------
    ModelError
        If the model is of another kind, has no student, or does not say in its card how it was
        trained; or its network is not built like BERT.
    """
    scorer = classifier.scorer
    if not isinstance(scorer, OnnxScorer):
        raise ModelError(
            f"{classifier.name}: kind {scorer.kind!r}; only an ONNX model can be restored"
        )
    if student and scorer.student is None:
        raise ModelError(f"{scorer.model_dir}: no {STUDENT}: the model has no student")
    settings = _settings(classifier, student=student)
    embeddings = scorer.model_dir / EMBEDDINGS
    rest = embeddings.read_bytes() if embeddings.is_file() else b""
    path = scorer.model_dir / (STUDENT if student else MODEL)
    try:
        checkpoint = read_checkpoint(load_from_string(path.read_bytes() + rest))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), checkpoint, scorer, settings)
        restored = TransformerScorer.load(Path(folder), classifier.codebook)
    card = classifier.card["student"]["run"] if student else classifier.card
    return replace(classifier, scorer=restored, card=card)


def _settings(classifier: Classifier, *, student: bool) -> TransformerSettings:
    card: Mapping[str, Any] = classifier.card
    try:
        if student:
            card = card["student"]["run"]
        settings = TransformerSettings.model_validate(card["config"]["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{classifier.name}: its card does not say how it was trained "
            f"({type(error).__name__}: {error}), so pooling and prefix are not known"
        ) from error
    return settings.model_copy(update={"exits": (), "activation": None, "layers": None})


@dataclass(frozen=True)
class Checkpoint:
    """What transformers' BertModel needs to be the network of a graph.

    Parameters
    ----------
    config : as config.json has it.
    tensors : the encoder's weights, by transformers' names.
    head : the linear head's, and the token scorers', as `PooledNetwork.heads_state` names them.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    head: dict[str, np.ndarray]


def read_checkpoint(model: Any) -> Checkpoint:
    """Read the weights out of an int8 graph that `relclass.models.export` wrote.

    Layers with fewer heads or neurons than others are filled up with zeros, as
    `relclass.models.compaction` keeps them in a checkpoint.

    Raises
    ------
    ModelError
        If the graph is not of an encoder built like BERT.
    """
    graph = _Graph(model)
    kinds = {node.op_type for node in model.graph.node}
    n_layers = 1 + max((layer for layer, _ in graph.products), default=-1)
    if not n_layers or _WORDS.removesuffix(".weight") not in graph.prefixes or "CumSum" in kinds:
        raise ModelError("the network is not built like BERT, so its weights cannot be restored")
    tensors = graph.plain_tensors()
    hidden = tensors["embeddings.position_embeddings.weight"].shape[1]
    n_neurons = max(
        graph.products[layer, "intermediate/dense"].n_outputs for layer in range(n_layers)
    )
    head_size = graph.head_size()
    for (layer, part), product in graph.products.items():
        weight, bias = graph.linear(product)
        n_rows = n_neurons if part == _INNER else hidden
        n_columns = n_neurons if part == "output/dense" else hidden
        name = f"encoder.layer.{layer}.{part.replace('/', '.')}"
        tensors[f"{name}.weight"] = np.pad(
            weight, ((0, n_rows - weight.shape[0]), (0, n_columns - weight.shape[1]))
        )
        tensors[f"{name}.bias"] = np.pad(bias, (0, n_rows - len(bias)))
    words = tensors["embeddings.word_embeddings.weight"]
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": hidden,
        "num_hidden_layers": n_layers,
        "num_attention_heads": hidden // head_size,
        "intermediate_size": n_neurons,
        "max_position_embeddings": len(tensors["embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(tensors["embeddings.token_type_embeddings.weight"]),
        "layer_norm_eps": graph.epsilon(),
        "hidden_act": next(_ACTIVATIONS[kind] for kind in _ACTIVATIONS if kind in kinds),
    }
    head = {name: graph.values(f"{_HEAD}{name}") for name in ("weight", "bias")}
    head |= {
        f"{TOKENS}{name.removeprefix(_SCORERS)}": graph.values(name)
        for name in graph.constants
        if name.startswith(_SCORERS)
    }
    return Checkpoint(config, tensors, head)


@dataclass(frozen=True)
class _Product:
    part: str
    weights: str
    scales: str
    bias: str
    source: str
    output: str
    n_outputs: int


class _Graph:
    """An int8 graph, its constants by name and its products by layer and part."""

    def __init__(self, model: Any) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.prefixes = {re.sub(r"\.weight.*", "", name) for name in self.constants}
        self.readers = {name: node for node in self.nodes for name in node.input}
        self.products: dict[tuple[int, str], _Product] = {}
        weights_of = {
            node.output[0]: node.input[0] for node in self.nodes if node.op_type == "Concat"
        }
        for node in self.nodes:
            if node.op_type != "MatMulIntegerToFloat" or len(node.input) <= _BIAS:
                continue  # the finer of two products has no bias
            weights = weights_of.get(node.input[1], node.input[1])
            found = _PRODUCT.fullmatch(weights)
            if not found:
                raise ModelError(f"the product {node.output[0]!r} belongs to no layer of BERT's")
            self.products[int(found[1]), found[2]] = _Product(
                part=found[2],
                weights=weights,
                scales=node.input[3],
                bias=node.input[_BIAS],
                source=re.sub(r"_(int8|whole)$", "", node.input[0]),
                output=node.output[0].removesuffix("_coarse"),
                n_outputs=self.constants[weights].dims[1],
            )

    def values(self, name: str) -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(self.constants[name])
        return values

    def plain_tensors(self) -> dict[str, np.ndarray]:
        """Return embeddings and layer norms, which stay in float."""
        tensors = {}
        for node in self.nodes:
            if found := _NORM.fullmatch(node.output[0]):
                name = re.sub(r"^layer\.", "encoder.layer.", found[1].replace("/", "."))
                # equal constants are one in the graph, so their own names do not tell
                tensors[f"{name}.weight"] = self.values(node.input[1])
                tensors[f"{name}.bias"] = self.values(node.input[2])
        for name in ("position_embeddings.weight", "token_type_embeddings.weight"):
            tensors[f"embeddings.{name}"] = self.values(f"{_ENCODER}embeddings.{name}")
        tensors["embeddings.word_embeddings.weight"] = self._words()
        return tensors

    def _words(self) -> np.ndarray:
        if f"{_WORDS}_int4" in self.constants:
            quants = self.values(f"{_WORDS}_int4").astype(np.float32)
            scales = self.values(f"{_WORDS}_scale_fp16").astype(np.float32)
            blocks = quants.reshape(len(quants), -1, BLOCK_SIZE) * scales[..., None]
            words: np.ndarray = blocks.reshape(quants.shape)
        else:
            words = self.values(f"{_WORDS}_int8") * self.values(f"{_WORDS}_scale")
        return words

    def linear(self, product: _Product) -> tuple[np.ndarray, np.ndarray]:
        """Return a product's weight, shape (n_outputs, n_inputs), and bias, (n_outputs,)."""
        weight = self.values(product.weights).astype(np.float32) * self.values(product.scales)
        bias = self.values(product.bias).copy()
        if f"{product.source}_channels" in self.constants:
            # the slices that a wide channel does not reach were taken off it
            channels = self.values(f"{product.source}_channels")
            scale = self.values(f"{product.source}_scale")
            zero_point = self.values(f"{product.source}_zero").astype(np.float32)
            shifts = self.values(f"{product.source}_shifts")
            rests = np.where(shifts > 0, -zero_point, _STEPS - zero_point) * scale
            bias += (rests @ weight[channels]).astype(np.float32)
        return np.ascontiguousarray(weight.T), bias + self._added(product)

    def _added(self, product: _Product) -> np.ndarray:
        """Return what the next operator adds to a product: fused operators hold a bias."""
        node = self.readers[product.output]
        if node.op_type == "BiasGelu":
            added: np.ndarray = self.values(node.input[1])
            return added
        if node.op_type == "MultiHeadAttention":
            place = list(node.input).index(product.output)
            bias = self.values(node.input[3])
            part: np.ndarray = np.split(bias, 3)[place]
            return part
        return np.zeros(product.n_outputs, dtype=np.float32)

    def head_size(self) -> int:
        """Return how many channels an attention head has."""
        for node in self.nodes:
            if node.op_type == "MultiHeadAttention":
                n_heads = next(a.i for a in node.attribute if a.name == "num_heads")
                return int(self.constants[node.input[3]].dims[0]) // 3 // int(n_heads)
        raise ModelError("the network has no fused attention, so its weights cannot be restored")

    def epsilon(self) -> float:
        """Return the layer norms' epsilon."""
        node = next(node for node in self.nodes if node.op_type == "LayerNormalization")
        return float(next(a.f for a in node.attribute if a.name == "epsilon"))


def _write(
    folder: Path, checkpoint: Checkpoint, scorer: OnnxScorer, settings: TransformerSettings
) -> None:
    from safetensors.numpy import save_file

    config = {**checkpoint.config, "pad_token_id": scorer.pad_token_id}
    tokenizer = scorer.tokenizer
    ends = {"cls_token": scorer.rule.head[0], "sep_token": scorer.rule.tail[-1]}
    named = {**ends, "pad_token": scorer.pad_token_id}
    special = {key: tokenizer.id_to_token(piece) for key, piece in named.items()}
    unknown = next(
        piece for piece in ("<unk>", "[UNK]") if tokenizer.token_to_id(piece) is not None
    )
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": checkpoint.config["max_position_embeddings"],
        "model_input_names": ["input_ids", "attention_mask"],
        **special,
        "bos_token": special["cls_token"],
        "eos_token": special["sep_token"],
        "unk_token": unknown,
    }
    save_file(checkpoint.tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(
        {name: np.ascontiguousarray(values) for name, values in checkpoint.head.items()},
        folder / HEAD,
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / SETTINGS).write_text(settings.model_dump_json(indent=1), encoding="utf-8")
