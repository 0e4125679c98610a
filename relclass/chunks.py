"""Inputs -> chunks of articles: the same inputs are always cut in the same places."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from relclass.articles import Columns, read_outcomes
from relclass.errors import DataError
from relclass.records import Article, Reject

_ARTICLE_OVERHEAD = 200
"""Characters that a record counts beside its text, so that tiny ones fill a chunk too."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Articles that are labelled and written together.

    Parameters
    ----------
    number : from 0, in the order of the inputs.
    articles, rejects : the records, those read and those refused.
    digest : SHA-256 of all in them that the output or its summary may show, hexadecimal.
    """

    number: int
    articles: tuple[Article, ...]
    rejects: tuple[Reject, ...]
    digest: str


@dataclass(frozen=True)
class ChunkSource:
    """The inputs as a stream of chunks; reads anew each time it is iterated.

    Parameters
    ----------
    inputs : files and folders, in order; "-" is standard input.
    columns : names of the columns or keys of the records.
    chunk_chars : characters of text after which a chunk is full; a single article may be longer.
    finished : digests of the chunks already done, by number: they are read, since an article's id
        depends on those before it, but not given out.
    fail_fast : raise at the first record refused.

    Raises
    ------
    DataError
        While iterating: at a refused record under `fail_fast`; where a finished chunk no longer
        holds what it held.
    """

    inputs: tuple[str, ...]
    columns: Columns = field(default_factory=Columns)
    chunk_chars: int = 300_000
    finished: Mapping[int, str] = field(default_factory=dict)
    fail_fast: bool = False

    def __iter__(self) -> Iterator[Chunk]:
        records = self._read()
        number = 0
        while chunk := self._read_chunk(number, records):
            before = self.finished.get(number)
            if before is None:
                yield chunk
            elif before != chunk.digest:
                raise DataError(
                    f"The inputs changed since the run was begun: {_whereabouts(chunk)} now holds "
                    "something else. Start over with --overwrite."
                )
            number += 1
        if later := [n for n in self.finished if n >= number]:
            raise DataError(
                f"The inputs changed since the run was begun: part {min(later)} and what follows "
                "is no longer there. Start over with --overwrite."
            )

    def _read(self) -> Iterator[Article | Reject]:
        for record in read_outcomes(self.inputs, columns=self.columns):
            if self.fail_fast and isinstance(record, Reject):
                raise DataError(str(record))
            yield record

    def _read_chunk(self, number: int, records: Iterator[Article | Reject]) -> Chunk | None:
        articles: list[Article] = []
        rejects: list[Reject] = []
        digest = hashlib.sha256()
        size = 0
        while size < self.chunk_chars and (record := next(records, None)) is not None:
            if isinstance(record, Article):
                articles.append(record)
                size += len(record.text)
            else:
                rejects.append(record)
                size += len(record.raw)
            digest.update(_content(record))
            size += _ARTICLE_OVERHEAD
        if not articles and not rejects:
            return None
        return Chunk(number, tuple(articles), tuple(rejects), digest.hexdigest())


def _content(record: Article | Reject) -> bytes:
    if isinstance(record, Reject):
        # the reason of a whole file may name its neighbours, which come and go
        facts = () if record.line is None else (record.line, record.reason)
        return _encode(*facts) + record.raw + b"\0"
    return _encode(
        record.article_id, record.text, record.title, record.date, record.source, record.language
    )


def _encode(*facts: object) -> bytes:
    return "".join(f"{fact}\0" for fact in facts).encode("utf-8", errors="surrogatepass")


def _whereabouts(chunk: Chunk) -> str:
    first = chunk.articles[0] if chunk.articles else chunk.rejects[0]
    place = f"part {chunk.number}"
    if first.path is None:
        return place
    return f"{place} ({first.path}{'' if first.line is None else f' from line {first.line}'})"
