"""Chunk -> part: labels a chunk of articles and writes it, complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from relclass.batching import BatchSettings
from relclass.chunks import Chunk
from relclass.errors import ConfigError, DataError
from relclass.loading import Device, load_classifier
from relclass.models.base import Classifier
from relclass.passages import PassageSettings
from relclass.predict import ArticleTopics, article_topics, label_articles
from relclass.records import Article, Prediction, Reject
from relclass.summary import Tally, tally_articles
from relclass.writers import OutputFormat, Unit, encode_part, encode_rejects


@dataclass(frozen=True)
class LabelSettings:
    """What a worker needs to label chunks; travels to other processes and machines.

    Parameters
    ----------
    model : a shipped name or a model folder.
    device : "cpu", "cuda" or "mps".
    n_threads : of the model in one worker; None leaves it to the model.
    parts_dir : where the parts are written.
    output : their format.
    passages, batching : how articles are cut and passages put together.
    """

    model: str
    device: Device
    n_threads: int | None
    parts_dir: Path
    output: OutputFormat
    passages: PassageSettings = field(default_factory=PassageSettings)
    batching: BatchSettings = field(default_factory=BatchSettings)


@dataclass(frozen=True)
class Part:
    """A finished part, as its JSON file beside it says.

    Parameters
    ----------
    n_read : records of the chunk.
    n_articles, n_rejects : those labelled and those refused.
    n_passages, n_records : passages labelled; lines or rows written.
    digest : of the chunk.
    sha256 : of the data file, hexadecimal.
    tallies : counts by month for the summary.
    """

    number: int
    n_read: int
    n_articles: int
    n_rejects: int
    n_passages: int
    n_records: int
    digest: str
    sha256: str
    tallies: tuple[Tally, ...]

    def to_json(self) -> str:
        """Give the part as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Read back what `to_json` gave."""
        content: dict[str, Any] = json.loads(text)
        content["tallies"] = tuple(Tally.from_dict(tally) for tally in content["tallies"])
        return cls(**content)


def data_path(parts_dir: Path, number: int) -> Path:
    """Name the file that holds a part's records."""
    return parts_dir / f"part-{number:06d}.data"


def rejects_path(parts_dir: Path, number: int) -> Path:
    """Name the file that holds a part's rejects, where there are any."""
    return parts_dir / f"part-{number:06d}.rejects"


def state_path(parts_dir: Path, number: int) -> Path:
    """Name the file that says that a part is finished; it is written last."""
    return parts_dir / f"part-{number:06d}.json"


def load_labeller(settings: LabelSettings) -> Callable[[Chunk], Part]:
    """Load the model and return what labels chunks with it."""
    clf = load_classifier(settings.model, device=settings.device, n_threads=settings.n_threads)
    return partial(label_chunk, clf=clf, settings=settings)


def label_chunk(chunk: Chunk, clf: Classifier, settings: LabelSettings) -> Part:
    """Label the articles of a chunk and write them as a part.

    Raises
    ------
    DataError
        If the disk is full.
    """
    articles, unfit = sort_out(chunk.articles)
    predictions = label_articles(
        articles, clf, passages=settings.passages, batching=settings.batching
    )
    records = to_records(articles, predictions, clf, settings.output.unit)
    data, n_records = encode_part(records, settings.output)
    rejects = [*chunk.rejects, *unfit]
    if rejects:
        write_atomically(rejects_path(settings.parts_dir, chunk.number), encode_rejects(rejects))
    write_atomically(data_path(settings.parts_dir, chunk.number), data)
    part = Part(
        number=chunk.number,
        n_read=len(chunk.articles) + len(chunk.rejects),
        n_articles=len(articles),
        n_rejects=len(rejects),
        n_passages=sum(len(group) for group in predictions),
        n_records=n_records,
        digest=chunk.digest,
        sha256=hashlib.sha256(data).hexdigest(),
        tallies=tuple(tally_articles(articles, predictions, clf.topics)),
    )
    write_atomically(state_path(settings.parts_dir, chunk.number), part.to_json().encode())
    return part


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Raises
    ------
    DataError, ConfigError
        If the disk is full or the folder must not be written to.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with explain_failed_write(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def explain_failed_write(path: Path) -> Iterator[None]:
    """Turn the system's error for a full disk, or one without rights, into one with a way out.

    Parameters
    ----------
    path : what is written, where the system does not name the file.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{where}: no space left on the disk. What is finished is kept: make room and run "
                "the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ConfigError(
                f"{where}: cannot write there: {error.strerror}. Choose an output elsewhere, or "
                "ask for the right to write."
            ) from error
        raise


def sort_out(articles: Sequence[Article]) -> tuple[list[Article], list[Reject]]:
    """Part the articles that can be written as UTF-8 from those that cannot, as rejects."""
    fit, unfit = [], []
    for article in articles:
        try:
            article.text.encode("utf-8")
            article.article_id.encode("utf-8")
            fit.append(article)
        except UnicodeEncodeError as error:
            reason = (
                f"character {error.start} of the article is half of a surrogate pair "
                f"({error.object[error.start]!r}), which no UTF-8 output can hold"
            )
            raw = article.text.encode("utf-8", errors="surrogatepass")
            unfit.append(Reject(article.path or "<unknown>", article.line, reason, raw))
    return fit, unfit


def to_records(
    articles: Sequence[Article],
    predictions: Sequence[Sequence[Prediction]],
    clf: Classifier,
    unit: Unit,
) -> Iterator[Prediction | ArticleTopics]:
    """Give the records of articles: one a passage, or one an article, also without a passage."""
    for article, members in zip(articles, predictions, strict=True):
        if unit == "article":
            yield article_topics(article.article_id, members, clf.topics, clf.name)
        else:
            yield from members
