"""Labelled passages -> the data of a run: splits verified, ready as arrays or as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from relclass.codebook import Codebook, load_codebook
from relclass.config import DataSettings
from relclass.errors import DataError, MissingExtraError
from relclass.labelled import passage_to_dict, read_labelled, write_labelled
from relclass.real_passages import RealLabel, join_texts, read_real, read_real_labels
from relclass.records import LabelledPassage
from relclass.split_file import (
    EMPTY,
    REMAKE,
    Splits,
    extend_splits,
    read_splits,
    splits_checksum,
    text_hash,
    write_splits,
)
from relclass.splits import SPLITS

if TYPE_CHECKING:
    import datasets

__all__ = [
    "Arrays",
    "Dataset",
    "load_dataset",
    "make_splits",
    "read_labelled",
    "read_real",
    "splits_checksum",
    "to_arrays",
    "to_hf",
    "write_labelled",
]


class Arrays(NamedTuple):
    """Passages as columns.

    Parameters
    ----------
    texts, languages : one per passage.
    y_true : shape (n_passages, n_topics), uint8, in codebook order.
    weights : shape (n_passages, n_topics), float32, of each label in the loss; >= 0.
    """

    texts: list[str]
    languages: list[str]
    y_true: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """The labelled passages of a run.

    Parameters
    ----------
    passages : authored ones first, then real ones.
    splits : "train", "validation" or "test" of each passage, shape (n_passages,).
    codebook : whose topics the passages have.
    checksum : of what was loaded: the splits file's version, the texts by origin, the labels.
    n_missing : real passages whose texts were not found, and which are left out.
    """

    passages: tuple[LabelledPassage, ...]
    splits: np.ndarray
    codebook: Codebook
    checksum: dict[str, str] = field(default_factory=dict)
    n_missing: int = 0

    def part(self, split: str, *, origin: str | None = None) -> list[LabelledPassage]:
        """Return the passages of a split, of one origin or of both.

        Raises
        ------
        ValueError
            If there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"Got split={split!r} but expected one of {', '.join(SPLITS)}.")
        return [
            passage
            for passage, name in zip(self.passages, self.splits, strict=True)
            if name == split and origin in (None, passage.origin)
        ]


def load_dataset(settings: DataSettings | None = None) -> Dataset:
    """Read the labelled passages of a run and the split of each.

    Real passages whose texts are not found are left out, counted in `Dataset.n_missing` and
    warned of. Their labels still take part in the checksum.

    Raises
    ------
    DataError
        If a file cannot be read, a passage has no split yet, or a passage was added, removed or
        its text changed since the splits were made. Changed labels are no reason to refuse.
    """
    settings = settings or DataSettings()
    codebook = load_codebook(settings.codebook)
    splits = read_splits(settings.splits)
    authored, labels = _read_authored(settings, codebook), _read_labels(settings, codebook)
    real, n_missing = join_texts(labels, settings.real_texts) if labels else ([], 0)
    passages = (*authored, *real)
    names = [splits.split_of(passage) for passage in passages]
    for passage, name in zip(passages, names, strict=True):
        if name is None:
            raise DataError(
                f"{settings.splits}: passage {passage.passage_id!r} of article "
                f"{passage.article_id!r} has no split; {REMAKE}"
            )
    checksum = _verify(splits, authored, labels, where=str(settings.splits))
    topics = ((passage.passage_id, ",".join(passage.topics)) for passage in passages)
    return Dataset(
        passages=passages,
        splits=np.array(names, dtype="<U10"),
        codebook=codebook,
        checksum=checksum | {"labels": splits_checksum(topics)},
        n_missing=n_missing,
    )


def make_splits(
    settings: DataSettings | None = None, *, new_to_train: bool = False, forget: bool = False
) -> Splits:
    """Give every passage of a run a split, keep those made before, and write the splits file.

    Parameters
    ----------
    new_to_train : as in `relclass.split_file.extend_splits`.
    forget : drop the splits of articles and real passages that are no longer in the data.

    Raises
    ------
    DataError
        If a file cannot be read, or a real passage's text is not found: near-duplicates cannot
        be looked for without it. Without `forget`, if the splits file holds more than the data.
    """
    settings = settings or DataSettings()
    codebook = load_codebook(settings.codebook)
    old = read_splits(settings.splits) if Path(settings.splits).exists() else EMPTY
    authored, labels = _read_authored(settings, codebook), _read_labels(settings, codebook)
    if not forget:
        _check_all_given(old, authored, labels, where=str(settings.splits))
    real, n_missing = join_texts(labels, settings.real_texts) if labels else ([], 0)
    if n_missing:
        raise DataError(
            f"{settings.real_labels}: {n_missing} passages have no text; give data.real_texts "
            "the files that hold them (scripts/hydrate.py rebuilds one)"
        )
    new = extend_splits([*real, *authored], old, new_to_train=new_to_train)
    if new is not old:
        write_splits(new, settings.splits)
    return new


def to_arrays(
    passages: Sequence[LabelledPassage],
    codebook: Codebook,
    *,
    unsure_weight: float = 1.0,
    authored_weight: float = 1.0,
) -> Arrays:
    """Turn passages into columns.

    Parameters
    ----------
    unsure_weight : weight of a topic that the annotator was unsure of, in [0, 1].
    authored_weight : weight of an authored passage beside a real one, >= 0.
    """
    names = codebook.names
    y_true = np.zeros((len(passages), len(names)), dtype=np.uint8)
    weights = np.ones((len(passages), len(names)), dtype=np.float32)
    for row, passage in enumerate(passages):
        y_true[row] = [name in passage.topics for name in names]
        weights[row, [name in passage.unsure for name in names]] = unsure_weight
        if passage.origin == "authored":
            weights[row] *= authored_weight
    return Arrays(
        texts=[passage.text for passage in passages],
        languages=[passage.language for passage in passages],
        y_true=y_true,
        weights=weights,
    )


def to_hf(dataset: Dataset) -> datasets.DatasetDict:
    """Turn the data into a `datasets.DatasetDict`, a table for each split.

    Columns are those of `LabelledPassage` (dates as ISO text) and "labels", float32 multi-hot in
    codebook order, as transformers wants them for multi-label problems.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "train") from error
    text, texts = datasets.Value("string"), datasets.Sequence(datasets.Value("string"))
    labels = datasets.Sequence(datasets.Value("float32"), length=len(dataset.codebook.names))
    kinds = {"topics": texts, "unsure": texts, "scraped": datasets.Value("bool")}
    columns = LabelledPassage.__dataclass_fields__
    features = datasets.Features(
        {name: kinds.get(name, text) for name in columns} | {"labels": labels}
    )
    tables = {}
    for split in SPLITS:
        part = dataset.part(split)
        y_true = to_arrays(part, dataset.codebook).y_true.astype(np.float32)
        rows = [
            passage_to_dict(passage) | {"labels": row}
            for passage, row in zip(part, y_true.tolist(), strict=True)
        ]
        by_column = {name: [row[name] for row in rows] for name in features}
        tables[split] = datasets.Dataset.from_dict(by_column, features=features)
    return datasets.DatasetDict(tables)


def _read_authored(settings: DataSettings, codebook: Codebook) -> list[LabelledPassage]:
    passages = [p for path in settings.authored for p in read_labelled(path, codebook)]
    seen: set[str] = set()
    for passage in passages:
        if passage.passage_id in seen:
            paths = ", ".join(map(str, settings.authored))
            raise DataError(f"{paths}: passage {passage.passage_id!r} is given twice")
        seen.add(passage.passage_id)
    return passages


def _read_labels(settings: DataSettings, codebook: Codebook) -> list[RealLabel]:
    return [] if settings.real_labels is None else read_real_labels(settings.real_labels, codebook)


def _check_all_given(
    splits: Splits, authored: Sequence[LabelledPassage], labels: Sequence[RealLabel], *, where: str
) -> None:
    """Refuse data that lack articles or real passages of the splits file."""
    n_articles = len(splits.articles.keys() - {passage.article_id for passage in authored})
    n_real = len(splits.passages.keys() - {label.id for label in labels})
    absent = [
        f"{n:,} {kind} ({option})"
        for n, kind, option in (
            (n_articles, "authored articles", "--authored"),
            (n_real, "real passages", "--real-labels, --real-texts"),
        )
        if n
    ]
    if absent:
        raise DataError(
            f"{where}: it holds {' and '.join(absent)} that are not in the data given, and would "
            "lose their splits; give them too, or another file as --splits, or --forget if they "
            "are gone for good"
        )


def _verify(
    splits: Splits, authored: Sequence[LabelledPassage], labels: Sequence[RealLabel], *, where: str
) -> dict[str, str]:
    """Return the checksums of what was read, if they are those of the splits file."""
    hashes: dict[str, list[tuple[str, str]]] = {}
    for passage in authored:
        pair = passage.passage_id, text_hash(passage.text)
        hashes.setdefault(passage.origin, []).append(pair)
    for label in labels:
        hashes.setdefault("real", []).append((label.id, label.id))
    checksum = {"splits": f"version {splits.version}"}
    for origin, pairs in sorted(hashes.items()):
        checksum[origin] = splits_checksum(pairs)
        if checksum[origin] != splits.checksum.get(origin):
            raise DataError(
                f"{where}: the {origin} passages are not those that were split: a text was "
                f"changed, added or removed since (checksum {checksum[origin]}, expected "
                f"{splits.checksum.get(origin)}); {REMAKE}"
            )
    return checksum
