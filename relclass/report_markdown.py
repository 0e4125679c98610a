"""Evaluations, comparisons, folds and labelled articles -> Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from relclass.comparison import Comparison
from relclass.cross_validation import CrossValidation
from relclass.evaluation import Evaluation, Scores
from relclass.report_articles import LabelledArticle, topic_names
from relclass.report_evaluation import (
    DIMENSION_TITLES,
    HEADLINES,
    describe,
    describe_abstention,
)

_TOPIC_COLUMNS = {
    "precision": "P", "recall": "R", "specificity": "specificity", "f1": "F1",
    "average_precision": "AP", "ece": "ECE",
}  # fmt: skip


def evaluation_markdown(evaluations: Sequence[Evaluation]) -> str:
    """Write evaluations as tables for a paper or a README; no passage texts."""
    parts = []
    if len(evaluations) > 1:
        rows = [
            [e.model, *(str(e.overall.overall[name]) for name in HEADLINES)] for e in evaluations
        ]
        parts.append("## Models side by side\n\n" + _table(["model", *HEADLINES.values()], rows))
    parts += [_evaluation(evaluation) for evaluation in evaluations]
    return "\n\n".join(parts) + "\n"


def _evaluation(evaluation: Evaluation) -> str:
    overall = evaluation.overall
    settings = evaluation.bootstrap
    topics = [
        [topic, str(overall.n_positive[topic]),
         *(str(overall.by_topic[topic][name]) for name in _TOPIC_COLUMNS)]
        for topic in evaluation.topics
    ]  # fmt: skip
    slices = [_slice_row("all", "", overall)] + [
        _slice_row(DIMENSION_TITLES.get(s.dimension, s.dimension), s.name, s.scores)
        for s in evaluation.slices
    ]
    names = [*evaluation.topics, "none"]
    confusion = [
        [name, *(str(n) for n in row)]
        for name, row in zip(names, evaluation.confusion, strict=True)
    ]
    return "\n\n".join(
        [
            f"## {_escape(evaluation.model)}",
            _escape(describe(evaluation)),
            f"Intervals: {settings.confidence:.0%}, bootstrap over articles, "
            f"{settings.n_resamples:,} resamples, seed {settings.seed}.",
            _table(["figure", "value"], [
                [title, str(overall.overall[name])] for name, title in HEADLINES.items()
            ]),
            describe_abstention(evaluation),
            "### By topic",
            _table(["topic", "in gold", *_TOPIC_COLUMNS.values()], topics),
            "### By slice",
            _table(["by", "slice", "passages", "articles", "macro F1", "micro F1",
                    "exactly right"], slices),
            "### Which topic for which",
            "Rows are gold, columns given.",
            _table(["", *names], confusion),
        ]
    )  # fmt: skip


def _slice_row(dimension: str, name: str, scores: Scores) -> list[str]:
    figures = (str(scores.overall[key]) for key in ("macro_f1", "micro_f1", "subset_accuracy"))
    return [dimension, name, f"{scores.n_passages:,}", f"{scores.n_articles:,}", *figures]


def comparison_markdown(comparison: Comparison) -> str:
    """Write a comparison as one table, a line a pair and metric."""
    rows = []
    for d in comparison.differences:
        verdicts = {"first": f"{d.first} is better", "second": f"{d.second} is better"}
        p_values = ["undefined" if p is None else f"{p:.4f}" for p in (d.p_value, d.p_adjusted)]
        rows.append(
            [d.metric, d.second, d.first, str(d.difference), *p_values,
             verdicts.get(d.verdict, d.verdict)]
        )  # fmt: skip
    settings = comparison.bootstrap
    head = (
        f"{comparison.n_passages:,} passages of {comparison.n_articles:,} articles of "
        f"{comparison.data}. Intervals: {settings.confidence:.0%}, paired bootstrap over articles, "
        f"{settings.n_resamples:,} resamples; p: approximate randomisation over articles, "
        f"{comparison.n_shuffles:,} shuffles, and adjusted by Holm over the pairs of a metric."
    )
    table = _table(["metric", "model", "less", "difference", "p", "p (Holm)", "verdict"], rows)
    return f"{_escape(head)}\n\n{table}\n"


def cross_validation_markdown(result: CrossValidation) -> str:
    """Write mean and spread, whole, by origin and by topic, and the learning curve."""
    origins = list(dict.fromkeys(origin for fold in result.folds for origin in fold.figures))
    rows = []
    for origin in origins:
        spreads = (result.spread(metric, origin=origin) for metric in HEADLINES)
        rows.append([origin, *(str(spread or "undefined") for spread in spreads)])
    topics = [
        [topic, str(result.topic_spread(topic) or "undefined")]
        for topic in (result.folds[0].by_topic if result.folds else ())
    ]
    parts = [
        f"## {_escape(result.name)}: {result.n_folds} folds, seeds "
        f"{', '.join(map(str, result.seeds))}",
        "Mean ± standard deviation over folds.",
        _table(["origin", *HEADLINES.values()], rows),
        _table(["topic", "F1"], topics),
    ]
    if result.curve:
        points = [[f"{n:.0f}", str(spread)] for n, spread in result.learning_curve()]
        parts += ["### Learning curve", _table(["training articles", "macro F1"], points)]
    return "\n\n".join(parts) + "\n"


def articles_markdown(articles: Sequence[LabelledArticle]) -> str:
    """Write labelled articles to read: each passage after its topics."""
    topics = topic_names(articles)
    n_passages = sum(len(article.passages) for article in articles)
    total = {topic: sum(article.topics[topic] for article in articles) for topic in topics}
    counts = [
        [topic, f"{n:,}", f"{n / n_passages:.1%}" if n_passages else ""]
        for topic, n in total.items()
    ]
    parts = [
        f"{n_passages:,} passages of {len(articles):,} articles.",
        _table(["topic", "passages", "share"], counts),
    ]
    for article in articles:
        parts.append(f"## {_escape(article.title or article.article_id)}")
        facts = [article.date.isoformat() if article.date else None, article.source]
        parts += [_escape(", ".join(fact for fact in facts if fact))] if any(facts) else []
        for passage in article.passages:
            given = ", ".join(
                f"**{topic}** {passage.probabilities[topic]:.2f}" for topic in passage.topics
            )
            parts.append(f"{given or '–'}\n\n> {_escape(passage.text)}")
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(_escape, cells)) + " |" for cells in (head, *rows)]
    rule = "|" + "---|" * len(head)
    return "\n".join([lines[0], rule, *lines[1:]])


def _escape(text: str) -> str:
    """Keep a text from being read as Markdown or HTML; line breaks become spaces."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
