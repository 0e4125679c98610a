"""Raw article files -> articles: format, encoding, furniture, title, date, source, unique ids.

Reading is a stream: one article is in memory at a time. What cannot be read is a `Reject` with
file, line and reason; the rest is read on.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from relclass.dates import parse_date
from relclass.decoding import HEAD_BYTES, decode, detect_encoding
from relclass.errors import DataError, did_you_mean
from relclass.furniture import find_furniture
from relclass.identities import UniqueIds
from relclass.language import normalize_code
from relclass.mastheads import find_source, find_title
from relclass.reading import ByteStream, Record, read_jsonl
from relclass.records import Article, Reject
from relclass.tables import check_column, read_csv, read_parquet
from relclass.webpages import read_page

logger = logging.getLogger(__name__)

_FORMATS: Mapping[str, str] = {
    ".txt": "text", ".text": "text", ".html": "html", ".htm": "html", ".xhtml": "html",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_COMPRESSIONS = (".gz", ".zst", ".zstd")
_EXPECTED = ".txt, .html, .jsonl, .csv, .tsv or .parquet"
_SURROGATES = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table, or the fields of JSON records, are called.

    Parameters
    ----------
    text : the one that must be there; a JSON record may have "passages" instead, a list of texts
        or of objects with such a field.
    """

    text: str = "text"
    article_id: str = "id"
    title: str = "title"
    date: str = "date"
    source: str = "source"
    language: str = "language"

    def names(self) -> tuple[str, ...]:
        """Give all names, the text's first."""
        return dataclasses.astuple(self)


DEFAULT_COLUMNS = Columns()


def read_articles(
    paths: Iterable[str | Path] | str | Path,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    on_reject: Callable[[Reject], None] | None = None,
) -> Iterator[Article]:
    """Read articles from files, folders and standard input, one at a time.

    Parameters
    ----------
    paths : .txt and .html (one article each), .jsonl, .csv, .tsv and .parquet (many), the text
        formats also with .gz or .zst, folders of these (all below, in order of name; linked
        ones too, each once), and "-". A file of another name is told by its content.
    columns : names of the columns and fields of the files of many articles.
    on_reject : called with each input that cannot be used; the rest is read on.

    Returns
    -------
    Articles with ids that differ: the record's own, else "file:line", else the file's name, in
    which U+FFFD stands for what is not UTF-8; a second article with the same id has "-2" behind it.

    Raises
    ------
    DataError
        At the first input that cannot be used, if on_reject is None.
    """
    for outcome in read_outcomes(paths, columns=columns):
        if isinstance(outcome, Article):
            yield outcome
        elif on_reject is None:
            raise DataError(str(outcome))
        else:
            on_reject(outcome)


def read_outcomes(
    paths: Iterable[str | Path] | str | Path, *, columns: Columns = DEFAULT_COLUMNS
) -> Iterator[Article | Reject]:
    """Read as `read_articles` does, with each input that cannot be used in its place."""
    ids = UniqueIds()
    for path in [paths] if isinstance(paths, str | PurePath) else paths:
        for outcome in _read_path(str(path), columns):
            if isinstance(outcome, Article):
                article_id = ids.make_unique(_SURROGATES.sub("\ufffd", outcome.article_id))
                outcome = dataclasses.replace(outcome, article_id=article_id)
            yield outcome


def walk_folder(
    folder: str | Path, *, on_error: Callable[[OSError], object] | None = None
) -> Iterator[str]:
    """Yield the files below a folder, by name; not of hidden folders, of linked ones once.

    Parameters
    ----------
    on_error : called with each folder that cannot be listed.
    """
    seen: set[str] = set()  # a link may lead back up
    for directory, subfolders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (os.path.join(directory, name) for name in sorted(names))


def is_read_in_folder(name: str) -> bool:
    """Tell by its name whether a file of a folder is read: not hidden, and of a known format."""
    return not name.startswith(".") and _format_of(PurePath(name)) is not None


def parse_article(
    text: str,
    *,
    article_id: str,
    title: str | None = None,
    date: datetime.date | None = None,
    source: str | None = None,
    language: str | None = None,
) -> Article:
    """Make an article of a text, and find in it what is not given.

    Parameters
    ----------
    text : kept as it is, but for lone surrogates: they become U+FFFD, since no file could hold
        them; NUL and direction marks stay.

    Raises
    ------
    DataError
        If the text has neither a letter nor a digit.
    """
    text = _SURROGATES.sub("\ufffd", text)
    if not any(map(str.isalnum, text)):
        raise DataError("no text: not a letter or a digit in it")
    furniture = find_furniture(text)
    return Article(
        article_id=article_id,
        text=text,
        title=title or find_title(text, furniture.spans),
        date=date or furniture.date,
        source=source or furniture.source or find_source(text, furniture.spans),
        news_code=furniture.news_code,
        language=language,
        furniture=furniture.spans,
    )


def _read_path(path: str, columns: Columns) -> Iterator[Article | Reject]:
    """Read a file, or the files below a folder."""
    if path == "-":
        yield from _read_file(path, "stdin", columns)
    elif os.path.isdir(path):
        yield from _read_folder(Path(path), columns)
    elif os.path.exists(path):
        yield from _read_file(path, _stem(PurePath(path)).name, columns)
    else:
        parent, name = Path(path).parent, Path(path).name
        hint = did_you_mean(name, os.listdir(parent)) if parent.is_dir() else ""
        yield Reject(path, None, f"no such file or folder{hint}")


def _read_folder(folder: Path, columns: Columns) -> Iterator[Article | Reject]:
    n_files, skipped = 0, Counter[str]()
    unlisted: list[OSError] = []
    for path in map(Path, walk_folder(folder, on_error=unlisted.append)):
        if not is_read_in_folder(path.name):
            skipped[path.suffix or path.name] += 1
            continue
        n_files += 1
        article_id = _stem(PurePosixPath(path.relative_to(folder).as_posix()))
        yield from _read_file(str(path), str(article_id), columns)
    for error in unlisted:
        yield Reject(str(error.filename), None, f"cannot be listed: {error.strerror or error}")
    others = ", ".join(f"{n} x {suffix}" for suffix, n in skipped.most_common(5))
    if not n_files and not unlisted:
        found = f"only {others}" if others else "no file"
        yield Reject(str(folder), None, f"no article in the folder: {found}; expected {_EXPECTED}")
    elif others:
        logger.warning("%s: passed over files that hold no articles: %s", folder, others)


def _read_file(path: str, article_id: str, columns: Columns) -> Iterator[Article | Reject]:
    """Read one file; `article_id` is that of its article, or the stem of its articles' ids."""
    name = "<stdin>" if path == "-" else path
    try:
        for outcome in _read_records(path, article_id, columns):
            if isinstance(outcome, Record):
                outcome = _from_record(outcome, columns, name, article_id)
            elif isinstance(outcome, Article):
                outcome = dataclasses.replace(outcome, path=name)
            yield outcome
    except DataError as error:
        yield Reject(name, None, str(error))


def _read_records(
    path: str, article_id: str, columns: Columns
) -> Iterator[Article | Record | Reject]:
    if _format_of(PurePath(path)) == "parquet":
        yield from read_parquet(path, text_column=columns.text, columns=columns.names())
        return
    stream = ByteStream(path)
    if not stream.head.strip():
        raise DataError("the file is empty")
    form = _format_of(PurePath(path))
    if form in (None, "json"):
        sniffed = _sniff(stream.head, columns.text)
        form = "json" if form and sniffed != "jsonl" else sniffed
    if form == "jsonl":
        yield from read_jsonl(stream)
    elif form == "json":
        yield from _read_json(stream)
    elif form == "csv":
        yield from read_csv(stream, text_column=columns.text)
    elif form == "html":
        yield _parse_page(stream.read_all(), article_id)
    else:
        yield parse_article(decode(stream.read_all()), article_id=article_id)


def _format_of(path: PurePath) -> str | None:
    """Tell a file's format by its name; None if the name does not say."""
    suffix = path.suffix.lower()
    if suffix in _COMPRESSIONS:
        inner = _FORMATS.get(PurePath(path.stem).suffix.lower())
        return None if inner == "parquet" else inner
    return _FORMATS.get(suffix)


def _stem(path: PurePath) -> PurePath:
    """Take a file's suffixes off, those that say its format."""
    if path.suffix.lower() in _COMPRESSIONS:
        path = path.with_suffix("")
    return path.with_suffix("") if path.suffix.lower() in _FORMATS else path


def _sniff(head: bytes, text_column: str) -> str:
    """Tell the format of a file by its first bytes."""
    text = head.decode(detect_encoding(head), errors="replace").lstrip("\ufeff \t\r\n")
    if re.match(r"<!doctype html|<html|<\?xml[^>]*>\s*<(?:!doctype )?html", text, re.IGNORECASE):
        return "html"
    first = text.partition("\n")[0]
    if text.startswith("{"):
        is_cut = len(head) == HEAD_BYTES and first == text
        return "jsonl" if is_cut or _is_jsonl(text) else "json"
    if text.startswith("["):
        return "json" if re.match(r"\[\s*\{", text) or _is_json(first) else "text"
    names = [name.strip(' \t\r"') for name in re.split(r"[,;\t|]", first)]
    return "csv" if text_column in names else "text"


def _is_jsonl(text: str) -> bool:
    """Tell JSON lines, any of which may be broken, from one object over several lines."""
    if _is_json(text):
        return "\n" not in text.rstrip()
    return any(line.startswith("{") and _is_json(line) for line in text.split("\n"))


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _read_json(stream: ByteStream) -> Iterator[Record | Reject]:
    """Read one JSON document: an article, or an array of articles."""
    try:
        content = json.loads(decode(stream.read_all()), strict=False)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}; expected one object a line, or an array") from error
    for number, fields in enumerate(content if isinstance(content, list) else [content], start=1):
        if isinstance(fields, dict):
            yield Record(fields, number, b"")
        else:
            reason = f"item {number} of the array is not an object"
            yield Reject(stream.name, number, reason, json.dumps(fields).encode())


def _parse_page(data: bytes, article_id: str) -> Article:
    page = read_page(data)
    article = parse_article(
        page.text, article_id=article_id, title=page.title, date=page.date, source=page.source
    )
    around = find_furniture(page.visible_text)
    labelled = around.date if around.is_date_labelled else None
    return dataclasses.replace(
        article,
        date=page.date or labelled or page.guessed_date or article.date,
        news_code=article.news_code or around.news_code,
    )


def _from_record(record: Record, columns: Columns, path: str, stem: str) -> Article | Reject:
    fields = record.fields
    article_id = _as_text(fields.get(columns.article_id)) or f"{stem}:{record.line}"
    language = _as_text(fields.get(columns.language))
    try:
        article = parse_article(
            _text_of(fields, columns),
            article_id=article_id,
            title=_as_text(fields.get(columns.title)),
            date=_as_date(fields.get(columns.date)),
            source=_as_text(fields.get(columns.source)),
            language=normalize_code(language) if language else None,
        )
    except DataError as error:
        raw = record.raw or json.dumps(dict(fields), ensure_ascii=True, default=str).encode()
        return Reject(path, record.line, str(error), raw)
    return dataclasses.replace(article, path=path, line=record.line)


def _text_of(fields: Mapping[str, Any], columns: Columns) -> str:
    if columns.text not in fields and isinstance(fields.get("passages"), list):
        return _join_passages(fields["passages"], columns.text)
    check_column(columns.text, list(fields))
    text = fields[columns.text]
    if text is None:
        raise DataError(f"no text: {columns.text!r} is null")
    if not isinstance(text, str):
        raise DataError(f"{columns.text!r} is {text!r:.40}, expected a string")
    return text


def _join_passages(passages: list[Any], text_column: str) -> str:
    texts = []
    for number, passage in enumerate(passages, start=1):
        text = passage.get(text_column) if isinstance(passage, dict) else passage
        if not isinstance(text, str):
            raise DataError(
                f"passage {number} is {passage!r:.40}, expected a string, or an object with one"
                f" as {text_column!r}"
            )
        texts.append(text)
    return "\n\n".join(texts)


def _as_text(value: object) -> str | None:
    """Read a field that should be a word or a line; None if it says nothing."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    if isinstance(value, float) and math.isnan(value):  # a table's empty cell
        return None
    return _SURROGATES.sub("\ufffd", str(value)).strip() or None


def _as_date(value: object) -> datetime.date | None:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    return parse_date(value) if isinstance(value, str) else None
