"""Labels without texts + public repositories fetched to a folder -> the texts, by their hash.

A real passage was cut from its article as a run of whole sentences, white space folded. So
every run of sentences of every string in the given files is hashed and looked up. What was cut
otherwise, or has changed at its source, is not found, and is counted.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relclass.errors import DataError
from relclass.real_passages import RealLabel
from relclass.split_file import text_hash

logger = logging.getLogger(__name__)

MAX_WORDS = 260
"""No real passage is longer; runs of sentences are tried up to here."""
MAX_FILE_BYTES = 512 * 2**20
NO_REPOSITORY = "(no repository known)"
_BINARY = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".mp4", ".mp3", ".woff", ".woff2",
           ".ico", ".onnx", ".bin", ".pt", ".safetensors", ".rar", ".7z", ".gz", ".xz"}  # fmt: skip
_ZIPPED = {".zip", ".xlsx", ".docx"}
_MARKED_UP = {".html", ".htm", ".xml", ".php", ".md"}
_UNREADABLE = (
    OSError, ValueError, csv.Error, zipfile.BadZipFile, zlib.error, EOFError,
    RuntimeError,  # an archive with a password; JSON nested too deeply
)  # fmt: skip
_LINE_END = re.compile(r"\r\n?|\n")  # a JSON string may hold all else that ends a line
_SEGMENT_END = re.compile(r"(?<=[.!?؟۔…])[\"'»”’)\]]*\s+|\n+")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_TAG = re.compile(r"<[^<>]{1,2000}>")


@dataclass(frozen=True)
class Hydration:
    """What was found again.

    Parameters
    ----------
    texts : hash to text.
    wanted, found : repository to number of passages.
    unread : files that could not be read, and why.
    """

    texts: dict[str, str]
    wanted: dict[str, int]
    found: dict[str, int]
    unread: tuple[str, ...] = field(default=())


def hydrate(
    labels: Sequence[RealLabel], places: Iterable[str | Path], *, named_files_only: bool = False
) -> Hydration:
    """Look for the texts of labels in local files.

    Parameters
    ----------
    places : files, or folders to walk: JSON, JSON lines, CSV, TSV, Parquet, plain text, HTML,
        Markdown, spreadsheets, and all these within zip archives. Files of passages that were
        kept earlier serve as well.
    named_files_only : of a folder, read only files that a label names, as
        folder/owner/name/path or folder/name/path; much faster on whole repositories.

    Raises
    ------
    DataError
        If a place does not exist.
    """
    missing = {label.id for label in labels}
    texts: dict[str, str] = {}
    unread: list[str] = []
    for place in places:
        for file in _files(Path(place), labels if named_files_only else None):
            if not missing:
                break
            try:
                for text in read_strings(file):
                    for candidate in _candidates(text, missing):
                        texts[text_hash(candidate)] = candidate
                        missing.discard(text_hash(candidate))
            except _UNREADABLE as error:
                unread.append(f"{file}: {error}")
    for problem in unread:
        logger.warning("not read: %s", problem)
    wanted = Counter(label.repo or NO_REPOSITORY for label in labels)
    found = Counter(label.repo or NO_REPOSITORY for label in labels if label.id in texts)
    return Hydration(
        texts=texts,
        wanted=dict(wanted.most_common()),
        found={repository: found[repository] for repository in wanted},
        unread=tuple(unread),
    )


def write_texts(hydration: Hydration, labels: Sequence[RealLabel], path: str | Path) -> None:
    """Write the texts found as JSON lines that `DataSettings.real_texts` takes."""
    with Path(path).open("w", encoding="utf-8") as file:
        for label in labels:
            if label.id in hydration.texts:
                row = {"id": label.id, "lang": label.lang, "text": hydration.texts[label.id]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_strings(path: Path) -> Iterator[str]:
    """Yield every piece of text in a file, whatever its layout.

    Raises
    ------
    ValueError
        If the file is larger than `MAX_FILE_BYTES`, or is not what its suffix says.
    OSError
        If it cannot be read.
    csv.Error, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError
        If it is damaged, encrypted or nested too deeply.
    """
    suffix = path.suffix.lower()
    if suffix in _BINARY:
        return
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    if suffix == ".parquet":
        yield from _parquet_strings(path)
    elif suffix in _ZIPPED:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                inner = Path(member.filename).suffix.lower()
                if not member.is_dir() and inner not in _BINARY | _ZIPPED:
                    if member.file_size > MAX_FILE_BYTES:
                        raise ValueError(f"{member.filename} is too large")
                    yield from _strings(archive.read(member), inner)
    else:
        yield from _strings(path.read_bytes(), suffix)


def _files(place: Path, labels: Sequence[RealLabel] | None) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder; fetch the repositories there first")
    if labels is None:
        return sorted(f for f in place.rglob("*") if f.is_file() and ".git" not in f.parts)
    named: dict[Path, None] = {}
    for label in labels:
        if label.repo and label.path:
            file = label.path.split(":", 1)[0]  # "archive.zip:member"
            for repository in (label.repo, label.repo.split("/")[-1]):
                named[place / repository / file] = None
    return [file for file in named if file.is_file()]


def _strings(content: bytes, suffix: str) -> Iterator[str]:
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig",
                          errors="replace")  # fmt: skip
    if suffix == ".json":
        try:
            yield from _json_strings(json.loads(text))
        except json.JSONDecodeError:
            yield from _json_lines(text)
    elif suffix in (".jsonl", ".ndjson"):
        yield from _json_lines(text)
    elif suffix in (".csv", ".tsv"):
        csv.field_size_limit(MAX_FILE_BYTES)
        lines = io.StringIO(text, newline="")
        for row in csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ","):
            yield from row
    else:
        yield text
        if suffix in _MARKED_UP:
            yield _TAG.sub("\n", _LINK.sub(r"\1", text))


def _json_lines(text: str) -> Iterator[str]:
    for line in _LINE_END.split(text):
        try:
            yield from _json_strings(json.loads(line))
        except json.JSONDecodeError:
            yield line


def _json_strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if "<" in value:
            yield _TAG.sub("\n", value)
    elif isinstance(value, dict):
        title, summary = value.get("title"), value.get("summary") or value.get("description")
        if isinstance(title, str) and isinstance(summary, str):
            yield f"{title}. {summary}"  # feeds were read as title and summary in one
        for inner in value.values():
            yield from _json_strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _json_strings(inner)


def _parquet_strings(path: Path) -> Iterator[str]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(path).iter_batches():
        for column in batch.columns:
            if str(column.type) in ("string", "large_string"):
                yield from (text for text in column.to_pylist() if text)


def _candidates(text: str, missing: Collection[str]) -> Iterator[str]:
    """Yield the text, or runs of whole sentences of it, whose hash is wanted."""
    if len(text) < 20_000 and text_hash_or_none(text) in missing:
        yield text
    segments = [" ".join(segment.split()) for segment in _split_segments(text)]
    segments = [segment for segment in segments if segment]
    lengths = [segment.count(" ") + 1 for segment in segments]
    for start in range(len(segments)):
        run, n_words = "", 0
        for segment, length in zip(segments[start : start + 60], lengths[start:], strict=False):
            n_words += length
            if n_words > MAX_WORDS:
                break
            run = f"{run} {segment}" if run else segment
            if text_hash_or_none(run) in missing:
                yield run


def _split_segments(text: str) -> Iterator[str]:
    start = 0
    for end in _SEGMENT_END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    yield text[start:]


def text_hash_or_none(text: str) -> str | None:
    """Return the hash of a text, or None if no UTF-8 file can hold it."""
    try:
        return text_hash(text)
    except UnicodeEncodeError:
        return None
