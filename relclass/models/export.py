"""A fine-tuned transformer -> trimmed vocabulary -> ONNX -> int8: the model that ships."""

from __future__ import annotations

import copy
import io
import itertools
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relclass.calibration import sigmoid
from relclass.errors import MissingExtraError, ModelError
from relclass.models.onnx import (
    EMBEDDINGS,
    MODEL,
    OVERFLOW,
    SETTINGS,
    STUDENT,
    TOKENIZER,
    OnnxScorer,
)
from relclass.models.transformer import TransformerScorer
from relclass.models.vocabulary import (
    TrimmedVocabulary,
    count_pieces,
    rank_pieces,
    read_texts,
    trim_vocabulary,
)
from relclass.models.windows import Windows, pad

logger = logging.getLogger(__name__)

_OPSET = 17
_FUSED_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
_CALIBRATION_BATCH = 8
_TOLERANCE = 0.07  # of a probability, on texts not measured; the worst of many more is farther off
_NEAR = 1.2  # times what is left with every activation quantised twice
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)  # of the activations, to be quantised twice
_N_UNSEEN = 3  # passages for each measured one, to try the graphs on
N_CALIBRATION = 256
"""Passages that the activations' ranges are measured on."""


@dataclass(frozen=True)
class ExportSettings:
    """How a network is made small.

    Parameters
    ----------
    corpus : texts (.txt, .jsonl) whose pieces the vocabulary keeps; empty keeps all of it.
    max_pieces : keep at most so many pieces, the worthiest first; see `rank_pieces`.
    """

    corpus: tuple[Path, ...] = ()
    max_pieces: int | None = None


def export_scorer(
    scorer: TransformerScorer,
    topics: tuple[str, ...],
    out_dir: Path,
    settings: ExportSettings,
    *,
    texts: Sequence[str],
    student: TransformerScorer | None = None,
) -> None:
    """Write an int8 ONNX model's files.

    Parameters
    ----------
    out_dir : an existing folder; gets model.onnx, overflow.onnx, tokenizer.json and onnx.json, and
        with a student student.onnx and embeddings.onnx.
    texts : normalised passages, like those it will read: the activations are measured on some of
        them, and a trimmed vocabulary keeps their pieces.
    student : a smaller network of the same tokenizer and word embeddings, to read first.

    Raises
    ------
    ModelError
        If the vocabulary is of a kind that cannot be trimmed, there is no text to measure the
        activations on, or the student's embeddings or windows are others.
    MissingExtraError
        If onnx is not installed.
    """
    from relclass.models.quantization import overflow_probe, share_embeddings

    vocabulary = build_vocabulary(scorer, settings, texts)
    step = max(1, len(texts) // ((1 + _N_UNSEEN) * N_CALIBRATION))
    sample = _renumber(scorer.tokenize(texts[::step]), vocabulary).input_ids
    pad_token_id = _new_id(vocabulary, scorer.pad_token_id)
    batches = _unpadded_batches(sample[:: 1 + _N_UNSEEN])
    unseen = [ids for place, ids in enumerate(sample) if place % (1 + _N_UNSEEN)]
    trial = _make_batches(unseen, pad_token_id) or batches
    if not batches:
        raise ModelError("export needs texts to measure the activations on, got none")
    content = {
        "topics": list(topics),
        "prefix": scorer.settings.prefix,
        "max_length": scorer.rule.max_length,
        "head": [_new_id(vocabulary, token) for token in scorer.rule.head],
        "tail": [_new_id(vocabulary, token) for token in scorer.rule.tail],
        "pad_token_id": pad_token_id,
    }
    model, embeddings = _quantised(trim_network(scorer, vocabulary), batches, trial)
    files = {MODEL: model, OVERFLOW: overflow_probe()}
    if student is not None:
        if (student.rule, student.settings.prefix) != (scorer.rule, scorer.settings.prefix):
            raise ModelError("a student must read the same windows: model.max_length and prefix")
        small, _ = _quantised(trim_network(student, vocabulary), batches, trial)
        files |= {STUDENT: small, EMBEDDINGS: share_embeddings([model, small], embeddings)}
        lengths = [len(ids) for ids in sample]
        content["student_share"] = _cost(student, lengths) / _cost(scorer, lengths)
    for name, network in files.items():
        (out_dir / name).write_bytes(network.SerializeToString())
    (out_dir / TOKENIZER).write_text(vocabulary.tokenizer_json, encoding="utf-8")
    (out_dir / SETTINGS).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _cost(scorer: TransformerScorer, lengths: Sequence[int]) -> float:
    """Count the products of windows of so many tokens: a layer's weights, by what reaches it."""
    import torch

    from relclass.models.network import count_kept

    n_tokens = torch.tensor(lengths)
    cost, n_kept, settings = 0.0, n_tokens, scorer.settings
    for number, layer in enumerate(scorer.network.encoder.encoder.layer, start=1):
        cost += float(n_kept.sum()) * sum(p.numel() for p in layer.parameters() if p.ndim > 1)
        if number in settings.keep_tokens:
            share = settings.keep_tokens[number]
            n_kept = count_kept(n_tokens, share, at_least=settings.keep_at_least)
    return cost


def _quantised(
    network: Any,
    batches: Sequence[Mapping[str, np.ndarray]],
    trial: Sequence[Mapping[str, np.ndarray]],
) -> tuple[Any, str]:
    """Return a network as an int8 graph, and the name of its word embeddings.

    An activation quantised once is two thirds faster than one quantised twice, so as few as will do
    are quantised twice: the first, whose errors go through all the layers above. As few as keep 768
    other passages within 0.07, or nearly as near as all of them twice do. A network that drops
    tokens is tried with all of them: where two are worth the same, the least error lets the other
    one go on, and that is no measure of an error.

    Parameters
    ----------
    batches : to measure the activations on.
    trial : of other texts, to see how far an int8 graph is off.
    """
    from relclass.models.quantization import pack_embeddings, split_norms

    exact = _measured(network, batches)
    whole = _with_all_tokens(network)
    tried = exact if whole is network else _measured(whole, batches)
    model = exact.quantise(_count_twice(tried, trial))
    return pack_embeddings(split_norms(model), exact.embeddings), exact.embeddings


@dataclass(frozen=True)
class _Measured:
    """A float graph, and what has to be known of it to quantise it."""

    graph: Any
    embeddings: str
    activations: Mapping[str, Any]
    rounded: Mapping[str, Any]
    order: Sequence[str]

    def quantise(self, n_twice: int) -> Any:
        from relclass.models.quantization import quantize_products

        return quantize_products(
            self.graph, self.activations, twice=self.order[:n_twice], rounded=self.rounded
        )


def _measured(network: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> _Measured:
    from relclass.models.quantization import measure_activations, reading_order, round_products

    graph, embeddings = to_onnx(network, batches[0])
    activations = measure_activations(graph, batches)
    rounded = round_products(graph, activations)
    return _Measured(graph, embeddings, activations, rounded, reading_order(graph))


def _with_all_tokens(network: Any) -> Any:
    """Return a network that drops no tokens: itself if it drops none."""
    if not getattr(network, "keep_tokens", None):
        return network
    whole = copy.copy(network)  # the weights are shared
    whole.keep_tokens = {}
    return whole


def _count_twice(exact: _Measured, trial: Sequence[Mapping[str, np.ndarray]]) -> int:
    """Say how many activations, the first of the graph, are to be quantised twice."""
    from relclass.models.quantization import run_graph

    expected = sigmoid(run_graph(exact.graph, trial))
    n_all = len(exact.order)

    def measure(n_twice: int) -> float:
        given = sigmoid(run_graph(exact.quantise(n_twice), trial))
        difference = float(np.abs(given - expected).max())
        logger.info(
            "%d of %d activations quantised twice: off by at most %.3f", n_twice, n_all, difference
        )
        return difference

    # what rounding the weights costs stays with all of them twice, and no grid mends it
    allowed = max(_TOLERANCE, _NEAR * measure(n_all))
    counts = (round(share * n_all) for share in _SHARES)
    return next((n_twice for n_twice in counts if measure(n_twice) <= allowed), n_all)


def _new_id(vocabulary: TrimmedVocabulary, old: int) -> int:
    (places,) = np.nonzero(vocabulary.kept == old)
    if not len(places):
        raise ModelError(
            f"the trimmed vocabulary lacks the piece with id {old}, which the prefix, the padding "
            "or the ends of a passage need; make it with build_vocabulary, which keeps these"
        )
    return int(places[0])


def build_vocabulary(
    scorer: TransformerScorer, settings: ExportSettings, texts: Sequence[str] = ()
) -> TrimmedVocabulary:
    """Choose the pieces to keep, see `rank_pieces`; without a corpus, all."""
    backend = scorer.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    tokenizer_json = backend.to_str()
    if not settings.corpus:
        return TrimmedVocabulary(tokenizer_json, np.arange(len(scorer.tokenizer)))
    of_texts = count_pieces(backend, texts)
    of_corpus = count_pieces(backend, read_texts(settings.corpus))
    rank = rank_pieces(tokenizer_json, of_corpus, of_texts)
    # the prefix need not occur in a text
    rank[[*scorer.rule.head, *scorer.rule.tail, scorer.pad_token_id]] = np.inf
    return trim_vocabulary(tokenizer_json, rank, max_pieces=settings.max_pieces)


def trim_network(scorer: TransformerScorer, vocabulary: TrimmedVocabulary) -> Any:
    """Return a copy of the network, on the CPU, that has only the kept pieces' embeddings."""
    import torch
    from torch import nn

    embeddings = scorer.network.encoder.get_input_embeddings()
    rows = embeddings.weight.detach().cpu()[torch.from_numpy(vocabulary.kept)]
    # the whole matrix is most of the network: keep it out of the copy
    network = copy.deepcopy(scorer.network, {id(embeddings): nn.Embedding(1, 1)})
    network = network.cpu().float().eval()
    pad = _new_id(vocabulary, scorer.pad_token_id)
    network.encoder.set_input_embeddings(
        nn.Embedding.from_pretrained(rows.float(), padding_idx=pad)
    )
    inner: Any = getattr(network.encoder, "embeddings", None)
    if hasattr(inner, "padding_idx"):  # XLM-R counts positions by it
        inner.padding_idx = pad
    _trim_positions(inner, n_positions=scorer.rule.max_length + pad + 1)
    return network


def _trim_positions(embeddings: Any, *, n_positions: int) -> None:
    from torch import nn

    positions = getattr(embeddings, "position_embeddings", None)
    if positions is not None:  # windows never reach the rest
        rows = positions.weight.detach()[:n_positions]
        embeddings.position_embeddings = nn.Embedding.from_pretrained(rows)


def _renumber(windows: Windows, vocabulary: TrimmedVocabulary) -> Windows:
    # calibration texts may use a piece that was not kept: its nearest neighbour does as well
    last = len(vocabulary.kept) - 1
    ids = [
        np.minimum(np.searchsorted(vocabulary.kept, window), last).tolist()
        for window in windows.input_ids
    ]
    return replace(windows, input_ids=ids)


def _make_batches(windows: Sequence[list[int]], pad_token_id: int) -> list[dict[str, np.ndarray]]:
    ordered = sorted(windows, key=len)
    batches = []
    for start in range(0, len(ordered), _CALIBRATION_BATCH):
        input_ids, mask = pad(
            ordered[start : start + _CALIBRATION_BATCH], pad_token_id=pad_token_id
        )
        batches.append({"input_ids": input_ids, "attention_mask": mask})
    return batches


def _unpadded_batches(windows: Sequence[list[int]]) -> list[dict[str, np.ndarray]]:
    """Put windows of one length together, so that all that is measured is of tokens."""
    batches = []
    for _, alike in itertools.groupby(sorted(windows, key=len), key=len):
        batches.extend(_make_batches(list(alike), pad_token_id=0))
    return batches


def to_onnx(network: Any, example: Mapping[str, np.ndarray]) -> tuple[Any, str]:
    """Export a network to a float ONNX graph, its operators fused where that is known to hold.

    Returns
    -------
    The model, and the name of its word embeddings.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "train") from error
    import torch

    network.encoder.set_attn_implementation("eager")  # the form that the fusion knows
    inputs = tuple(torch.from_numpy(example[name]) for name in ("input_ids", "attention_mask"))
    batch_axes = {0: "batch", 1: "seq_len"}
    buffer = io.BytesIO()
    with torch.inference_mode():
        # the older exporter: its graphs are the ones that onnxruntime's BERT fusions match
        torch.onnx.export(
            _for_export(network),
            inputs,
            buffer,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={
                "input_ids": batch_axes,
                "attention_mask": batch_axes,
                "logits": {0: "batch"},
            },
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    config = network.encoder.config
    if config.model_type in _FUSED_TYPES:
        model = _fuse(model, n_heads=config.num_attention_heads, hidden=config.hidden_size)
    return model, _embeddings_name(model, network)


def _for_export(network: Any) -> Any:
    """Return a module of two arguments: the exporter would make an input of a flag too."""
    from torch import nn

    class ForExport(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return network(input_ids, attention_mask)

    return ForExport().eval()


def _fuse(model: Any, *, n_heads: int, hidden: int) -> Any:
    import onnx
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.use_multi_head_attention = True  # products by weights stay outside, to go to int8
    options.enable_embed_layer_norm = False  # it would swallow the embeddings, which go to 4 bits
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, str(path))
        fused = optimize_model(
            str(path),
            model_type="bert",
            num_heads=n_heads,
            hidden_size=hidden,
            optimization_options=options,
            opt_level=0,
        )
    _count_heads(fused.model, head_size=hidden // n_heads)
    return fused.model


def _count_heads(model: Any, *, head_size: int) -> None:
    """Tell each attention how many heads it has: the fusion knows one number for all layers."""
    from onnx import helper

    n_rows = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    n_read = {
        node.input[0]: n_rows[node.input[1]]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in n_rows
    }
    for node in model.graph.node:
        if node.op_type == "MultiHeadAttention":
            kept = [attribute for attribute in node.attribute if attribute.name != "num_heads"]
            n_heads = helper.make_attribute("num_heads", n_read[node.output[0]] // head_size)
            del node.attribute[:]
            node.attribute.extend([*kept, n_heads])


def _embeddings_name(model: Any, network: Any) -> str:
    shape = list(network.encoder.get_input_embeddings().weight.shape)
    gathered = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    for tensor in model.graph.initializer:
        if list(tensor.dims) == shape and tensor.name in gathered:
            return str(tensor.name)
    raise ModelError(f"the exported graph holds no embeddings of shape {shape}")


def export_classifier(
    model_dir: Path,
    out_dir: Path,
    settings: ExportSettings,
    *,
    texts: Sequence[str] | None = None,
) -> dict[str, int]:
    """Export a model folder of the kind transformer to one of the kind onnx.

    Calibration and thresholds are taken over as they are.

    Parameters
    ----------
    texts : normalised passages to measure ranges on; None takes them from the corpus.

    Returns
    -------
    The new folder's files and their sizes in bytes.

    Raises
    ------
    ModelError
        If the model is of another kind, or there is no text to measure on.
    """
    from relclass.models.store import load_model, save_model

    classifier = load_model(model_dir)
    if not isinstance(classifier.scorer, TransformerScorer):
        raise ModelError(
            f"{model_dir}: kind {classifier.scorer.kind!r}; only a transformer can be exported"
        )
    if texts is None:
        texts = _sample(settings.corpus)
    with tempfile.TemporaryDirectory() as folder:
        export_scorer(classifier.scorer, classifier.topics, Path(folder), settings, texts=texts)
        scorer = OnnxScorer.load(Path(folder), classifier.codebook)
        save_model(replace(classifier, scorer=scorer), out_dir)
    return {path.name: path.stat().st_size for path in sorted(out_dir.iterdir())}


def _sample(corpus: tuple[Path, ...]) -> list[str]:
    # far more than are measured on, so that every file has its part in the choice
    texts = [text for text in read_texts(corpus) if text.strip()]
    return texts[:: max(1, len(texts) // (10 * N_CALIBRATION))]
