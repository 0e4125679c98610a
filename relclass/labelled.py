"""Labelled passages <-> disk: authored articles (JSONL), flat JSONL, CSV.

Every complaint names the file and the line. Topics are checked against the codebook here and
trusted afterwards.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from relclass.codebook import Codebook
from relclass.errors import DataError, did_you_mean
from relclass.records import LabelledPassage

LANGUAGES = ("fa", "ar", "az", "tr", "en", "ru", "other")
ORIGINS = ("authored", "real")
SUFFIXES = (".jsonl", ".csv")
# ISO 639-3 for Azerbaijani in Arabic script, as the authored articles mark it.
_LANGUAGE_OF = {"azb": "az"}
_FIELDS = tuple(field.name for field in fields(LabelledPassage))
_ALIASES = {"id": "passage_id", "lang": "language"}
_LISTS = ("topics", "unsure")
_ARTICLE_KEYS = ("id", "lang", "genre", "date", "source", "scraped", "title", "passages")

Place = str
"""File and line, "articles.jsonl:17", with which an error begins."""


def read_labelled(path: str | Path, codebook: Codebook) -> list[LabelledPassage]:
    """Read the labelled passages of a file, or of every .jsonl and .csv file of a folder.

    Parameters
    ----------
    path : JSON lines whose records are articles with "passages" or single passages (the two
        may be mixed), or CSV with a column of topics ("security;transit") or a 0/1 column for
        each topic. A folder's files are read in the order of their names.
    codebook : topics are returned in its order.

    Returns
    -------
    Passages in the order of the file; language detected where the record names none.

    Raises
    ------
    DataError
        If a file cannot be read, a line is cut, not UTF-8 or lacks a field, a text is empty or
        holds a lone surrogate, a topic is not in the codebook, or an id comes twice.
    """
    passages: list[LabelledPassage] = []
    first_place: dict[str, Place] = {}
    for file in _files(Path(path)):
        read = _read_csv if file.suffix == ".csv" else _read_jsonl
        for place, passage in read(file, codebook):
            known = first_place.setdefault(passage.passage_id, place)
            if known is not place:
                raise DataError(
                    f"{place}: passage {passage.passage_id!r} was already given at {known}; "
                    "ids must be unique"
                )
            passages.append(passage)
    return passages


def write_labelled(passages: Iterable[LabelledPassage], path: str | Path) -> None:
    """Write passages as flat JSON lines or CSV, by the suffix; `read_labelled` reads them back.

    Raises
    ------
    DataError
        If the suffix is neither .jsonl nor .csv.
    """
    path = Path(path)
    _check_suffix(path)
    rows = [passage_to_dict(passage) for passage in passages]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for row in rows:
                given = {k: v for k, v in row.items() if k == "topics" or v not in (None, [])}
                file.write(json.dumps(given, ensure_ascii=False) + "\n")
        else:
            writer = csv.DictWriter(file, fieldnames=_FIELDS, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            for row in rows:
                writer.writerow(row | {name: ";".join(row[name]) for name in _LISTS})


def passage_to_dict(passage: LabelledPassage) -> dict[str, Any]:
    """Return a passage as JSON values, every field named as in `LabelledPassage`."""
    row: dict[str, Any] = {name: getattr(passage, name) for name in _FIELDS}
    row["topics"], row["unsure"] = list(passage.topics), list(passage.unsure)
    row["date"] = passage.date.isoformat() if passage.date else None
    return row


def passage_from_dict(
    row: Mapping[str, Any], codebook: Codebook, *, where: Place
) -> LabelledPassage:
    """Build a passage from JSON values and check it.

    Parameters
    ----------
    row : fields named as in `LabelledPassage`; "id" and "lang" are understood too. Needed are
        an id, "text" and "topics"; without "article_id" a passage is an article of its own.
    where : file and line, for the error.

    Raises
    ------
    DataError
        If a field is missing, unknown or of the wrong kind.
    """
    row = {_ALIASES.get(key, key): value for key, value in row.items()}
    for key in row:
        if key not in _FIELDS:
            raise DataError(f"{where}: unknown field {key!r}{did_you_mean(key, _FIELDS)}")
    for key in ("passage_id", "text", "topics"):
        if row.get(key) is None:
            raise DataError(f"{where}: the field {key!r} is missing; got {', '.join(sorted(row))}")
    text = check_text(row["text"], where=where)
    passage_id = _string(row, "passage_id", where) or ""
    if not passage_id:
        raise DataError(f"{where}: the passage's id is empty")
    return LabelledPassage(
        passage_id=passage_id,
        article_id=_string(row, "article_id", where) or passage_id,
        text=text,
        language=_language(row.get("language"), text, where),
        topics=codebook.check(_names(row, "topics", where), where=where),
        origin=_one_of(row.get("origin") or "authored", ORIGINS, "origin", where),
        unsure=codebook.check(_names(row, "unsure", where), where=where),
        title=_string(row, "title", where),
        date=_date(row.get("date"), where),
        source=_string(row, "source", where),
        genre=_string(row, "genre", where),
        scraped=_boolean(row.get("scraped"), where),
        note=_string(row, "note", where),
    )


def check_text(text: object, *, where: Place) -> str:
    """Return the text if a passage can have it.

    Raises
    ------
    DataError
        If it is not a string, is blank, or holds a lone surrogate (half of a character outside
        the basic plane, which no UTF-8 file can hold).
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: 'text' must be a string, got {type(text).__name__}")
    if not text.strip():
        raise DataError(f"{where}: the text is empty; remove the passage or give its text")
    surrogate = re.search("[\ud800-\udfff]", text)
    if surrogate:
        raise DataError(
            f"{where}: lone surrogate U+{ord(surrogate.group()):04X} at character "
            f"{surrogate.start()} of the text; the file was damaged before it was written"
        )
    return text


def read_json_lines(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the place and the object of each line that is not blank.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is not UTF-8, not JSON or not an object.
    """
    for number, raw in enumerate(_read_bytes(path).split(b"\n"), start=1):
        place = f"{path}:{number}"
        if not raw.strip():
            continue
        try:
            record = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{place}: not UTF-8 at byte {error.start} of the line; save the file as UTF-8"
            ) from error
        except json.JSONDecodeError as error:
            raise DataError(
                f"{place}: not JSON, the line may have been cut: {error.msg} at character "
                f"{error.pos} of {len(error.doc)}"
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: expected an object, got {type(record).__name__}")
        yield place, record


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        _check_suffix(path)
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        expected = " or ".join(SUFFIXES)
        raise DataError(f"{path}: no labelled passages in this folder; expected {expected} files")
    return files


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: labelled passages are kept as {' or '.join(SUFFIXES)} files")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error


def _read_jsonl(path: Path, codebook: Codebook) -> Iterator[tuple[Place, LabelledPassage]]:
    for place, record in read_json_lines(path):
        if "passages" in record:
            for passage in _article_passages(record, codebook, place):
                yield place, passage
        else:
            yield place, passage_from_dict(record, codebook, where=place)


def _article_passages(
    record: Mapping[str, Any], codebook: Codebook, place: Place
) -> Iterator[LabelledPassage]:
    for key in record:
        if key not in _ARTICLE_KEYS:
            raise DataError(
                f"{place}: unknown field {key!r} of an article{did_you_mean(key, _ARTICLE_KEYS)}"
            )
    article_id = _string(record, "id", place)
    if not article_id:
        raise DataError(f"{place}: the article has no 'id'")
    if not isinstance(record["passages"], list):
        raise DataError(f"{place}: 'passages' must be a list")
    shared = {key: record.get(key) for key in _ARTICLE_KEYS if key not in ("id", "passages")}
    for index, passage in enumerate(record["passages"]):
        where = f"{place}: passage {index} of {article_id!r}"
        if not isinstance(passage, dict):
            raise DataError(f"{where}: expected an object, got {type(passage).__name__}")
        row = {"id": f"{article_id}/{index}", "article_id": article_id, **shared, **passage}
        yield passage_from_dict(row, codebook, where=where)


def _read_csv(path: Path, codebook: Codebook) -> Iterator[tuple[Place, LabelledPassage]]:
    try:
        text = _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        columns = reader.fieldnames or ()
        by_topic = "topics" not in columns and set(codebook.names) <= set(columns)
        if "topics" not in columns and not by_topic:
            raise DataError(
                f"{path}:1: no column 'topics' and no 0/1 column for each of "
                f"{', '.join(codebook.names)}; got {', '.join(columns) or 'an empty file'}"
            )
        start = reader.line_num + 1
        for row in reader:
            place, start = f"{path}:{start}", reader.line_num + 1
            if None in row or None in row.values():
                raise DataError(f"{place}: expected {len(columns)} cells, as in the first line")
            topics = _topic_columns(row, codebook, place) if by_topic else row.pop("topics")
            cells: dict[str, Any] = {key: value for key, value in row.items() if value != ""}
            yield place, passage_from_dict(cells | {"topics": topics}, codebook, where=place)
    except csv.Error as error:
        raise DataError(f"{path}:{start}: not CSV: {error}") from error


def _topic_columns(row: dict[str, str], codebook: Codebook, place: Place) -> list[str]:
    given = []
    for name in codebook.names:
        if _boolean(row.pop(name), place, name=name):
            given.append(name)
    return given


def _names(row: Mapping[str, Any], key: str, where: Place) -> Sequence[str]:
    value = row.get(key)
    if value is None:
        return ()
    if isinstance(value, str):
        return [name for name in re.split(r"[\s;,|]+", value) if name]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{where}: {key!r} must be a list of topic names, got {value!r}")
    return value


def _string(row: Mapping[str, Any], key: str, where: Place) -> str | None:
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if key.endswith("id") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: {key!r} must be a string, got {value!r}")


def _language(value: object, text: str, where: Place) -> str:
    if value is None:
        from relclass.language import detect_language

        return detect_language(text)
    code = _LANGUAGE_OF.get(value, value) if isinstance(value, str) else value
    return _one_of(code, LANGUAGES, "language", where)


def _one_of(value: object, known: Sequence[str], name: str, where: Place) -> str:
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    raise DataError(f"{where}: {name} must be one of {', '.join(known)}, got {value!r}{hint}")


def _date(value: object, where: Place) -> datetime.date | None:
    if value is None or isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError as error:
        raise DataError(f"{where}: 'date' must be like 2021-11-29, got {value!r}") from error


def _boolean(value: object, where: Place, *, name: str = "scraped") -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    known = {"1": True, "true": True, "0": False, "false": False, "": False}
    if str(value).strip().lower() in known:
        return known[str(value).strip().lower()]
    raise DataError(f"{where}: {name!r} must be 0 or 1, got {value!r}")
