"""What travels on the data's path: articles, passages, predictions. No input or output here."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of an article's text that is page furniture.

    Parameters
    ----------
    start, end : characters of the article's text, half-open.
    kind : what it is, such as "news_code", "date", "source", "read_more", "end_mark".
    """

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Article:
    """One article as read.

    Parameters
    ----------
    article_id : unique within a run.
    text : the article as it was read, furniture included; every offset points into it.
    title, date, source, news_code : where the text or the record carries them.
    language : a language code given by the record, or None to have it detected.
    path, line : the file it came from and, in a file of many records, its 1-based line or row.
    furniture : page furniture, in ascending order, not overlapping; it takes no topic.
    """

    article_id: str
    text: str
    title: str | None = None
    date: datetime.date | None = None
    source: str | None = None
    news_code: str | None = None
    language: str | None = None
    path: str | None = None
    line: int | None = None
    furniture: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """The piece of an article that gets topics.

    Parameters
    ----------
    passage_id : "{article_id}/{index}".
    index : position among the article's passages, from 0.
    start, end : characters of the article's text, half-open; ``article.text[start:end] == text``.
    language : "fa", "ar", "az", "tr", "en", "ru" or "other".
    """

    article_id: str
    passage_id: str
    index: int
    start: int
    end: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A passage with its topics.

    Parameters
    ----------
    topics : those whose probability reached its threshold, in codebook order; often none.
    probabilities : topic to probability, in [0, 1], in codebook order.
    model : name of the model that made it.
    """

    article_id: str
    passage_id: str
    index: int
    start: int
    end: int
    language: str
    text: str
    topics: tuple[str, ...]
    probabilities: Mapping[str, float]
    model: str


@dataclass(frozen=True, slots=True)
class LabelledPassage:
    """A passage with the topics that an annotator gave it.

    Parameters
    ----------
    article_id : passages of one article never fall in two splits.
    origin : "authored" (written for this project) or "real" (from the press).
    unsure : topics, given or not, on which a second reader might differ.
    scraped : whether the text carries a scraper's damage, where known.
    note : the annotator's remark on a close call.
    """

    passage_id: str
    article_id: str
    text: str
    language: str
    topics: tuple[str, ...]
    origin: str = "authored"
    unsure: tuple[str, ...] = ()
    title: str | None = None
    date: datetime.date | None = None
    source: str | None = None
    genre: str | None = None
    scraped: bool | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """An input that could not be used, kept so that nothing is lost in silence.

    Parameters
    ----------
    path : the file, or "<stdin>".
    line : 1-based line or row, or None where the whole file was refused.
    reason : what came, what was expected, the way out.
    raw : the bytes of the record as they stood, or b"" where a whole file was refused.
    """

    path: str
    line: int | None
    reason: str
    raw: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}"
