"""Model name -> model on a device, and what tells it from another one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from relclass.models.base import Classifier
from relclass.models import store


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


def available_cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(device: str, kind: str) -> Device:
    return "cpu"


def load_classifier(model: str, *, device: str, n_threads: int | None = None) -> Classifier:
    """Load a model onto a device.

    Parameters
    ----------
    model : a shipped name or a model folder.
    device : "cpu", "cuda" or "mps".
    n_threads : that it may use; None leaves it to the model.
    """
    return store.load_model(model)


def model_reference(model: str) -> ModelReference:
    """Look a model up without loading its weights.

    Raises
    ------
    ModelError
        If there is no such model, or its manifest cannot be read.
    """
    manifest = store._read_manifest(store._find(model))
    content = json.dumps({key: manifest[key] for key in sorted(manifest)}, ensure_ascii=False)
    return ModelReference(
        source=model,
        name=manifest["name"],
        kind=manifest["kind"],
        topics=tuple(topic["name"] for topic in manifest["codebook"]["topics"]),
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        card=manifest["card"],
    )
