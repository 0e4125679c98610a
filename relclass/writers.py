"""Predictions -> JSONL, CSV or Parquet, by the output's suffix.

A part is encoded whole in memory; parts are put together as a stream. The same rows always give
the same bytes.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from relclass.errors import ConfigError
from relclass.predict import ArticleTopics
from relclass.records import Prediction, Reject

Unit = Literal["passage", "article"]

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".csv.gz", ".csv.zst", ".parquet")
_ROW_GROUP = 20_000
"""Rows of a Parquet row group: about 40 MB of passages in memory while it is written."""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How an output is written.

    Parameters
    ----------
    kind : of the records.
    compression : of the whole file, as one stream; Parquet compresses by itself.
    unit : what a record is about.
    topics : names of all topics, in codebook order: the columns of the probabilities.
    """

    kind: Literal["jsonl", "csv", "parquet"]
    compression: Literal["", "gz", "zst"]
    unit: Unit
    topics: tuple[str, ...]


def output_format(path: str | Path, *, unit: Unit, topics: Sequence[str]) -> OutputFormat:
    """Choose the format by the suffix; "-" is JSONL.

    Raises
    ------
    ConfigError
        If the suffix is none of `SUFFIXES`.
    """
    name = Path(path).name.lower()
    suffix = next((s for s in SUFFIXES if name.endswith(s)), ".jsonl" if name == "-" else None)
    if suffix is None:
        raise ConfigError(
            f"{path}: cannot tell the format of the output; expected one of {', '.join(SUFFIXES)}"
        )
    kind, _, compression = suffix[1:].partition(".")
    return OutputFormat(kind, compression, unit, tuple(topics))  # type: ignore[arg-type]


def to_row(record: Prediction | ArticleTopics) -> dict[str, Any]:
    """Give a record as a JSON object; probabilities with six decimals."""
    row: dict[str, Any] = {"article_id": record.article_id}
    if isinstance(record, Prediction):
        row["passage_id"] = record.passage_id
        row["index"] = record.index
        row["start"] = record.start
        row["end"] = record.end
        row["language"] = record.language
        row["text"] = record.text
    else:
        row["language"] = record.language
        row["n_passages"] = record.n_passages
    row["topics"] = list(record.topics)
    row["probabilities"] = {topic: round(p, 6) for topic, p in record.probabilities.items()}
    if isinstance(record, ArticleTopics):
        row["n_passages_by_topic"] = dict(record.n_passages_by_topic)
    row["model"] = record.model
    return row


def encode_part(
    records: Iterable[Prediction | ArticleTopics], output: OutputFormat
) -> tuple[bytes, int]:
    """Encode records as a piece of the output: without a CSV header, not compressed.

    Returns
    -------
    The bytes and the number of records.
    """
    rows = [to_row(record) for record in records]
    if output.kind == "jsonl":
        return "".join(json_line(row) for row in rows).encode(), len(rows)
    if output.kind == "csv":
        text = _CsvText(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(_flat(row) for row in rows)
        return text.getvalue().encode(), len(rows)
    return _encode_parquet(rows, output), len(rows)


class _CsvText(io.StringIO):
    r"""Ends rows in "\n", though the writer ends them in "\r\n" so as to quote a lone "\r"."""

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


def json_line(row: dict[str, Any]) -> str:
    """Give one line of JSON, letters as they are."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def csv_columns(output: OutputFormat) -> list[str]:
    """Name the columns of a CSV.

    Topics stand in one column, joined by ";"; each topic's probability has a column of its own,
    ``probability_security``, and so has an article's count, ``n_passages_security``.
    """
    probabilities = [f"probability_{topic}" for topic in output.topics]
    if output.unit == "passage":
        place = ["passage_id", "index", "start", "end", "language", "text"]
        return ["article_id", *place, "topics", *probabilities, "model"]
    counts = [f"n_passages_{topic}" for topic in output.topics]
    return ["article_id", "language", "n_passages", "topics", *probabilities, *counts, "model"]


def encode_rejects(rejects: Iterable[Reject]) -> bytes:
    """Encode rejects as JSONL.

    The raw bytes stand in ``raw``, as text where they are UTF-8 (``raw_encoding`` "utf-8"), and
    otherwise in base64 (``raw_encoding`` "base64").
    """
    lines = []
    for reject in rejects:
        try:
            raw, encoding = reject.raw.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            raw, encoding = base64.b64encode(reject.raw).decode("ascii"), "base64"
        row = {"file": reject.path, "line": reject.line, "reason": reject.reason}
        lines.append(json_line({**row, "raw": raw, "raw_encoding": encoding}))
    return "".join(lines).encode("utf-8", errors="backslashreplace")


def join_parts(parts: Iterable[Path], target: Path, output: OutputFormat) -> None:
    """Write the parts one after another as one file.

    Parameters
    ----------
    parts : files that hold what `encode_part` gave, in order; read one at a time.
    target : written anew and flushed to the disk.
    """
    with target.open("wb") as raw:
        if output.kind == "parquet":
            _join_parquet(parts, raw, output)
        else:
            with _compressed(raw, output.compression) as stream:
                if output.kind == "csv":
                    stream.write((",".join(csv_columns(output)) + "\n").encode())
                for part in parts:
                    stream.write(part.read_bytes())
        raw.flush()
        _sync(raw)


def count_records(path: Path, output: OutputFormat) -> int:
    """Count the records of a finished output by reading it again."""
    if output.kind == "parquet":
        import pyarrow.parquet as pq

        return int(pq.ParquetFile(path).metadata.num_rows)
    with path.open("rb") as raw, _decompressed(raw, output.compression) as stream:
        if output.kind == "jsonl":
            return sum(1 for _ in stream)
        csv.field_size_limit(2**31 - 1)
        return sum(1 for _ in csv.reader(io.TextIOWrapper(stream, "utf-8", newline=""))) - 1


def _flat(row: dict[str, Any]) -> list[Any]:
    cells: list[Any] = []
    for value in row.values():
        if isinstance(value, dict):
            cells.extend(value.values())
        else:
            cells.append(";".join(value) if isinstance(value, list) else value)
    return cells


def _sync(file: IO[bytes]) -> None:
    import os

    os.fsync(file.fileno())


@contextmanager
def _compressed(raw: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    if compression == "gz":
        # no name and no time in the header: the same rows, the same bytes
        with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
            yield stream  # type: ignore[misc]
    elif compression == "zst":
        import zstandard

        with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as stream:
            yield stream
    else:
        yield raw


@contextmanager
def _decompressed(raw: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    if compression == "gz":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream  # type: ignore[misc]
    elif compression == "zst":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        with io.BufferedReader(reader) as stream:
            yield stream
    else:
        yield raw


def _schema(output: OutputFormat) -> Any:
    import pyarrow as pa

    numbers = pa.struct([(topic, pa.float32()) for topic in output.topics])
    counts = pa.struct([(topic, pa.int32()) for topic in output.topics])
    if output.unit == "passage":
        fields = [
            ("article_id", pa.string()),
            ("passage_id", pa.string()),
            ("index", pa.int32()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("language", pa.string()),
            ("text", pa.string()),
            ("topics", pa.list_(pa.string())),
            ("probabilities", numbers),
        ]
    else:
        fields = [
            ("article_id", pa.string()),
            ("language", pa.string()),
            ("n_passages", pa.int32()),
            ("topics", pa.list_(pa.string())),
            ("probabilities", numbers),
            ("n_passages_by_topic", counts),
        ]
    return pa.schema([*fields, ("model", pa.string())])


def _encode_parquet(rows: list[dict[str, Any]], output: OutputFormat) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=_schema(output))
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _join_parquet(parts: Iterable[Path], raw: IO[bytes], output: OutputFormat) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(raw, _schema(output), compression="zstd") as writer:
        waiting: list[Any] = []
        for part in parts:
            waiting.append(pq.read_table(part))
            if sum(table.num_rows for table in waiting) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
