"""Files -> bytes -> lines -> records, as streams: gzip, zstd, standard input, JSONL.

What cannot be read comes out as a `Reject` in its place, and reading goes on behind it.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from relclass.decoding import HEAD_BYTES, detect_encoding, explain
from relclass.errors import DataError
from relclass.records import Reject

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer article or record is refused: most likely it is many whose line breaks were lost."""

_CHUNK_BYTES = 256 * 1024
_COMPRESSED_BYTES = 64 * 1024  # it may grow a thousandfold
_BROKEN = "\udcff"  # a lone surrogate: no file holds it, and no UTF-8
_WIDE = ("utf-16", "utf-32")  # a line of these does not end in one byte


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file of many: its fields, where it stood, and its bytes."""

    fields: Mapping[str, Any]
    line: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end; `broken` says what is wrong with it, if anything is."""

    number: int
    raw: bytes
    broken: str = ""


class ByteStream:
    """The bytes of a file, decompressed, in chunks, with a look at its head beforehand.

    Parameters
    ----------
    path : "-" is standard input; a name that ends in .gz, .zst or .zstd is decompressed.

    Raises
    ------
    DataError
        If the file cannot be read; while reading, where its compressed data is broken.
    """

    def __init__(self, path: str) -> None:
        self.name = "<stdin>" if path == "-" else path
        self._chunks = _read_chunks(path)
        self._failure: DataError | None = None
        first: list[bytes] = []
        try:
            for chunk in self._chunks:
                first.append(chunk)
                if sum(map(len, first)) >= HEAD_BYTES:
                    break
        except DataError as error:
            if not any(first):
                raise
            self._failure = error
        self._first = b"".join(first)

    @property
    def head(self) -> bytes:
        """The first `HEAD_BYTES`, or all of a smaller file."""
        return self._first[:HEAD_BYTES]

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the beginning; once."""
        yield self._first
        if self._failure is not None:
            raise self._failure
        yield from self._chunks

    def read_all(self) -> bytes:
        """Read a file that is one article."""
        parts, n_bytes = [], 0
        for chunk in self.chunks():
            parts.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > MAX_RECORD_BYTES:
                raise DataError(
                    f"larger than {MAX_RECORD_BYTES >> 20} MB, too long for one article;"
                    " a file of many articles should be .jsonl, .csv or .parquet"
                )
        return b"".join(parts)


def _read_chunks(path: str) -> Iterator[bytes]:
    try:
        if path == "-":
            stdin = cast(io.BufferedReader, sys.stdin.buffer)
            yield from iter(lambda: stdin.read1(_CHUNK_BYTES), b"")
            return
        with Path(path).open("rb") as file:
            if path.lower().endswith((".gz", ".zst", ".zstd")):
                yield from _decompress(path.lower(), file)
            else:
                yield from iter(lambda: file.read(_CHUNK_BYTES), b"")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def _decompress(path: str, file: BinaryIO) -> Iterator[bytes]:
    """Yield what a gzip or zstd file of one or more members holds, up to where it is broken."""
    failure: type[Exception]
    if path.endswith(".gz"):
        name, failure = "gzip", zlib.error

        def new_member() -> Any:
            return zlib.decompressobj(wbits=31)
    else:
        import zstandard

        name, failure = "zstd", zstandard.ZstdError

        def new_member() -> Any:
            return zstandard.ZstdDecompressor().decompressobj()

    member, is_cut = new_member(), False
    try:
        for data in iter(lambda: file.read(_COMPRESSED_BYTES), b""):
            while data:
                member = new_member() if member.eof else member
                yield member.decompress(data)
                is_cut = not member.eof
                data = member.unused_data
    except failure as error:
        raise DataError(f"broken {name} data: {error}") from error
    if is_cut:
        raise DataError(f"broken {name} data: the file was cut")


def read_lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """Yield lines, none longer in memory than `MAX_RECORD_BYTES`.

    A line that is longer, or at which the file can be read no further, comes out as broken with
    what was read of it.
    """
    parts: list[bytes] = []
    n_kept, number, broken = 0, 1, ""
    try:
        for chunk in chunks:
            start = 0
            while start < len(chunk):
                end = chunk.find(b"\n", start) + 1 or len(chunk)
                parts.append(chunk[start : min(end, start + MAX_RECORD_BYTES - n_kept)])
                n_kept += len(parts[-1])
                if len(parts[-1]) < end - start:
                    broken = f"longer than {MAX_RECORD_BYTES >> 20} MB; are its line breaks lost?"
                if chunk[end - 1 : end] == b"\n":
                    yield Line(number, b"".join(parts), broken)
                    parts, n_kept, number, broken = [], 0, number + 1, ""
                start = end
    except DataError as error:
        broken = str(error)
    if parts or broken:
        yield Line(number, b"".join(parts), broken)


def read_text_lines(stream: ByteStream) -> Iterator[tuple[Line, str]]:
    """Yield lines with their text; a line that is broken or not in the file's encoding says so.

    Raises
    ------
    DataError
        If the file is no text.
    """
    name = encoding = detect_encoding(stream.head)
    chunks = stream.chunks()
    if encoding.startswith(_WIDE):
        chunks, encoding = _transcode(chunks, encoding), "utf-8"
    for line in read_lines(chunks):
        codec = encoding if line.number == 1 else encoding.removesuffix("-sig")
        try:
            yield line, line.raw.decode(codec)
        except UnicodeDecodeError as error:
            broken = line.broken or explain(error, name)
            yield Line(line.number, line.raw, broken), line.raw.decode(codec, errors="replace")


def _transcode(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Make UTF-8 of wide characters; a broken one becomes three bytes that are not UTF-8."""
    codecs.register_error("relclass.mark", _mark_broken)
    decoder = codecs.getincrementaldecoder(encoding)(errors="relclass.mark")
    for chunk in chunks:
        yield decoder.decode(chunk).encode(errors="surrogatepass")
    yield decoder.decode(b"", final=True).encode(errors="surrogatepass")


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _BROKEN, error.end


def read_jsonl(stream: ByteStream) -> Iterator[Record | Reject]:
    """Read a JSON object a line; blank lines are passed over.

    Raises
    ------
    DataError
        If the file is no text.
    """
    decoder = json.JSONDecoder(strict=False)  # control characters in strings are kept
    for line, text in read_text_lines(stream):
        if line.broken:
            yield Reject(stream.name, line.number, line.broken, line.raw)
            continue
        text = text.strip().strip("\ufeff")  # files put together leave byte order marks
        if not text:
            continue
        try:
            fields = decoder.decode(text)
        except RecursionError:
            yield Reject(stream.name, line.number, "JSON nested too deeply", line.raw)
        except ValueError as error:
            reason = f"not JSON: {error}; expected one object a line: was the line cut?"
            yield Reject(stream.name, line.number, reason, line.raw)
        else:
            if isinstance(fields, dict):
                yield Record(fields, line.number, line.raw)
            else:
                reason = f"expected a JSON object, got {_json_kind(fields)}"
                yield Reject(stream.name, line.number, reason, line.raw)


def _json_kind(value: object) -> str:
    kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
