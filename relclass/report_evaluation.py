"""Evaluation -> the body of its page: figures, curves, slices, mistakes to read."""

from __future__ import annotations

from collections.abc import Sequence

from relclass.error_analysis import Mistake
from relclass.evaluation import Estimate, Evaluation, Scores, Slice
from relclass.metrics import error_at_coverage
from relclass.report_charts import Axes, Series, interval_bar, legend, line_chart, round_up
from relclass.report_markup import (
    Markup,
    element,
    isolated,
    join,
    passage_attributes,
    topic_class,
)

HEADLINES = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_average_precision": "mean average precision",
    "subset_accuracy": "exactly right passages",
    "ece": "calibration error",
}
_TOPIC_COLUMNS = {
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1": "F1",
    "average_precision": "average precision",
    "brier": "Brier",
    "ece": "ECE",
}
DIMENSION_TITLES = {
    "topics": "number of topics",
    "scraped": "scraped or clean",
    "certainty": "annotator's certainty",
    "trap": "codebook trap",
}
COVERAGES = (1.0, 0.9, 0.8, 0.5)
_NOTES = (
    "Intervals: {confidence:.0%}, percentile bootstrap over articles, {n_resamples:,} resamples, "
    "seed {seed}. Passages of one article are drawn together; fewer than five articles, or such "
    "with the topic, get none; nor does the calibration error, which resampling raises.",
    "Macro figures are means over the topics that have a positive passage. A topic without one "
    "has no precision, recall, F1 or average precision: it reads “undefined”. So does precision "
    "where nothing was given the topic; in macro-precision it counts as 0.",
    "Calibration error (ECE): ten bins of equal width, each topic by itself; Brier: mean squared "
    "error of the probability. Lower is better for both.",
    "Coverage: passages are answered from the most to the least certain; the error is the share "
    "of answered passages with any topic wrong.",
    "Traps are found by patterns and by the annotator's remarks; slices of one dimension that "
    "hold all passages are left out.",
)


def evaluation_body(evaluations: Sequence[Evaluation]) -> Markup:
    """Build the page of one model's evaluation, or of several side by side."""
    parts = []
    if len(evaluations) > 1:
        parts.append(_side_by_side(evaluations))
    for number, evaluation in enumerate(evaluations):
        parts.append(_one(evaluation, prefix=f"m{number}-", is_alone=len(evaluations) == 1))
    return join(parts)


def _one(evaluation: Evaluation, *, prefix: str, is_alone: bool) -> Markup:
    sections = [
        _headlines(evaluation.overall),
        _section(f"{prefix}topics", "By topic", _topic_table(evaluation)),
        _section(f"{prefix}curves", "Curves", _curves(evaluation)),
        _section(f"{prefix}slices", "By slice", _slice_table(evaluation)),
        _section(f"{prefix}confusion", "Which topic for which", _confusion(evaluation)),
    ]
    if evaluation.terms:
        sections.append(_section(f"{prefix}terms", "Heaviest terms", _terms(evaluation)))
    if evaluation.mistakes:
        sections.append(
            _section(f"{prefix}mistakes", "Most confident mistakes", _mistakes(evaluation))
        )
    settings = evaluation.bootstrap
    notes = [
        element("li", {}, note.format(
            confidence=settings.confidence, n_resamples=settings.n_resamples, seed=settings.seed,
        ))
        for note in _NOTES
    ]  # fmt: skip
    sections.append(_section(f"{prefix}notes", "How to read this", element("ul", {}, *notes)))
    title = None if is_alone else element("h2", {"class": "model"}, evaluation.model)
    about = element("p", {"class": "about"}, describe(evaluation))
    return element("div", {"class": "evaluation"}, title, about, *sections)


def describe(evaluation: Evaluation) -> str:
    """Say in a line what was evaluated on what."""
    scores = evaluation.overall
    return (
        f"Model {evaluation.model} on {evaluation.data}: {scores.n_passages:,} passages of "
        f"{scores.n_articles:,} articles; codebook {evaluation.codebook_version}."
    )


def describe_abstention(evaluation: Evaluation) -> str:
    """Say in a line how the error falls when the least certain passages are left unlabelled."""
    points = evaluation.curves.abstention
    errors = [(share, error_at_coverage(points, share)) for share in COVERAGES]
    parts = [f"{error:.1%} at {share:.0%}" for share, error in errors if error is not None]
    return f"Passages with any topic wrong, by share answered: {', '.join(parts)}."


def _section(section_id: str, title: str, *children: Markup | None) -> Markup:
    heading = element("h2", {"id": f"{section_id}-title"}, title)
    attributes = {"id": section_id, "aria-labelledby": f"{section_id}-title"}
    return element("section", attributes, heading, *children)


def _figure(estimate: Estimate) -> Markup:
    """Set an estimate as a number with its interval beneath."""
    if estimate.value is None:
        return element("span", {"class": "undefined"}, "undefined")
    interval = None
    if estimate.low is not None and estimate.high is not None:
        interval = element("small", {}, f"{estimate.low:.3f}–{estimate.high:.3f}")
    return join([element("span", {"class": "value"}, f"{estimate.value:.3f}"), interval])


def _headlines(scores: Scores) -> Markup:
    cards = [
        element(
            "div",
            {"class": "card"},
            element("dt", {}, title),
            element("dd", {}, _figure(scores.overall[name])),
        )
        for name, title in HEADLINES.items()
    ]
    return element("dl", {"class": "cards"}, *cards)


def _table(caption: str, head: Sequence[str], rows: Sequence[Markup]) -> Markup:
    columns = [element("th", {"scope": "col"}, title) for title in head]
    table = element(
        "table",
        {},
        element("caption", {"class": "quiet"}, caption),
        element("thead", {}, element("tr", {}, *columns)),
        element("tbody", {}, *rows),
    )
    scrolled = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": caption}
    return element("div", scrolled, table)


def _cells(*children: str | Markup) -> list[Markup]:
    return [element("td", {}, child) for child in children]


def _side_by_side(evaluations: Sequence[Evaluation]) -> Markup:
    rows = [
        element(
            "tr",
            {},
            element("th", {"scope": "row"}, evaluation.model),
            element("td", {}, interval_bar(evaluation.overall.overall["macro_f1"])),
            *_cells(*(_figure(evaluation.overall.overall[name]) for name in HEADLINES)),
        )
        for evaluation in evaluations
    ]
    head = ["model", "macro F1, 0 to 1", *HEADLINES.values()]
    table = _table("Models side by side", head, rows)
    warning = element(
        "p", {"class": "quiet"},
        "Overlapping intervals do not decide between models: `relclass compare` tests the "
        "difference on the same articles.",
    )  # fmt: skip
    return _section("models", "Models side by side", table, warning)


def _topic_table(evaluation: Evaluation) -> Markup:
    rows = []
    for position, topic in enumerate(evaluation.topics):
        scores = evaluation.overall.by_topic[topic]
        name = element("span", {"class": f"name {topic_class(position)}"}, topic)
        rows.append(
            element(
                "tr",
                {},
                element("th", {"scope": "row"}, name),
                *_cells(
                    f"{evaluation.overall.n_positive[topic]:,}",
                    f"{evaluation.overall.n_predicted[topic]:,}",
                    interval_bar(scores["f1"], css_class=topic_class(position)),
                    *(_figure(scores[column]) for column in _TOPIC_COLUMNS),
                ),
            )
        )
    head = ["topic", "in gold", "given", "F1, 0 to 1", *_TOPIC_COLUMNS.values()]
    return _table("Figures of each topic, with intervals", head, rows)


def _curves(evaluation: Evaluation) -> Markup:
    recall, reliable = [], []
    for position, topic in enumerate(evaluation.topics):
        css_class = topic_class(position)
        points = [(p.x, p.y) for p in evaluation.curves.precision_recall[topic]]
        recall.append(Series(topic, points, css_class, is_stepped=True))
        bins = [
            (b.mean_probability, b.share_positive, b.n_passages)
            for b in evaluation.curves.reliability[topic]
            if b.mean_probability is not None and b.share_positive is not None
        ]
        n_passages = max(1, evaluation.overall.n_passages)
        sizes = [n / n_passages for *_, n in bins]
        reliable.append(Series(topic, [(x, y) for x, y, _ in bins], css_class, sizes))
    answered = [(p.x, p.y) for p in evaluation.curves.abstention]
    highest = max((y for _, y in answered), default=0.0)
    charts = [
        _chart("Precision and recall", line_chart(
            recall, Axes("Precision over recall, a line a topic", "recall", "precision"))),
        _chart("Reliability", line_chart(reliable, Axes(
            "Share of passages that have the topic over its mean probability, a line a topic; "
            "dots grow with the passages in the bin; the diagonal is perfect",
            "probability", "share that has the topic", has_diagonal=True))),
        _chart("Error when it may abstain", line_chart(
            [Series("all topics", answered, "all-topics")],
            Axes("Share of answered passages with an error over the share answered",
                 "coverage", "error", y_max=round_up(highest)))),
    ]  # fmt: skip
    return join([
        legend(evaluation.topics), element("div", {"class": "charts"}, *charts),
        element("p", {"class": "quiet"}, describe_abstention(evaluation)),
    ])  # fmt: skip


def _chart(title: str, chart: Markup) -> Markup:
    return element("figure", {}, element("figcaption", {}, title), chart)


def _slice_table(evaluation: Evaluation) -> Markup:
    rows = [_slice_row("all passages", evaluation.overall, evaluation.topics, css_class="whole")]
    dimension = ""
    for one in evaluation.slices:
        if one.dimension != dimension:
            dimension = one.dimension
            title = DIMENSION_TITLES.get(dimension, dimension)
            width = 6 + len(evaluation.topics)
            head = element("th", {"colspan": width, "scope": "colgroup"}, title)
            rows.append(element("tr", {"class": "dimension"}, head))
        rows.append(_slice_row(_slice_name(one), one.scores, evaluation.topics))
    topics = [f"{topic} F1" for topic in evaluation.topics]
    head_row = ["slice", "passages", "articles", "macro F1, 0 to 1", "macro F1", *topics,
                "exactly right"]  # fmt: skip
    return _table("Figures of each slice, with intervals", head_row, rows)


def _slice_name(one: Slice) -> Markup:
    return isolated(one.name)


def _slice_row(
    name: str | Markup, scores: Scores, topics: Sequence[str], *, css_class: str | None = None
) -> Markup:
    return element(
        "tr",
        {"class": css_class},
        element("th", {"scope": "row"}, name),
        *_cells(
            f"{scores.n_passages:,}",
            f"{scores.n_articles:,}",
            interval_bar(scores.overall["macro_f1"]),
            _figure(scores.overall["macro_f1"]),
            *(_figure(scores.by_topic[topic]["f1"]) for topic in topics),
            _figure(scores.overall["subset_accuracy"]),
        ),
    )


def _confusion(evaluation: Evaluation) -> Markup:
    names = [*evaluation.topics, "none"]
    off_diagonal = [
        n for i, row in enumerate(evaluation.confusion) for j, n in enumerate(row) if i != j
    ]
    largest = max(off_diagonal, default=0)
    rows = []
    for i, (name, row) in enumerate(zip(names, evaluation.confusion, strict=True)):
        cells = [
            element("td", {"class": _shade(n, largest, is_right=i == j)}, f"{n:,}")
            for j, n in enumerate(row)
        ]
        rows.append(element("tr", {}, element("th", {"scope": "row"}, name), *cells))
    head = ["gold ↓   given →", *names]
    explanation = element(
        "p", {"class": "quiet"},
        "On the diagonal, right topics. Elsewhere, passages where the row's topic was missed and "
        "the column's wrongly given; under “none”, missed with nothing instead; in the last row, "
        "false alarms alone.",
    )  # fmt: skip
    return join([_table("Confusion between topics", head, rows), explanation])


def _shade(number: int, largest: int, *, is_right: bool) -> str | None:
    if is_right:
        return "right"
    if not number:
        return "zero"
    return f"heat-{1 + int(3 * number / largest)}" if largest else None


def _terms(evaluation: Evaluation) -> Markup:
    """List each topic's terms with their weights; they may be of either direction."""
    columns = []
    for position, topic in enumerate(evaluation.topics):
        items = [
            element("li", {}, isolated(one.term), " ", element("small", {}, f"{one.weight:.2f}"))
            for one in evaluation.terms.get(topic, ())
        ]
        name = element("span", {"class": f"name {topic_class(position)}"}, topic)
        columns.append(element("div", {}, element("h3", {}, name), element("ol", {}, *items)))
    return element("div", {"class": "terms"}, *columns)


def _mistakes(evaluation: Evaluation) -> Markup:
    options = [
        element("option", {"value": value}, value)
        for value in ("all", "false alarm", "miss", *evaluation.topics)
    ]
    select = element("select", {"class": "mistake-filter"}, *options)
    control = element("label", {"class": "control"}, "show ", select)
    explained = any(mistake.words for mistake in evaluation.mistakes)
    hint = (
        "Underlined words speak for the topic, dotted ones against it; hover over one to read by "
        "how much it moves the logit."
        if explained
        else "The words that carried them are not known: the predictions came from a file."
    )
    cards = [_mistake(mistake, evaluation.topics) for mistake in evaluation.mistakes]
    return join([
        element("p", {"class": "quiet"}, hint), control,
        element("ol", {"class": "mistakes"}, *cards),
    ])  # fmt: skip


def _mistake(mistake: Mistake, topics: Sequence[str]) -> Markup:
    css_class = topic_class(topics.index(mistake.topic)) if mistake.topic in topics else ""
    summary = "wrongly given" if mistake.kind == "false alarm" else "missed"
    header = [
        element("span", {"class": f"name {css_class}"}, mistake.topic),
        element("span", {"class": "kind"}, f"{summary}, probability {mistake.probability:.2f}"),
        element("span", {"class": "kind"}, "annotator unsure") if mistake.is_unsure else None,
    ]
    note = element("p", {"class": "quiet"}, f"Annotator: {mistake.note}") if mistake.note else None
    text = element(
        "p", {"class": "text", **passage_attributes(mistake.language)}, mark_words(mistake)
    )
    facts = (
        f"gold: {', '.join(mistake.gold) or 'none'} · given: "
        f"{', '.join(mistake.predicted) or 'none'} · "
    )
    return element(
        "li",
        {"class": f"mistake {css_class}", "data-topic": mistake.topic, "data-kind": mistake.kind},
        element("header", {}, *header),
        text,
        element("p", {"class": "quiet"}, facts, isolated(mistake.passage_id)),
        note,
    )


def mark_words(mistake: Mistake) -> Markup:
    """Set a mistake's text with its carrying words marked."""
    largest = max((abs(word.weight) for word in mistake.words), default=0.0)
    parts: list[str | Markup] = []
    position = 0
    for word in mistake.words:
        side = "for" if word.weight > 0 else "against"
        strength = 1 + min(2, int(3 * abs(word.weight) / largest)) if largest else 1
        label = f"{word.weight:+.2f}"
        attributes = {"class": f"{side} s{strength}", "title": label}
        parts.append(mistake.text[position : word.start])
        parts.append(element("mark", attributes, mistake.text[word.start : word.end]))
        position = word.end
    return join([*parts, mistake.text[position:]])
