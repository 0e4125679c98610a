"""Predictions -> how much of an article, a month or an archive speaks of each topic.

A share carries a Wilson interval (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)
over the effective number of passages: those of one article are alike, so they count for less than
as many drawn one by one, the more so where few articles tell how alike (Kish 1965; Korn and
Graubard 1998). Where the classifier's error rates are known the share is corrected for them (Rogan
and Gladen 1978,
https://doi.org/10.1093/oxfordjournals.aje.a112510).
"""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, get_args

from relclass.records import Article, Prediction

By = Literal["article", "month", "all"]

UNDATED = "undated"
"""The group of articles that carry no date."""


@dataclass(frozen=True, slots=True)
class TopicCount:
    """How often a topic occurs in a group of articles; with x passages of n in an article.

    Parameters
    ----------
    n_passages : sum of x.
    n_articles : articles with x > 0.
    squares, products : sums of x * x and of x * n over the articles, for the interval.
    """

    n_passages: int = 0
    n_articles: int = 0
    squares: int = 0
    products: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a group of articles; two of one group add up.

    Parameters
    ----------
    group : an article's id, a month such as "2023-05", `UNDATED`, or "all".
    n_articles, n_passages : in the group; an article without a passage does not count.
    squares : sum over the articles of their passages squared.
    topics : every topic's counts, in codebook order.
    """

    group: str
    n_articles: int
    n_passages: int
    squares: int
    topics: dict[str, TopicCount]

    def __add__(self, other: Tally) -> Tally:
        topics = {
            topic: TopicCount(*(a + b for a, b in zip(_values(c), _values(d), strict=True)))
            for (topic, c), d in zip(self.topics.items(), other.topics.values(), strict=True)
        }
        return Tally(
            self.group,
            self.n_articles + other.n_articles,
            self.n_passages + other.n_passages,
            self.squares + other.squares,
            topics,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Tally:
        """Read back what `dataclasses.asdict` gave."""
        topics = {topic: TopicCount(**count) for topic, count in content["topics"].items()}
        return cls(**{**content, "topics": topics})


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """How a classifier errs on one topic, measured against a reader's labels.

    Parameters
    ----------
    sensitivity : share of the topic's passages that it finds, in [0, 1].
    specificity : share of the other passages that it leaves alone, in [0, 1].

    Raises
    ------
    ValueError
        If the two do not sum to more than 1: such a classifier says nothing about the share.
    """

    sensitivity: float
    specificity: float

    def __post_init__(self) -> None:
        rates = (self.sensitivity, self.specificity)
        if not all(0 <= rate <= 1 for rate in rates) or sum(rates) <= 1:
            raise ValueError(
                f"Got sensitivity={rates[0]}, specificity={rates[1]} but expected two shares in "
                "[0, 1] that sum to more than 1: no better than chance cannot be corrected for."
            )


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One topic in one group.

    Parameters
    ----------
    n_articles, n_passages : in the group; an article without a passage, nothing but page
        furniture, says nothing about the share and does not count.
    n_articles_topic, n_passages_topic : those with the topic.
    share, low, high : of the passages, with its interval, in [0, 1]; NaN without passages.
        The interval of a group that is an article takes its passages as independent, that of any
        other group as `effective_passages` tells.
    corrected, corrected_low, corrected_high : the same after the correction; NaN where the error
        rates are not known. The interval takes the error rates as exact.
    """

    group: str
    topic: str
    n_articles: int
    n_passages: int
    n_articles_topic: int
    n_passages_topic: int
    share: float
    low: float
    high: float
    corrected: float = math.nan
    corrected_low: float = math.nan
    corrected_high: float = math.nan


@dataclass(frozen=True)
class Summary:
    """Topics by group; groups in order, topics in codebook order within each."""

    by: By
    rows: tuple[SummaryRow, ...]

    def to_rows(self) -> list[dict[str, Any]]:
        """Give the rows as dicts, for ``pandas.DataFrame(summary.to_rows())``."""
        return [asdict(row) for row in self.rows]

    def write_csv(self, path: str | Path) -> None:
        """Write the rows as CSV; what is not known stays empty."""
        with Path(path).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(column.name for column in fields(SummaryRow))
            for row in self.to_rows():
                writer.writerow(_cell(value) for value in row.values())


def summarize(
    predictions: Iterable[Prediction],
    *,
    by: By = "article",
    dates: Mapping[str, datetime.date | None] | None = None,
    error_rates: Mapping[str, ErrorRates | Mapping[str, float]] | None = None,
    confidence: float = 0.95,
) -> Summary:
    """Count topics by article, by month or over everything.

    Parameters
    ----------
    predictions : those of one article next to each other, as `predict_articles` gives them.
    by : what a group is.
    dates : article_id to the article's date; needed for months.
    error_rates : topic to its sensitivity and specificity, such as ``clf.card["error_rates"]``;
        a topic that is missing stays uncorrected.
    confidence : of the intervals, in (0, 1).

    Raises
    ------
    ValueError
        If `by` is none of these, months are asked for without dates, or error rates cannot be
        used.
    """
    if by not in get_args(By):
        raise ValueError(f"Got by={by!r} but expected one of {', '.join(get_args(By))}.")
    if by == "month" and dates is None:
        raise ValueError(
            'Got by="month" without dates: pass dates={article.article_id: article.date, ...}.'
        )
    tallies = []
    for article_id, group in groupby(predictions, key=lambda prediction: prediction.article_id):
        members = list(group)
        name = {"article": article_id, "all": "all"}.get(by)
        if name is None:
            name = month_name((dates or {}).get(article_id))
        tallies.append(_tally(name, members, tuple(members[0].probabilities)))
    return summarize_tallies(tallies, by=by, error_rates=error_rates, confidence=confidence)


def summarize_tallies(
    tallies: Iterable[Tally],
    *,
    by: By,
    error_rates: Mapping[str, ErrorRates | Mapping[str, float]] | None = None,
    confidence: float = 0.95,
) -> Summary:
    """Summarize counts that were made before; parameters as in `summarize`."""
    merged = merge_tallies(tallies)
    groups = list(merged) if by == "article" else sorted(merged)
    rates = {
        topic: rate if isinstance(rate, ErrorRates) else ErrorRates(**rate)
        for topic, rate in (error_rates or {}).items()
    }
    rows = [
        _summary_row(merged[group], topic, rates.get(topic), by=by, confidence=confidence)
        for group in groups
        for topic in merged[group].topics
    ]
    return Summary(by, tuple(rows))


def tally_articles(
    articles: Sequence[Article],
    predictions: Sequence[Sequence[Prediction]],
    topics: Sequence[str],
) -> list[Tally]:
    """Count topics by month.

    Parameters
    ----------
    predictions : one sequence an article; one that is empty does not count, as in `summarize`.
    topics : names of all topics, in codebook order.
    """
    tallies = [
        _tally(month_name(article.date), members, topics)
        for article, members in zip(articles, predictions, strict=True)
        if members
    ]
    return list(merge_tallies(tallies).values())


def merge_tallies(tallies: Iterable[Tally]) -> dict[str, Tally]:
    """Add up the tallies of each group, in order of first appearance."""
    merged: dict[str, Tally] = {}
    for tally in tallies:
        merged[tally.group] = merged[tally.group] + tally if tally.group in merged else tally
    return merged


def month_name(date: datetime.date | None) -> str:
    """Name the Gregorian month of a date, such as "2023-05"."""
    return UNDATED if date is None else f"{date:%Y-%m}"


def wilson_interval(share: float, n: float, z: float) -> tuple[float, float]:
    """Give Wilson's interval of a share.

    Parameters
    ----------
    share : observed, in [0, 1].
    n : observations, above 0; an effective number need not be whole.
    z : standard normal quantile, 1.96 for 95 %.
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def correct_share(share: float, rates: ErrorRates) -> float:
    """Correct an observed share for the classifier's error rates, into [0, 1]."""
    corrected = (share + rates.specificity - 1) / (rates.sensitivity + rates.specificity - 1)
    return min(1.0, max(0.0, corrected))


def effective_passages(tally: Tally, topic: str, *, confidence: float = 0.95) -> float:
    """Give the number of independent passages that would tell as much about the share.

    Passages over the design effect, the variance of the share between articles, by
    linearisation, over that of a plain sample (Kish 1965), and never more than the passages;
    times the squared ratio of Student's quantiles at passages - 1 and articles - 1 degrees of
    freedom, since few articles tell little of their own variance (Korn and Graubard 1998). One
    article, or a topic that all passages have or none, tells nothing of that variance: there
    the articles count, as if each spoke with one voice.

    Parameters
    ----------
    confidence : of the interval, in (0, 1).
    """
    from scipy.special import stdtrit

    count = tally.topics[topic]
    n, m = tally.n_passages, tally.n_articles
    share = count.n_passages / n
    plain = share * (1 - share) / n
    if m < 2 or plain == 0:
        return m
    spread = count.squares - 2 * share * count.products + share * share * tally.squares
    clustered = m / (m - 1) * spread / (n * n)
    quantile = (1 + confidence) / 2
    few = float(stdtrit(n - 1, quantile) / stdtrit(m - 1, quantile)) ** 2
    return max(1.0, few * n / max(1.0, clustered / plain))


def _summary_row(
    tally: Tally, topic: str, rates: ErrorRates | None, *, by: By, confidence: float
) -> SummaryRow:
    count = tally.topics[topic]
    share = low = high = math.nan
    if tally.n_passages:
        share = count.n_passages / tally.n_passages
        is_one = by == "article"
        n = tally.n_passages if is_one else effective_passages(tally, topic, confidence=confidence)
        low, high = wilson_interval(share, n, NormalDist().inv_cdf((1 + confidence) / 2))
    corrected = (math.nan, math.nan, math.nan)
    if rates is not None and tally.n_passages:
        corrected = (
            correct_share(share, rates),
            correct_share(low, rates),
            correct_share(high, rates),
        )
    return SummaryRow(
        tally.group,
        topic,
        tally.n_articles,
        tally.n_passages,
        count.n_articles,
        count.n_passages,
        share,
        low,
        high,
        *corrected,
    )


def _tally(group: str, members: Sequence[Prediction], topics: Sequence[str]) -> Tally:
    n = len(members)
    counts = {}
    for topic in topics:
        x = sum(topic in prediction.topics for prediction in members)
        counts[topic] = TopicCount(x, int(x > 0), x * x, x * n)
    return Tally(group, 1, n, n * n, counts)


def _values(count: TopicCount) -> tuple[int, ...]:
    return count.n_passages, count.n_articles, count.squares, count.products


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else round(value, 6)
    return value
