"""The folder of one training run: what was asked for, with what, and what came of it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from relclass.config import TrainConfig
from relclass.errors import ConfigError

CONFIG, RUN, METRICS = "config.yaml", "run.json", "metrics.json"
MODEL, CHECKPOINTS = "model", "checkpoints"
_PACKAGES = (
    "relclass", "numpy", "scikit-learn", "torch", "transformers", "tokenizers", "datasets",
    "accelerate", "peft", "onnxruntime", "hazm",
)  # fmt: skip


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; nothing here belongs to the published config.

    Parameters
    ----------
    device : "auto", "cpu" or "cuda".
    resume : go on from the last complete checkpoint in the run folder.
    checkpoint_steps : evaluate and save every so many steps; None does so after each epoch.
    max_steps : stop after so many steps (a smoke run); None runs the config's epochs.
    use_tensorboard : log to the run folder's `checkpoints/runs`.
    """

    device: str = "auto"
    resume: bool = True
    checkpoint_steps: int | None = None
    max_steps: int | None = None
    use_tensorboard: bool = False


DEFAULT_OPTIONS = RunOptions()


def is_main_process() -> bool:
    """Say whether this process writes the run's files: the first, of several GPUs' processes."""
    return os.environ.get("RANK", "0") == "0"


def open_run(config: TrainConfig, run_dir: Path, *, resume: bool) -> None:
    """Make the run folder, or take up one that an equal config began.

    Raises
    ------
    ConfigError
        If the folder holds a run of another config, or a run and `resume` is false.
    """
    path = run_dir / CONFIG
    if path.exists():
        if not resume:
            raise ConfigError(f"{run_dir} holds a run already; give another folder, or resume it")
        begun = yaml.safe_load(path.read_text(encoding="utf-8"))
        with suppress(ValidationError):  # a key of today that the run did not know is its default
            begun = resolved(TrainConfig.model_validate(begun))
        differences = sorted(_differences(begun, resolved(config)))
        if differences:
            raise ConfigError(
                f"{run_dir} holds a run of another config (it differs in "
                f"{', '.join(differences[:5])}); give another folder"
            )
        return
    if is_main_process():
        run_dir.mkdir(parents=True, exist_ok=True)
        content = yaml.safe_dump(resolved(config), allow_unicode=True, sort_keys=False)
        write_text(path, content)


def resolved(config: TrainConfig) -> dict[str, Any]:
    """Return the config with every default filled in, as plain values."""
    content: dict[str, Any] = config.model_dump(mode="json")
    return content


def _differences(one: Any, other: Any, at: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {*one, *other}
        return [
            place
            for key in keys
            for place in _differences(one.get(key), other.get(key), f"{at}.{key}" if at else key)
        ]
    return [] if one == other else [at]


def is_finished(run_dir: Path, record: Mapping[str, Any]) -> bool:
    """Say whether the folder holds a finished run on the same data, as long as this one."""
    try:
        before = json.loads((run_dir / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(before.get(key) == record[key] for key in ("seed", "data", "max_steps"))


def drop_checkpoints(run_dir: Path) -> None:
    """Delete a finished run's checkpoints: several times the model's size, and no longer needed."""
    for folder in (run_dir / CHECKPOINTS).glob("checkpoint-*"):
        shutil.rmtree(folder, ignore_errors=True)
    for path in (run_dir / CHECKPOINTS).glob("*.safetensors"):  # states of a teacher
        path.unlink()


def provenance(
    config: TrainConfig, checksum: Mapping[str, str], options: RunOptions
) -> dict[str, Any]:
    """Say what made a run: seed, versions, git commit, data checksums, machine."""
    return {
        "name": config.name,
        "seed": config.seed,
        "versions": {"python": platform.python_version()} | _versions(),
        "git_commit": git_commit(),
        "data": dict(checksum),
        "device": options.device,
        "max_steps": options.max_steps,
        "platform": platform.platform(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the source tree, "-dirty" added if it was changed; None outside git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        is_dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", "."))
        return git("rev-parse", "HEAD") + ("-dirty" if is_dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one move; what is not a number becomes null."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file in one move, so that a reader never sees half of it."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


def plain(value: Any) -> Any:
    """Return plain JSON values: what is not a number becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if value == value else None
    return value
