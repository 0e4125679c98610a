"""Model name -> model on a device, and what tells it from another one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from relclass.errors import ConfigError, MissingExtraError
from relclass.models import store
from relclass.models.base import Classifier
from relclass.models.onnx import THREADS_VARIABLE, available_cores

__all__ = [
    "Device",
    "ModelReference",
    "available_cores",
    "choose_device",
    "load_classifier",
    "model_reference",
]


@dataclass(frozen=True)
class ModelReference:
    """Which model a job runs.

    Parameters
    ----------
    source : a shipped name or a model folder.
    name : as it stands in the predictions.
    kind : "lexicon", "baseline", "transformer" or "onnx".
    topics : in codebook order.
    sha256 : of the model folder's manifest, which holds those of its files.
    card : figures and provenance.
    """

    source: str
    name: str
    kind: str
    topics: tuple[str, ...]
    sha256: str
    card: Mapping[str, Any] = field(default_factory=dict)


Device = Literal["cpu", "cuda", "mps"]


def choose_device(device: str, kind: str) -> Device:
    """Settle where a model of this kind runs.

    Parameters
    ----------
    device : "auto", "cpu", "cuda" or "mps". "auto" takes a GPU for "transformer" alone: the int8
        operators of an "onnx" model have no CUDA kernels, so it is faster where it is asked for.
    kind : of the model, as its manifest says.

    Raises
    ------
    ConfigError
        If the device is not to be had for this kind of model; it says why.
    """
    if device == "cpu" or (device == "auto" and kind != "transformer"):
        return "cpu"
    there = _devices(kind)
    if device == "auto":
        return next(iter(there), "cpu")
    if device not in there:
        needs = {
            "transformer": "torch finds none",
            "onnx": "onnxruntime has no such provider; CUDA needs onnxruntime-gpu in its place",
        }.get(kind, f"a model of kind {kind!r} runs on the CPU alone")
        raise ConfigError(f"--device {device}: not to be had here: {needs}. Use --device auto.")
    return device


def load_classifier(model: str, *, device: Device, n_threads: int | None = None) -> Classifier:
    """Load a model onto a device.

    Parameters
    ----------
    model : a shipped name or a model folder.
    device : as `choose_device` gives it. On a GPU a network of torch computes in bfloat16.
    n_threads : that the network may use on the CPU; None leaves it to the model.
    """
    with _threads(n_threads):
        clf = store.load_model(model)
    scorer: Any = clf.scorer
    if scorer.kind == "transformer" and device != "cpu":
        import torch

        scorer.network.to(device, dtype=torch.bfloat16 if device == "cuda" else torch.float16)
    elif scorer.kind == "transformer" and n_threads is not None:
        import torch

        torch.set_num_threads(n_threads)
    elif scorer.kind == "onnx" and device == "cuda":
        for session in filter(None, (scorer.session, scorer.student)):
            session.set_providers(["CUDAExecutionProvider", "CPUExecutionProvider"])
    return clf


def model_reference(model: str) -> ModelReference:
    """Look a model up without loading its weights.

    Raises
    ------
    ModelError
        If there is no such model, or its manifest cannot be read.
    """
    manifest = store.read_manifest(model)
    content = json.dumps({key: manifest[key] for key in sorted(manifest)}, ensure_ascii=False)
    return ModelReference(
        source=model,
        name=manifest["name"],
        kind=manifest["kind"],
        topics=tuple(topic["name"] for topic in manifest["codebook"]["topics"]),
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        card=manifest["card"],
    )


def _devices(kind: str) -> list[Device]:
    """List the GPUs that a model of this kind can use here, the best first."""
    if kind == "transformer":
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("torch", "train") from error
        is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return [device for device in ("cuda", "mps") if is_there[device]]
    if kind == "onnx":
        import onnxruntime

        return ["cuda"] if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else []
    return []


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    """Give the ONNX models loaded meanwhile this many threads."""
    before = os.environ.get(THREADS_VARIABLE)
    if n_threads is not None:
        os.environ[THREADS_VARIABLE] = str(n_threads)
    try:
        yield
    finally:
        if n_threads is not None:
            del os.environ[THREADS_VARIABLE]
            os.environ.update({} if before is None else {THREADS_VARIABLE: before})
