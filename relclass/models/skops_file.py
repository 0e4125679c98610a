"""Arrays and text in a skops file, the same bytes for the same content."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relclass.errors import ModelError

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_skops(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping of arrays, text and numbers.

    skops names what it stores by memory address and stamps the hour on it, so two runs of the
    same config would differ; both are replaced.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(dict(content)))) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        arrays = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    names: dict[str, str] = {}
    schema = _renumber(schema, {}, names)
    entries = {_SCHEMA: json.dumps(schema, ensure_ascii=False).encode()}
    entries |= {new: arrays[old] for old, new in names.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data, compresslevel=9)


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str]) -> Any:
    """Replace memory addresses by 1, 2, ... and file names after them, in order of coming."""
    if isinstance(node, list):
        return [_renumber(item, ids, names) for item in node]
    if not isinstance(node, dict):
        return node
    renumbered: dict[str, Any] = {}
    for key, value in node.items():
        if key == "__id__":
            renumbered[key] = ids.setdefault(value, len(ids) + 1)
        elif key == "file" and isinstance(value, str):
            suffix = Path(value).suffix
            renumbered[key] = names.setdefault(value, f"{len(names) + 1}{suffix}")
        else:
            renumbered[key] = _renumber(value, ids, names)
    return renumbered


def read_skops(path: Path, *, trusted: Sequence[str]) -> Any:
    """Read a skops file that holds no other type than the trusted ones.

    Parameters
    ----------
    trusted : qualified type names beyond skops' own arrays, text, numbers and containers.

    Raises
    ------
    ModelError
        If the file is missing, is no skops file, or holds another type.
    """
    import skops.io

    if not path.is_file():
        raise ModelError(f"{path}: missing, so the model folder is incomplete")
    try:
        untrusted = set(skops.io.get_untrusted_types(file=path)) - set(trusted)
        if untrusted:
            raise ModelError(
                f"{path}: holds types that are not trusted: {', '.join(sorted(untrusted))}. "
                "It was not written by relclass; it is not opened."
            )
        return skops.io.load(path, trusted=list(trusted))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path}: not a skops file: {error}") from error
