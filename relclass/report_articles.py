"""Labelled articles -> the body of their page: articles to read, filters, topics over time."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relclass.errors import DataError
from relclass.records import Article, Prediction
from relclass.report_charts import timeline
from relclass.report_markup import (
    Attributes,
    Markup,
    element,
    isolated,
    join,
    passage_attributes,
    topic_class,
)

MIN_SHOWN = 0.05
"""A probability below this gets no label on the page, whatever the slider says."""
_MAX_MONTHS = 36


@dataclass(frozen=True, slots=True)
class LabelledArticle:
    """An article with its predictions, ready to read.

    Parameters
    ----------
    passages : in the order of the text.
    """

    article_id: str
    passages: tuple[Prediction, ...]
    title: str | None = None
    date: datetime.date | None = None
    source: str | None = None

    @property
    def topics(self) -> Counter[str]:
        """Passages of each topic."""
        return Counter(topic for passage in self.passages for topic in passage.topics)


def gather_articles(
    predictions: Iterable[Prediction], articles: Iterable[Article] = ()
) -> list[LabelledArticle]:
    """Bring passages together by article, newest article first where dates are known.

    Parameters
    ----------
    articles : give title, date and source; those without predictions are passed over.

    Raises
    ------
    DataError
        If the predictions are of different topics.
    """
    by_article: dict[str, list[Prediction]] = {}
    topics: Sequence[str] | None = None
    for prediction in predictions:
        topics = topics or tuple(prediction.probabilities)
        if set(prediction.probabilities) != set(topics):
            raise DataError(
                f"passage {prediction.passage_id!r} has the topics "
                f"{', '.join(prediction.probabilities)}, those before it {', '.join(topics)}; "
                "report each model's predictions by themselves"
            )
        by_article.setdefault(prediction.article_id, []).append(prediction)
    known = {article.article_id: article for article in articles}
    gathered = []
    for article_id, passages in by_article.items():
        article = known.get(article_id)
        gathered.append(
            LabelledArticle(
                article_id=article_id,
                passages=tuple(sorted(passages, key=lambda passage: passage.index)),
                title=article.title if article else None,
                date=article.date if article else None,
                source=article.source if article else None,
            )
        )
    oldest = datetime.date.min
    return sorted(gathered, key=lambda article: article.date or oldest, reverse=True)


def topic_names(articles: Sequence[LabelledArticle]) -> tuple[str, ...]:
    """Name the topics, in the order of the predictions' probabilities."""
    first = next((p for article in articles for p in article.passages), None)
    return tuple(first.probabilities) if first else ()


def count_over_time(
    articles: Sequence[LabelledArticle], topics: Sequence[str]
) -> tuple[list[str], list[int], dict[str, list[int]]]:
    """Count passages by month, or by year where there are more than three years.

    Returns
    -------
    Periods without a gap, passages of each, and those of each topic. Articles without a date
    are left out.
    """
    dated = [(article.date, article) for article in articles if article.date]
    if not dated:
        return [], [], {topic: [] for topic in topics}
    first, last = min(day for day, _ in dated), max(day for day, _ in dated)
    n_months = 12 * (last.year - first.year) + last.month - first.month + 1
    by_month = n_months <= _MAX_MONTHS
    if by_month:
        months = (12 * first.year + first.month - 1 + k for k in range(n_months))
        periods = [f"{month // 12:04d}-{month % 12 + 1:02d}" for month in months]
    else:
        periods = [f"{year:04d}" for year in range(first.year, last.year + 1)]
    place = {period: k for k, period in enumerate(periods)}
    totals = [0] * len(periods)
    counts = {topic: [0] * len(periods) for topic in topics}
    for day, article in dated:
        k = place[period_of(day, by_month=by_month)]
        totals[k] += len(article.passages)
        for topic, n in article.topics.items():
            counts[topic][k] += n
    return periods, totals, counts


def period_of(day: datetime.date, *, by_month: bool) -> str:
    """Name the month or the year of a day."""
    return day.isoformat()[: 7 if by_month else 4]


def articles_body(articles: Sequence[LabelledArticle]) -> Markup:
    """Build the page of labelled articles."""
    topics = topic_names(articles)
    periods, totals, counts = count_over_time(articles, topics)
    n_passages = sum(len(article.passages) for article in articles)
    languages = sorted({p.language for article in articles for p in article.passages})
    models = sorted({p.model for article in articles for p in article.passages})
    about = (
        f"{n_passages:,} passages of {len(articles):,} articles, labelled by {', '.join(models)}."
    )
    chart = None
    if len(periods) > 1:
        chart = element(
            "section", {"id": "time", "aria-labelledby": "time-title"},
            element("h2", {"id": "time-title"}, "Topics over time"),
            timeline(counts, periods, totals),
            element("p", {"class": "quiet"}, "Share of the passages of each period."),
        )  # fmt: skip
    numbered = {period: k for k, period in enumerate(periods)}
    listed = [_article(article, k, topics, numbered, totals) for k, article in enumerate(articles)]
    empty = element("p", {"id": "empty", "hidden": True}, "No article fits the filters.")
    return join([
        element("p", {"class": "about"}, about),
        _topic_counts(articles, topics, n_passages),
        chart,
        _controls(topics, languages),
        element("div", {"class": "reader"}, _contents(articles, topics),
                element("div", {"id": "articles"}, *listed, empty)),
    ])  # fmt: skip


def _topic_counts(
    articles: Sequence[LabelledArticle], topics: Sequence[str], n_passages: int
) -> Markup:
    total: Counter[str] = Counter()
    for article in articles:
        total.update(article.topics)
    cards = []
    for k, topic in enumerate(topics):
        share = f"{total[topic] / n_passages:.1%} of passages" if n_passages else ""
        value = element("span", {"class": "value", "data-count": k}, f"{total[topic]:,}")
        small = element("small", {"data-share": k}, share)
        term = element("dt", {}, element("span", {"class": f"name {topic_class(k)}"}, topic))
        cards.append(element("div", {"class": "card"}, term, element("dd", {}, value, small)))
    return element("dl", {"class": "cards"}, *cards)


def _controls(topics: Sequence[str], languages: Sequence[str]) -> Markup:
    boxes = [
        element(
            "label", {"class": f"toggle {topic_class(k)}"},
            element("input", {"type": "checkbox", "name": "topic", "value": k}), topic,
        )
        for k, topic in enumerate(topics)
    ]  # fmt: skip
    slider = element(
        "input",
        {"type": "range", "id": "threshold", "min": MIN_SHOWN, "max": "0.95", "step": "0.01",
         "value": "0.5", "aria-describedby": "threshold-value"},
    )  # fmt: skip
    options = [element("option", {"value": ""}, "all")] + [
        element("option", {"value": code}, code) for code in languages
    ]
    return element(
        "form",
        {"class": "controls", "id": "controls", "aria-label": "Filters"},
        element("fieldset", {}, element("legend", {}, "only with"), *boxes),
        element(
            "label", {"class": "control"}, "threshold ", slider,
            element("output", {"id": "threshold-value", "for": "threshold"}, "model's own"),
        ),
        element(
            "button",
            {"type": "button", "id": "own", "aria-label": "Use the model's own thresholds"},
            "reset",
        ),
        element("label", {"class": "control"}, "language ",
                element("select", {"id": "language"}, *options)),
        element("label", {"class": "control"}, "find ",
                element("input", {"type": "search", "id": "find"})),
        element("p", {"id": "state", "class": "quiet", "role": "status"}, ""),
        element("p", {"class": "quiet keys"}, "j and k: next and last labelled passage"),
    )  # fmt: skip


def _contents(articles: Sequence[LabelledArticle], topics: Sequence[str]) -> Markup:
    items = []
    for k, article in enumerate(articles):
        dots = [
            element("span", {"class": f"swatch {topic_class(n)}", "title": topic})
            for n, topic in enumerate(topics)
            if article.topics[topic]
        ]
        link = element("a", {"href": f"#a{k}"}, _title(article))
        place: Attributes = {"data-article": k, "dir": _direction(article)}
        items.append(element("li", place, link, element("span", {}, *dots)))
    return element("nav", {"aria-label": "Articles"}, element("ol", {}, *items))


def _title(article: LabelledArticle) -> str:
    if article.title:
        return article.title
    first = article.passages[0].text.strip() if article.passages else ""
    return (
        first
        if 0 < len(first) <= 70
        else f"{first[:70].rsplit(' ', 1)[0]}…"
        if first
        else (article.article_id)
    )


def _direction(article: LabelledArticle) -> str:
    """Give the direction of the article's title and lines: that of its first passage."""
    return passage_attributes(article.passages[0].language)["dir"] if article.passages else "auto"


def _article(
    article: LabelledArticle,
    number: int,
    topics: Sequence[str],
    periods: Mapping[str, int],
    totals: Sequence[int],
) -> Markup:
    facts = [article.date.isoformat() if article.date else None, article.source]
    known = [isolated(fact) for fact in (*facts, article.article_id) if fact]
    line = [part for fact in known for part in (fact, " · ")][:-1]
    period = None
    if article.date:
        keys = {len(key): key for key in periods}
        width = next(iter(keys), 4)
        period = periods.get(article.date.isoformat()[:width])
    direction = _direction(article)
    attributes: Attributes = {"id": f"a{number}", "class": "article", "data-period": period}
    return element(
        "article",
        attributes,
        element("h3", {"dir": direction}, _title(article)),
        element("p", {"class": "quiet", "dir": direction}, *line),
        *(_passage(passage, topics) for passage in article.passages),
    )


def _passage(passage: Prediction, topics: Sequence[str]) -> Markup:
    given = [k for k, topic in enumerate(topics) if topic in passage.topics]
    strongest = max(given, key=lambda k: passage.probabilities[topics[k]], default=None)
    chips = [
        element(
            "span",
            {"class": f"chip {topic_class(k)}", "data-topic": k, "hidden": k not in given},
            topic, " ", element("b", {}, f"{passage.probabilities[topic]:.2f}"),
        )
        for k, topic in enumerate(topics)
        if k in given or passage.probabilities[topic] >= MIN_SHOWN
    ]  # fmt: skip
    tint = "" if strongest is None else f" has-topic {topic_class(strongest)}"
    attributes = {
        "class": f"passage{tint}",
        "tabindex": "-1",
        "data-own": " ".join(map(str, given)),
        "data-prob": " ".join(f"{passage.probabilities[topic]:.3f}" for topic in topics),
        "data-language": passage.language,
    }
    text = element("p", {"class": "text", **passage_attributes(passage.language)}, passage.text)
    return element("div", attributes, text, element("p", {"class": "chips"}, *chips))
