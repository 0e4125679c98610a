"""Input files -> chunks of articles: the same files are always cut in the same places."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from relclass.articles import Columns, read_articles
from relclass.errors import DataError
from relclass.records import Article, Reject

_ARTICLE_OVERHEAD = 200
"""Characters that an article counts beside its text, so that empty ones fill a chunk too."""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the inputs.

    Parameters
    ----------
    file : position among the files; their number at the very end.
    record : records of that file before this place, refused ones too.
    """

    file: int
    record: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Articles that are labelled and written together.

    Parameters
    ----------
    number : from 0, in the order of the inputs.
    articles, rejects : the records, those read and those refused.
    end : place after the last record.
    digest : SHA-256 of all of them, hexadecimal.
    """

    number: int
    articles: tuple[Article, ...]
    rejects: tuple[Reject, ...]
    end: Cursor
    digest: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What is known of a chunk that is done: where it ended and what it held."""

    end: Cursor
    digest: str


@dataclass(frozen=True)
class ChunkSource:
    """The inputs as a stream of chunks; reads anew each time it is iterated.

    Parameters
    ----------
    files : paths, in order; "-" is standard input.
    columns : names of the columns or keys of the records.
    chunk_chars : characters of text after which a chunk is full; a single article may be longer.
    finished : chunks already done, by number; they are passed over.
    fail_fast : raise at the first record refused.

    Raises
    ------
    DataError
        While iterating: at a refused record under `fail_fast`; where a finished chunk no longer
        holds what it held.
    """

    files: tuple[str, ...]
    columns: Columns = field(default_factory=Columns)
    chunk_chars: int = 300_000
    finished: Mapping[int, Finished] = field(default_factory=dict)
    fail_fast: bool = False

    def __iter__(self) -> Iterator[Chunk]:
        records = _Records(self.files, self.columns, self.fail_fast)
        number = 0
        while True:
            done = self.finished.get(number)
            if done is not None and done.end.file > records.place.file:
                records.jump(done.end)  # whole files need not be read again
            else:
                chunk = self._read_chunk(number, records)
                if chunk is None:
                    return
                if done is None:
                    yield chunk
                elif done != Finished(chunk.end, chunk.digest):
                    raise DataError(
                        f"{records.name}: the input changed since the run was begun: part "
                        f"{number} holds other records. Start over with --overwrite."
                    )
            number += 1

    def _read_chunk(self, number: int, records: _Records) -> Chunk | None:
        articles: list[Article] = []
        rejects: list[Reject] = []
        digest = hashlib.sha256()
        size = 0
        while size < self.chunk_chars and (record := records.read()) is not None:
            if isinstance(record, Article):
                articles.append(record)
                size += len(record.text)
                content = f"{record.article_id}\0{record.text}\0"
                digest.update(content.encode("utf-8", errors="surrogatepass"))
            else:
                rejects.append(record)
                size += len(record.raw)
                digest.update(record.raw + b"\0")
            size += _ARTICLE_OVERHEAD
        if not articles and not rejects:
            return None
        return Chunk(number, tuple(articles), tuple(rejects), records.place, digest.hexdigest())


class _Records:
    """The records of all files one after another, with the place."""

    def __init__(self, files: tuple[str, ...], columns: Columns, fail_fast: bool) -> None:
        self.place = Cursor(0, 0)
        self._files = files
        self._columns = columns
        self._fail_fast = fail_fast
        self._stream = self._open()

    @property
    def name(self) -> str:
        """The file being read."""
        return self._files[min(self.place.file, len(self._files) - 1)]

    def read(self) -> Article | Reject | None:
        """Return the next record, or None at the very end."""
        while self.place.file < len(self._files):
            record = next(self._stream, None)
            if record is not None:
                self.place = Cursor(self.place.file, self.place.record + 1)
                return record
            self.place = Cursor(self.place.file + 1, 0)
            self._stream = self._open()
        return None

    def jump(self, place: Cursor) -> None:
        """Go on at a later place."""
        self.place = Cursor(place.file, 0)
        self._stream = self._open()
        for _ in range(place.record):
            self.read()

    def _open(self) -> Iterator[Article | Reject]:
        if self.place.file >= len(self._files):
            return iter(())
        return _read_file(self._files[self.place.file], self._columns, self._fail_fast)


def _read_file(path: str, columns: Columns, fail_fast: bool) -> Iterator[Article | Reject]:
    rejects: list[Reject] = []
    if fail_fast:
        yield from read_articles([path], columns=columns)
        return
    for article in read_articles([path], columns=columns, on_reject=rejects.append):
        yield from rejects  # those met before the article
        rejects.clear()
        yield article
    yield from rejects
