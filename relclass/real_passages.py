"""Labels of real passages without their texts, and the texts found again by their hash.

The texts belong to their publishers. What is kept is who can have them: the SHA-1 of the text
and, where known, the public repository, path and paragraph it was read from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relclass.codebook import Codebook
from relclass.errors import DataError, did_you_mean
from relclass.labelled import LANGUAGES, read_json_lines
from relclass.records import LabelledPassage
from relclass.split_file import text_hash

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = (".jsonl", ".txt", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class RealLabel:
    """The topics of a passage of the press, without its text.

    Parameters
    ----------
    id : first 12 hexadecimal digits of the SHA-1 of the text.
    lang : language code.
    repo, path : public repository, and the file in it, that the text was read from.
    doc, para : the article there, and the paragraph in it.
    topics : in codebook order.
    unsure : topics, given or not, on which a second reader might differ.
    """

    id: str
    lang: str
    repo: str | None
    path: str | None
    doc: str | None
    para: int | None
    topics: tuple[str, ...]
    unsure: tuple[str, ...] = ()

    @property
    def article_id(self) -> str:
        """The article's locator, or the passage's own id where none is known."""
        return f"{self.repo}#{self.doc}" if self.doc else self.id


def read_real_labels(path: str | Path, codebook: Codebook) -> list[RealLabel]:
    """Read labels of real passages from JSON lines.

    Raises
    ------
    DataError
        If a line cannot be read, lacks a field or holds an unknown one, an id is not a hash or
        comes twice, or a topic is not in the codebook.
    """
    known = tuple(RealLabel.__dataclass_fields__)
    labels: dict[str, RealLabel] = {}
    for place, record in read_json_lines(Path(path)):
        for key in record:
            if key not in known:
                raise DataError(f"{place}: unknown field {key!r}{did_you_mean(key, known)}")
        for key in ("id", "lang", "topics"):
            if key not in record:
                raise DataError(f"{place}: the field {key!r} is missing")
        label = _label(record, codebook, place)
        if label.id in labels:
            raise DataError(f"{place}: passage {label.id!r} has a label already")
        labels[label.id] = label
    return list(labels.values())


def write_real_labels(labels: Iterable[RealLabel], path: str | Path) -> None:
    """Write labels of real passages as JSON lines."""
    with Path(path).open("w", encoding="utf-8") as file:
        for label in labels:
            file.write(json.dumps(asdict(label), ensure_ascii=False) + "\n")


def find_texts(
    paths: Iterable[str | Path], wanted: Collection[str]
) -> dict[str, tuple[str, str | None]]:
    """Find texts by their hash.

    Parameters
    ----------
    paths : JSON lines with "text" (and "title"), plain text with a passage a line, CSV or
        Parquet with a column "text".
    wanted : hashes as `text_hash` makes them.

    Returns
    -------
    Hash to (text, title or None), of those found.

    Raises
    ------
    DataError
        If a file cannot be read or has no texts where expected.
    """
    found: dict[str, tuple[str, str | None]] = {}
    missing = set(wanted)
    for path in paths:
        for text, title in _texts(Path(path)):
            digest = text_hash(text)
            if digest in missing:
                found[digest] = (text, title or None)
                missing.discard(digest)
        if not missing:
            break
    return found


def read_real(
    labels_path: str | Path, text_paths: Sequence[str | Path], codebook: Codebook
) -> tuple[list[LabelledPassage], int]:
    """Read labels of real passages and join them with their texts.

    Parameters
    ----------
    labels_path : the labels, as `read_real_labels` takes them.
    text_paths : where to look for the texts, as `find_texts` takes them.

    Returns
    -------
    The passages whose texts were found, in the order of their labels, and the number of those
    that were not; a warning tells of them too.
    """
    return join_texts(read_real_labels(labels_path, codebook), text_paths)


def join_texts(
    labels: Sequence[RealLabel], text_paths: Sequence[str | Path]
) -> tuple[list[LabelledPassage], int]:
    """Join labels with their texts, as `read_real` does."""
    texts = find_texts(text_paths, {label.id for label in labels})
    n_missing = len(labels) - len(texts)
    if n_missing:
        logger.warning(
            "the texts of %d of %d real passages were not found in %s; they are left out",
            n_missing,
            len(labels),
            ", ".join(map(str, text_paths)) or "any file (data.real_texts is empty)",
        )
    passages = [
        LabelledPassage(
            passage_id=label.id,
            article_id=label.article_id,
            text=texts[label.id][0],
            language=label.lang,
            topics=label.topics,
            origin="real",
            unsure=label.unsure,
            title=texts[label.id][1],
            source=label.repo,
        )
        for label in labels
        if label.id in texts
    ]
    return passages, n_missing


def _label(record: dict[str, Any], codebook: Codebook, place: str) -> RealLabel:
    identity, language = record["id"], record["lang"]
    if (
        not isinstance(identity, str)
        or len(identity) != 12
        or set(identity) - set("0123456789abcdef")
    ):
        raise DataError(
            f"{place}: expected an id of 12 hexadecimal digits (of the text's SHA-1), "
            f"got {identity!r}"
        )
    if language not in LANGUAGES:
        raise DataError(f"{place}: lang must be one of {', '.join(LANGUAGES)}, got {language!r}")
    topics = {name: record.get(name) or [] for name in ("topics", "unsure")}
    for name, value in topics.items():
        if not isinstance(value, list):
            raise DataError(f"{place}: {name!r} must be a list, got {value!r}")
    return RealLabel(
        id=identity,
        lang=language,
        repo=record.get("repo"),
        path=record.get("path"),
        doc=record.get("doc"),
        para=record.get("para"),
        topics=codebook.check(topics["topics"], where=place),
        unsure=codebook.check(topics["unsure"], where=place),
    )


def _texts(path: Path) -> Iterator[tuple[str, str | None]]:
    if path.suffix not in TEXT_SUFFIXES:
        raise DataError(f"{path}: texts are looked up in {', '.join(TEXT_SUFFIXES)} files")
    if not path.is_file():
        raise DataError(
            f"{path}: cannot look up texts, there is no such file: rebuild it (relclass data "
            "hydrate; data/README.md says how), or train without real passages: "
            "data.real_labels=null thresholds.origin=all"
        )
    if path.suffix == ".txt":
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                yield line.rstrip("\n"), None
    elif path.suffix == ".jsonl":
        for place, record in read_json_lines(path):
            if not isinstance(record.get("text"), str):
                raise DataError(f"{place}: expected a field 'text', got {', '.join(record)}")
            yield record["text"], record.get("title")
    else:
        yield from _column(path)


def _column(path: Path) -> Iterator[tuple[str, str | None]]:
    import pyarrow as pa

    try:
        if path.suffix == ".csv":
            from pyarrow import csv

            table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))
        else:
            from pyarrow import parquet

            table = parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot read the table: {error}") from error
    if "text" not in table.column_names:
        raise DataError(f"{path}: no column 'text'; got {', '.join(table.column_names)}")
    texts = table.column("text").to_pylist()
    titles = table.column("title").to_pylist() if "title" in table.column_names else [None]
    for position, text in enumerate(texts):
        if isinstance(text, str):
            yield text, titles[position] if len(titles) == len(texts) else None
