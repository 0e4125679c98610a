"""The model folder: manifest and weights, checked by sha256; nothing is unpickled."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

from relclass.calibration import Calibration
from relclass.codebook import Codebook
from relclass.config import NormalizeSettings
from relclass.errors import MissingExtraError, ModelError, did_you_mean
from relclass.models.base import Classifier, Scorer

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
KEYS = (
    "format_version", "kind", "name", "codebook", "normalize", "calibration", "thresholds",
    "card", "files",
)  # fmt: skip
SCORERS = {
    "lexicon": ("relclass.models.lexicon", "LexiconScorer"),
    "baseline": ("relclass.models.baseline", "BaselineScorer"),
    "transformer": ("relclass.models.transformer", "TransformerScorer"),
    "onnx": ("relclass.models.onnx", "OnnxScorer"),
    "ensemble": ("relclass.models.ensemble", "EnsembleScorer"),
    "cascade": ("relclass.models.cascade", "CascadeScorer"),
}
"""Where each kind of model lives; imported when one is loaded."""
DEFAULTS = ("default", "baseline", "lexicon")
"""What "default" means: the first of these that is shipped."""
SHIPPED_DIR = Path(__file__).parent.parent / "shipped"
_UNLISTED = ("README.md",)
"""Files that may lie in a model folder without being part of the model; dotfiles too."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def shipped_models() -> tuple[str, ...]:
    """Name the models inside the package, those inside others too, in alphabetical order."""
    return tuple(sorted(_shipped_dirs()))


def _shipped_dirs() -> dict[str, Path]:
    return {path.parent.name: path.parent for path in SHIPPED_DIR.rglob(MANIFEST)}


# --- save ---


def save_model(
    classifier: Classifier, model_dir: Path, *, card: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder: a new one beside it first, then renamed, so never half of one.

    Parameters
    ----------
    classifier : what `load_model` will return.
    model_dir : made with its parents; a model folder that is there already is replaced.
    card : data checksums, metrics, config and versions to keep beside the classifier's own;
        plain JSON values.

    Raises
    ------
    ModelError
        If `model_dir` is there and is not a model folder, or the card is not plain JSON.
    """
    model_dir = Path(model_dir)
    if model_dir.exists() and not (model_dir / MANIFEST).exists() and any(_entries(model_dir)):
        raise ModelError(
            f"{model_dir}: exists and is not a model folder: not replaced. Name another folder."
        )
    model_dir.parent.mkdir(parents=True, exist_ok=True)
    work_dir = Path(tempfile.mkdtemp(dir=model_dir.parent, prefix=f".{model_dir.name}-"))
    try:
        new_dir = work_dir / "new"
        new_dir.mkdir()
        classifier.scorer.save(new_dir)
        manifest = _make_manifest(classifier, new_dir, {**classifier.card, **(card or {})})
        (new_dir / MANIFEST).write_text(manifest, encoding="utf-8")
        _replace(model_dir, new_dir, work_dir / "old")
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


def _replace(model_dir: Path, new_dir: Path, old_dir: Path) -> None:
    if not model_dir.exists():
        new_dir.rename(model_dir)
        return
    model_dir.rename(old_dir)
    try:
        new_dir.rename(model_dir)
    except OSError:
        old_dir.rename(model_dir)
        raise


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else [path]


def _make_manifest(classifier: Classifier, new_dir: Path, card: Mapping[str, Any]) -> str:
    files = {
        path.relative_to(new_dir).as_posix(): {
            "sha256": _sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(new_dir.rglob("*"))
        if path.is_file()
    }
    content = {
        "format_version": FORMAT_VERSION,
        "kind": classifier.scorer.kind,
        "name": classifier.name,
        "codebook": classifier.codebook.model_dump(mode="json"),
        "normalize": classifier.normalize.model_dump(mode="json"),
        "calibration": classifier.calibration.to_dict(),
        "thresholds": dict(zip(classifier.topics, classifier.thresholds.tolist(), strict=True)),
        "card": card,
        "files": files,
    }
    try:
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ModelError(f"the model's card is not plain JSON: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- load ---


def load_model(model: str | Path = "default") -> Classifier:
    """Load a shipped model by name, or a model folder, after checking every file in it.

    Parameters
    ----------
    model : a shipped name such as "default", "baseline" or "lexicon", or a directory.

    Raises
    ------
    ModelError
        If there is no such model, or its folder is cut short, edited, of a newer format, of an
        unknown kind, a Git-LFS pointer, or needs hazm where hazm is missing; it says which.
    MissingExtraError
        If this kind of model needs an optional library that is not installed.
    """
    model_dir = find_model(model)
    manifest = _read_manifest(model_dir)
    _check_files(model_dir, manifest["files"])
    codebook, settings, calibration, thresholds = _read_settings(model_dir, manifest)
    module_name, class_name = SCORERS[manifest["kind"]]
    scorer_class = getattr(importlib.import_module(module_name), class_name)
    return Classifier(
        name=manifest["name"],
        codebook=codebook,
        scorer=cast(Scorer, scorer_class.load(model_dir, codebook)),
        normalize=settings,
        calibration=calibration,
        thresholds=thresholds,
        card=manifest["card"],
    )


def read_manifest(model: str | Path = "default") -> dict[str, Any]:
    """Read what a model folder says of itself, without loading or checking its weights.

    Parameters
    ----------
    model : as in `load_model`.

    Raises
    ------
    ModelError
        If there is no such model, or its manifest cannot be read.
    """
    return _read_manifest(find_model(model))


def manifest_sha256(model: str | Path) -> str:
    """Return the sha256 of a model's manifest, which holds those of all its files.

    Raises
    ------
    ModelError
        If there is no such model, or its manifest cannot be read.
    """
    model_dir = find_model(model)
    _read_manifest(model_dir)  # refuses what is no model folder
    return _sha256(model_dir / MANIFEST)


def find_model(model: str | Path = "default") -> Path:
    """Return the folder of a shipped model, by name, or a directory as it is.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    shipped = _shipped_dirs()
    if isinstance(model, str):
        name = next((n for n in DEFAULTS if n in shipped), model) if model == "default" else model
        if name in shipped:
            return shipped[name]
    if Path(model).is_dir():
        return Path(model)
    names = ", ".join(sorted(shipped)) or "none"
    hint = did_you_mean(str(model), ("default", *shipped))
    raise ModelError(
        f"model {str(model)!r}: no such directory, and not a shipped model{hint}. Shipped: {names}."
    )


def _read_manifest(model_dir: Path) -> dict[str, Any]:
    path = model_dir / MANIFEST
    if not path.is_file():
        raise ModelError(f"{model_dir}: no {MANIFEST}: not a model folder, or its copy was cut off")
    raw = path.read_bytes()
    _check_not_pointer(path, raw)
    try:
        manifest = json.loads(raw)
    except ValueError as error:
        raise ModelError(f"{path}: not JSON, so cut short or edited: {error}") from error
    if not isinstance(manifest, dict):
        raise ModelError(f"{path}: expected a mapping, got {type(manifest).__name__}")
    version = manifest.get("format_version")
    if type(version) is not int or version < 1:
        raise ModelError(f"{path}: format_version {version!r}: expected a whole number from 1")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{path}: format {version} is newer than this relclass reads ({FORMAT_VERSION}): "
            "upgrade relclass, by git pull in its checkout"
        )
    for key in KEYS:
        if key not in manifest:
            raise ModelError(f"{path}: key {key!r} is missing")
    for key in manifest:
        if key not in KEYS:
            raise ModelError(f"{path}: unknown key {key!r}{did_you_mean(key, KEYS)}")
    return manifest


def _check_not_pointer(path: Path, start: bytes) -> None:
    if start.startswith(_LFS_POINTER):
        raise ModelError(f"{path}: a Git-LFS pointer, not the file itself: run git lfs pull")


def _check_files(model_dir: Path, files: Any) -> None:
    if not isinstance(files, dict):
        raise ModelError(f"{model_dir / MANIFEST}: files: expected a mapping, got {files!r}")
    for name, expected in files.items():
        _check_name(model_dir, name)
        _check_file(model_dir / name, expected)
    for path in sorted(model_dir.rglob("*")):
        name = path.relative_to(model_dir).as_posix()
        is_known = name in files or name in (MANIFEST, *_UNLISTED) or path.name.startswith(".")
        if path.is_file() and not is_known:
            raise ModelError(f"{path}: not in the manifest, so not part of the model: remove it")


def _check_name(model_dir: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    is_plain = parts and not name.startswith("/") and ".." not in parts
    if not is_plain or "\\" in name or ":" in name or "\0" in name:
        raise ModelError(f"{model_dir / MANIFEST}: file {name!r} lies outside the model folder")


def _check_file(path: Path, expected: Any) -> None:
    is_plain = isinstance(expected, dict) and set(expected) == {"sha256", "bytes"}
    if not is_plain or type(expected["bytes"]) is not int:
        raise ModelError(f"{path}: the manifest gives {expected!r}: expected sha256 and bytes")
    if not path.is_file():
        raise ModelError(f"{path}: missing, though the manifest lists it: copy the folder again")
    with path.open("rb") as file:
        _check_not_pointer(path, file.read(len(_LFS_POINTER)))
    n_bytes = path.stat().st_size
    if n_bytes != expected["bytes"]:
        what = "cut short" if n_bytes < expected["bytes"] else "edited"
        raise ModelError(f"{path}: {what}: {n_bytes} bytes, expected {expected['bytes']}")
    if _sha256(path) != expected["sha256"]:
        raise ModelError(f"{path}: edited or damaged: its sha256 is not the manifest's")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what goes wrong while a scorer's JSON file is read into a `ModelError` that names it.

    Parameters
    ----------
    what : it should hold.
    """
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: missing, so the model folder is incomplete") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not {what}: {error!r}") from error


def _read_settings(
    model_dir: Path, manifest: dict[str, Any]
) -> tuple[Codebook, NormalizeSettings, Calibration, np.ndarray]:
    path = model_dir / MANIFEST
    kind = manifest["kind"]
    if not isinstance(kind, str) or kind not in SCORERS:
        raise ModelError(f"{path}: unknown kind {kind!r}{did_you_mean(str(kind), SCORERS)}")
    if not isinstance(manifest["name"], str) or not isinstance(manifest["card"], dict):
        raise ModelError(f"{path}: expected name to be text and card a mapping")
    try:
        codebook = Codebook.model_validate(manifest["codebook"])
        settings = NormalizeSettings.model_validate(manifest["normalize"])
        calibration = Calibration.from_dict(manifest["calibration"])
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise ModelError(f"{path}: {error.title}: {place}: {problem['msg']}") from error
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error
    if calibration.parameters and len(calibration.parameters) != len(codebook.names):
        raise ModelError(
            f"{path}: calibration of {len(calibration.parameters)} topics, "
            f"but the codebook has {len(codebook.names)}"
        )
    _check_hazm(model_dir, settings)
    return codebook, settings, calibration, _read_thresholds(path, manifest["thresholds"], codebook)


def _read_thresholds(path: Path, thresholds: Any, codebook: Codebook) -> np.ndarray:
    if not isinstance(thresholds, dict) or set(thresholds) != set(codebook.names):
        raise ModelError(
            f"{path}: thresholds {thresholds!r} do not match the topics {list(codebook.names)}"
        )
    for name, value in thresholds.items():
        if type(value) not in (int, float) or not 0 < value < 1:
            raise ModelError(f"{path}: threshold of {name!r} is {value!r}: expected in (0, 1)")
    return np.array([thresholds[name] for name in codebook.names], dtype=np.float64)


def _check_hazm(model_dir: Path, settings: NormalizeSettings) -> None:
    if settings.hazm and importlib.util.find_spec("hazm") is None:
        error = MissingExtraError("hazm", "persian")
        raise ModelError(f"{model_dir}: was trained on text spaced by hazm. {error}") from error
