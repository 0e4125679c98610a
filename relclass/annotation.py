"""Labelled passages <-> the files of annotation tools: Label Studio and doccano.

What a tool does not know (article, language, origin, ...) travels with each task and comes back
with it. A task that nobody annotated is left out and warned of: it is no passage without topics.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from relclass.codebook import Codebook
from relclass.errors import DataError
from relclass.labelled import (
    SUFFIXES,
    passage_from_dict,
    passage_to_dict,
    read_json_lines,
    read_labelled,
    write_labelled,
)
from relclass.records import LabelledPassage

logger = logging.getLogger(__name__)

Format = Literal["labelled", "label-studio", "doccano"]
FORMATS: tuple[Format, ...] = ("labelled", "label-studio", "doccano")
_CHOICES = "topics"
_FIELDS = tuple(LabelledPassage.__dataclass_fields__)


def label_studio_config(codebook: Codebook) -> str:
    """Return the labelling interface to paste into a Label Studio project."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(topic.name)} hint={quoteattr(topic.definition)}/>"
        for topic in codebook.topics
    )
    return (
        "<View>\n"
        '  <Text name="text" value="$text"/>\n'
        f'  <Choices name="{_CHOICES}" toName="text" choice="multiple" required="false">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def write_label_studio(
    passages: Iterable[LabelledPassage], path: str | Path, *, as_predictions: bool = False
) -> None:
    """Write passages as a Label Studio task list (JSON).

    Parameters
    ----------
    as_predictions : give the topics as suggestions to confirm, not as annotations made.
    """
    tasks = []
    for passage in passages:
        row = passage_to_dict(passage)
        topics = row.pop("topics")
        choice = {
            "from_name": _CHOICES,
            "to_name": "text",
            "type": "choices",
            "value": {"choices": topics},
        }
        made = [{"result": [choice] if topics else []}]
        data = {key: value for key, value in row.items() if value not in (None, [])}
        tasks.append({"data": data, "predictions" if as_predictions else "annotations": made})
    _write_json(path, tasks)


def read_label_studio(path: str | Path, codebook: Codebook) -> dict[str, list[LabelledPassage]]:
    """Read a Label Studio export (JSON or JSON-MIN).

    Returns
    -------
    Annotator to the passages that they labelled; one entry where the export names nobody.
    Cancelled annotations and tasks without any are left out and counted in a warning.

    Raises
    ------
    DataError
        If the file is not such an export, or a task lacks a text or has an unknown topic; it
        names the task by its position.
    """
    path = Path(path)
    tasks = _read_json(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: expected a list of tasks, got {type(tasks).__name__}")
    found: dict[str, list[LabelledPassage]] = defaultdict(list)
    n_skipped = 0
    for position, task in enumerate(tasks):
        where = f"{path}: task {position + 1}"
        if not isinstance(task, dict):
            raise DataError(f"{where}: expected an object, got {type(task).__name__}")
        n_before = sum(map(len, found.values()))
        for annotator, row in _label_studio_rows(task, where):
            row.setdefault("passage_id", f"{path.stem}/{task.get('id', position + 1)}")
            found[annotator].append(passage_from_dict(row, codebook, where=where))
        n_skipped += sum(map(len, found.values())) == n_before
    _warn_of_skipped(path, n_skipped)
    return dict(found)


def write_doccano(passages: Iterable[LabelledPassage], path: str | Path) -> None:
    """Write passages as doccano's JSON lines: "text", "label", the rest as metadata."""
    with Path(path).open("w", encoding="utf-8") as file:
        for passage in passages:
            row = passage_to_dict(passage)
            given = {k: v for k, v in row.items() if k != "topics" and v not in (None, [])}
            file.write(json.dumps(given | {"label": row["topics"]}, ensure_ascii=False) + "\n")


def read_doccano(path: str | Path, codebook: Codebook) -> list[LabelledPassage]:
    """Read a doccano export (JSON lines).

    doccano writes an empty list both for a passage without topics and for one that nobody
    opened: export confirmed passages only. A record without "label" is left out and warned of.

    Raises
    ------
    DataError
        If a line cannot be read, lacks "text" or has an unknown topic.
    """
    path = Path(path)
    passages = []
    n_skipped = 0
    for position, (place, record) in enumerate(read_json_lines(path), start=1):
        label = record.get("label", record.get("labels"))
        if label is None:
            n_skipped += 1
            continue
        row = {key: record[key] for key in _FIELDS if key in record} | {"topics": label}
        row.setdefault("passage_id", f"{path.stem}/{record.get('id', position)}")
        passages.append(passage_from_dict(row, codebook, where=place))
    _warn_of_skipped(path, n_skipped)
    return passages


def read_annotations(
    path: str | Path, codebook: Codebook, *, format: Format = "labelled"
) -> dict[str, list[LabelledPassage]]:
    """Read the labels of one or more annotators from a file of any known format.

    Returns
    -------
    Annotator to passages; the file's stem where it names nobody.

    Raises
    ------
    DataError
        If the file cannot be read as that format.
    """
    path = Path(path)
    if format == "label-studio":
        found = read_label_studio(path, codebook)
        return {name or path.stem: passages for name, passages in found.items()}
    read = read_doccano if format == "doccano" else read_labelled
    return {path.stem: read(path, codebook)}


def write_annotations(
    passages: Iterable[LabelledPassage], path: str | Path, *, format: Format = "labelled"
) -> None:
    """Write passages in any known format."""
    writers = {
        "labelled": write_labelled, "label-studio": write_label_studio, "doccano": write_doccano,
    }  # fmt: skip
    writers[format](passages, path)


def guess_format(path: str | Path) -> Format:
    """Tell the format of a file: .json is Label Studio's, a JSON line with "label" doccano's.

    Raises
    ------
    DataError
        If the suffix is none of those known.
    """
    path = Path(path)
    if path.suffix == ".json":
        return "label-studio"
    if not path.is_dir() and path.suffix not in SUFFIXES:
        raise DataError(f"{path}: expected a .json, {' or '.join(SUFFIXES)} file")
    if path.suffix == ".jsonl" and path.exists():
        first = next(read_json_lines(path), ("", {}))[1]
        if {"label", "labels"} & first.keys():
            return "doccano"
    return "labelled"


def _label_studio_rows(task: Mapping[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if "data" not in task:  # JSON-MIN: one flat object an annotation
        row = {key: task[key] for key in _FIELDS if key in task}
        choices = task.get(_CHOICES)
        if isinstance(choices, dict):
            choices = choices.get("choices")
        yield _annotator(task.get("annotator")), row | {"topics": choices or []}
        return
    data = task["data"]
    if not isinstance(data, dict):
        raise DataError(f"{where}: 'data' must be an object, got {type(data).__name__}")
    base = {key: data[key] for key in _FIELDS if key in data}
    for annotation in task.get("annotations") or []:
        try:
            if annotation.get("was_cancelled"):
                continue
            topics: list[str] = []
            for result in annotation.get("result") or []:
                if result["type"] == "choices":
                    topics += result["value"]["choices"]
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{where}: not an annotation: {annotation!r:.80}") from error
        yield _annotator(annotation.get("completed_by")), base | {"topics": topics}


def _annotator(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    return "" if value is None else str(value)


def _warn_of_skipped(path: Path, n_skipped: int) -> None:
    if n_skipped:
        logger.warning("%s: %d tasks have no annotation and are left out", path, n_skipped)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not JSON, the file may have been cut: {error.msg}"
        ) from error


def _write_json(path: str | Path, content: object) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")
