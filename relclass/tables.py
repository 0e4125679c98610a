"""Tables -> records, as streams: CSV and TSV with quotes that may be broken, and Parquet."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from relclass.errors import DataError, did_you_mean
from relclass.reading import MAX_RECORD_BYTES, ByteStream, Line, Record, read_text_lines
from relclass.records import Reject

_DELIMITERS = ",;\t|"
_BATCH_ROWS = 256


def read_csv(stream: ByteStream, *, text_column: str) -> Iterator[Record | Reject]:
    """Read a CSV or TSV file whose first row names its columns; the delimiter is detected.

    A record with broken quotes costs its first line alone: reading goes on at the next.

    Raises
    ------
    DataError
        If the file is no text, is empty, or has no such column, or two.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))
    rows = _Rows(stream)
    header = rows.read_header()
    check_column(text_column, header)
    for row, lines in rows:
        number, raw = lines[0].number, b"".join(line.raw for line in lines)
        broken = next((line.broken for line in lines if line.broken), "")
        if isinstance(row, str):
            broken = broken or row
        elif len(row) != len(header):
            broken = broken or (
                f"{len(row)} fields, but the header names {len(header)};"
                " is a delimiter in the text unquoted?"
            )
        if broken or isinstance(row, str):
            yield Reject(stream.name, number, broken, raw)
        else:
            yield Record(dict(zip(header, row, strict=True)), number, raw)


def check_column(text_column: str, columns: Sequence[str]) -> None:
    """Make sure that a table has the column of the text, once.

    Raises
    ------
    DataError
        If it has not: the message names those it has, and the nearest; or if it has two.
    """
    if text_column not in columns:
        names = ", ".join(map(repr, columns))
        raise DataError(
            f"no column {text_column!r}; it has {names}{did_you_mean(text_column, columns)};"
            " say which one holds the text"
        )
    _check_names([text_column], columns)


def _check_names(wanted: Sequence[str], columns: Sequence[str]) -> None:
    for name in wanted:
        if columns.count(name) > 1:
            raise DataError(f"{columns.count(name)} columns are named {name!r}; rename all but one")


class _Rows:
    """The rows of a CSV file, each with the lines it took, or with what is wrong with it."""

    def __init__(self, stream: ByteStream) -> None:
        self._lines = read_text_lines(stream)
        self._waiting: deque[tuple[Line, str]] = deque()
        self._delimiter = ","

    def read_header(self) -> list[str]:
        """Read the names of the columns, and tell the delimiter by them."""
        for line, text in self._lines:
            if line.broken:
                raise DataError(line.broken)
            if text.strip():
                self._delimiter = max(_DELIMITERS, key=text.count)
                self._waiting.append((line, text))
                row, _ = next(iter(self))
                if isinstance(row, str):
                    raise DataError(f"the header is broken: {row}")
                return [name.strip() for name in row]
        raise DataError("the file is empty; expected a header that names the columns")

    def __iter__(self) -> Iterator[tuple[list[str] | str, list[Line]]]:
        """Yield rows, or reasons why there is none, with their lines."""
        while True:
            taken: list[tuple[Line, str]] = []
            try:
                row = next(csv.reader(self._take(taken), delimiter=self._delimiter, strict=True))
            except StopIteration:
                return
            except csv.Error as error:
                broken = next((line.broken for line, _ in taken if line.broken), "")
                yield broken or f"broken quotes: {error}", [taken[0][0]]
                self._waiting.extendleft(reversed(taken[1:]))
            else:
                if row:
                    yield row, [line for line, _ in taken]

    def _take(self, taken: list[tuple[Line, str]]) -> Iterator[str]:
        n_bytes = 0
        while n_bytes < MAX_RECORD_BYTES:
            line = self._waiting.popleft() if self._waiting else next(self._lines, None)
            if line is None:
                return
            taken.append(line)
            n_bytes += len(line[0].raw)
            yield line[1]


def read_parquet(
    path: str, *, text_column: str, columns: Sequence[str]
) -> Iterator[Record | Reject]:
    """Read a Parquet file by row groups.

    Parameters
    ----------
    columns : what is read of it, where it has them.

    Raises
    ------
    DataError
        If it is no Parquet file, has no such column, or two of one that is read.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            names = file.schema_arrow.names
            check_column(text_column, names)
            wanted = [name for name in dict.fromkeys(columns) if name in names]
            _check_names(wanted, names)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
                for row in range(batch.num_rows):
                    number += 1
                    yield _read_row(path, number, wanted, [column[row] for column in batch])
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        raise DataError(f"no Parquet file, or a broken one: {error}") from error


def _read_row(path: str, number: int, names: Sequence[str], cells: list[Any]) -> Record | Reject:
    fields: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            fields[name] = cell.as_py()
        except UnicodeDecodeError as error:
            return Reject(path, number, f"invalid UTF-8 at byte {error.start}", error.object)
        except (OverflowError, ValueError) as error:  # a date that Python has not
            return Reject(path, number, f"the value of {name!r} cannot be read: {error}")
    return Record(fields, number, b"")
