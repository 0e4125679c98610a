"""Arrays and text in a safetensors file: the same bytes for the same content, quick to open.

Not skops: opening such a file imports scikit-learn and whatever it finds beside it, torch too,
which takes longer than labelling a hundred passages.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from relclass.errors import ModelError

_TEXT = "text:"


def write_arrays(path: Path, content: Mapping[str, np.ndarray | str]) -> None:
    """Write a mapping of names to arrays and texts."""
    from safetensors.numpy import save_file

    tensors = {}
    for name, value in sorted(content.items()):
        if isinstance(value, str):
            tensors[_TEXT + name] = np.frombuffer(value.encode("utf-8"), dtype=np.uint8)
        else:
            tensors[name] = np.ascontiguousarray(value)
    save_file(tensors, path)


def read_arrays(path: Path) -> dict[str, np.ndarray | str]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    ModelError
        If the file is missing or is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ModelError(f"{path}: missing, so the model folder is incomplete")
    content: dict[str, np.ndarray | str] = {}
    try:
        for name, array in load_file(path).items():
            is_text = name.startswith(_TEXT)
            value = array.tobytes().decode("utf-8") if is_text else array
            content[name.removeprefix(_TEXT)] = value
    except (SafetensorError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file of ours: {error}") from error
    return content
