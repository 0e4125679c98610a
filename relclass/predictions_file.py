"""Predictions on disk -> records -> arrays in the order of the gold passages."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import DataError, did_you_mean
from relclass.records import LabelledPassage, Prediction

PREFIX = "probability_"
"""Begins a CSV column that holds one topic's probability."""
FIELDS = (
    "article_id", "passage_id", "index", "start", "end", "language", "text", "topics",
    "probabilities", "model",
)  # fmt: skip
_REQUIRED = ("article_id", "passage_id", "topics", "probabilities")
_SUFFIXES = (".jsonl", ".csv", ".parquet")
_SHOWN = 3


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read the passages that `relclass predict` labelled.

    Parameters
    ----------
    path : JSONL or CSV, also with .gz or .zst, or Parquet; one passage a record.

    Raises
    ------
    DataError
        If the file cannot be read, a record is broken or lacks a field, a probability is not a
        number in [0, 1], or a passage comes twice; it names the record.
    """
    path = Path(path)
    first: dict[str, str] = {}
    predictions = []
    for place, record in _records(path):
        prediction = _parse(record, place)
        known = first.setdefault(prediction.passage_id, place)
        if known is not place:
            raise DataError(
                f"{place}: passage {prediction.passage_id!r} was already labelled at {known}; "
                "keep one of the two"
            )
        predictions.append(prediction)
    if not predictions:
        raise DataError(f"{path}: no predictions in the file; expected one passage a record")
    return predictions


def align_predictions(
    gold: Sequence[LabelledPassage],
    predictions: Sequence[Prediction],
    codebook: Codebook,
    *,
    partial: bool = False,
) -> tuple[list[LabelledPassage], np.ndarray, np.ndarray]:
    """Bring predictions into the order of the gold passages and of the codebook's topics.

    Parameters
    ----------
    partial : score the passages that both have, instead of refusing when one has more.

    Returns
    -------
    The gold passages that are scored, then y_pred (uint8) and y_prob (float32), both of shape
    (n_passages, n_topics).

    Raises
    ------
    DataError
        If passages are missing on either side, none is on both, the topics are not the
        codebook's, or a passage's text is not the same on both sides.
    """
    by_id = {prediction.passage_id: prediction for prediction in predictions}
    gold_ids = {passage.passage_id for passage in gold}
    missing = [passage.passage_id for passage in gold if passage.passage_id not in by_id]
    extra = [passage_id for passage_id in by_id if passage_id not in gold_ids]
    if len(missing) == len(gold):
        raise DataError(
            f"no gold passage is among the predictions: gold has {_some(gold_ids)}, the "
            f"predictions have {_some(by_id)}; were they made from the same articles?"
        )
    if (missing or extra) and not partial:
        problems = []
        if extra:
            problems.append(f"the gold lacks {len(extra)} predicted passages: {_some(extra)}")
        if missing:
            problems.append(f"{len(missing)} gold passages have no prediction: {_some(missing)}")
        raise DataError("; ".join(problems) + "; score those that both have with --partial")
    kept = [passage for passage in gold if passage.passage_id in by_id]
    matched = [by_id[passage.passage_id] for passage in kept]
    for passage, prediction in zip(kept, matched, strict=True):
        _check_match(passage, prediction, codebook)
    y_pred = np.array(
        [[name in p.topics for name in codebook.names] for p in matched], dtype=np.uint8
    )
    y_prob = np.array(
        [[p.probabilities[name] for name in codebook.names] for p in matched], dtype=np.float32
    )
    return kept, y_pred, y_prob


def _check_match(passage: LabelledPassage, prediction: Prediction, codebook: Codebook) -> None:
    where = f"prediction of {prediction.passage_id!r}"
    given, known = set(prediction.probabilities), set(codebook.names)
    for name in sorted(given - known):
        hint = did_you_mean(name, codebook.names)
        raise DataError(
            f"{where}: topic {name!r} is not in the codebook{hint}; the predictions were made "
            f"with another codebook than {', '.join(codebook.names)}"
        )
    if known - given:
        raise DataError(
            f"{where}: no probability of {', '.join(sorted(known - given))}; the predictions "
            "were made with another codebook"
        )
    codebook.check(prediction.topics, where=where)
    if prediction.text and prediction.text != passage.text:
        raise DataError(
            f"{where}: its text is not the gold passage's; got {prediction.text[:40]!r} but "
            f"expected {passage.text[:40]!r}. Were the articles split differently?"
        )


def _parse(record: Mapping[str, Any], place: str) -> Prediction:
    for key in _REQUIRED:
        if record.get(key) is None:
            raise DataError(
                f"{place}: the field {key!r} is missing; expected a passage as `relclass "
                f"predict` writes it, got {sorted(record)}"
            )
    probabilities = record["probabilities"]
    if not isinstance(probabilities, Mapping) or not probabilities:
        raise DataError(f"{place}: 'probabilities' must map topics to numbers")
    topics = record["topics"]
    if isinstance(topics, str):
        topics = [name for name in topics.split(";") if name]
    if not isinstance(topics, list) or not all(isinstance(name, str) for name in topics):
        raise DataError(f"{place}: 'topics' must be a list of names, got {topics!r}")
    parsed = {name: _probability(value, name, place) for name, value in probabilities.items()}
    return Prediction(
        article_id=str(record["article_id"]),
        passage_id=str(record["passage_id"]),
        index=_integer(record, "index", place),
        start=_integer(record, "start", place),
        end=_integer(record, "end", place),
        language=str(record.get("language") or "other"),
        text=str(record.get("text") or ""),
        topics=tuple(topics),
        probabilities=parsed,
        model=str(record.get("model") or "unnamed"),
    )


def _probability(value: object, name: str, place: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise DataError(
            f"{place}: the probability of {name!r} must be a number in [0, 1], got {value!r}"
        )
    return number


def _integer(record: Mapping[str, Any], key: str, place: str) -> int:
    try:
        return int(record.get(key) or 0)
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: {key!r} must be a number, got {record[key]!r}") from error


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    suffix = next((s for s in _SUFFIXES if name.endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: predictions are kept as {', '.join(_SUFFIXES)} files")
    read = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[suffix]
    try:
        yield from read(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error.reason}; save the file as UTF-8") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot read the file: {error}") from error


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, unpacked by its suffix."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    elif path.suffix == ".zst":
        import zstandard

        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            yield io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    else:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file


def _read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{place}: not JSON, was the file cut? {error.msg}") from error
            if not isinstance(record, dict):
                raise DataError(f"{place}: expected an object, got {type(record).__name__}")
            yield place, record


def _read_csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(2**31 - 1)
    with _open_text(path) as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{place}: expected {len(reader.fieldnames or ())} cells")
                probabilities = {
                    key.removeprefix(PREFIX): value
                    for key, value in row.items()
                    if key.startswith(PREFIX)
                }
                yield place, {**row, "probabilities": probabilities or None}
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = [name for name in file.schema_arrow.names if name in FIELDS]
        row_number = 0
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                row_number += 1
                yield f"{path}: row {row_number}", row
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error


def _some(ids: Iterable[str]) -> str:
    ids = sorted(ids)
    shown = ", ".join(repr(one) for one in ids[:_SHOWN])
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
