"""Predictions -> tables for a terminal, in which right-to-left text stays readable."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relclass.predict import article_topics
from relclass.records import Article, Prediction
from relclass.summary import Summary, SummaryRow

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_COLOURS = ("red", "cyan", "yellow", "magenta", "green", "blue")
_SHOWN_CHARS = 400
_TOPICS_WIDTH = 15
_MARGIN = 9
"""Columns that the number and the gaps between columns take."""

# A first-strong isolate around each line keeps a terminal from mixing the line's Persian or Arabic
# with its neighbours (Unicode Standard Annex 9, https://www.unicode.org/reports/tr9/).
_ISOLATE, _POP = "\u2068", "\u2069"


def print_article(
    console: Console, article: Article, predictions: Sequence[Prediction], topics: Sequence[str]
) -> None:
    """Print an article's passages with their topics.

    Parameters
    ----------
    predictions : those of its passages; may be empty.
    topics : names of all topics, in codebook order; it gives their colours.
    """
    from rich.table import Table
    from rich.text import Text

    width = max(8, console.width - _TOPICS_WIDTH - _MARGIN)
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=True)
    table.add_column(justify="right", style="dim", no_wrap=True, min_width=3)
    table.add_column(width=_TOPICS_WIDTH, no_wrap=True)
    table.add_column(width=width, no_wrap=True)
    for prediction in predictions:
        table.add_row(
            str(prediction.index + 1),
            _topics_cell(prediction, topics),
            _text_cell(console, prediction.text, width),
        )
    for line in _header_lines(console, article):
        console.print(line)
    if predictions:
        console.print(table)
    else:
        console.print(Text("    no passage: nothing but page furniture", style="dim"))
    console.print()


def print_article_topics(
    console: Console, article: Article, predictions: Sequence[Prediction], topics: Sequence[str]
) -> None:
    """Print an article with its topics together; parameters as in `print_article`."""
    from rich.text import Text

    for line in _header_lines(console, article):
        console.print(line)
    together = article_topics(article.article_id, predictions, topics, "")
    line = Text("    ")
    for topic in together.topics:
        n = together.n_passages_by_topic[topic]
        line.append(topic, style=_colour(topic, topics))
        line.append(f" in {n} of {together.n_passages} passages   ", style="dim")
    console.print(line if together.topics else Text("    no topic", style="dim"))
    console.print()


def summary_table(summary: Summary) -> Table:
    """Lay a summary out: a row a group, a column a topic with its share and interval in percent."""
    from rich import box
    from rich.table import Table

    topics = list(dict.fromkeys(row.topic for row in summary.rows))
    is_corrected = any(not math.isnan(row.corrected) for row in summary.rows)
    title = f"Share of passages with the topic, by {summary.by}, percent (95 % interval)"
    if is_corrected:
        title += "\nafter the arrow: corrected for the model's known error rates"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column(summary.by)
    table.add_column("articles", justify="right")
    table.add_column("passages", justify="right")
    for topic in topics:
        style = f"bold {_colour(topic, topics)}"
        table.add_column(topic, justify="right", header_style=style, no_wrap=True)
    groups: dict[str, list[SummaryRow]] = {}
    for row in summary.rows:
        groups.setdefault(row.group, []).append(row)
    for group, rows in groups.items():
        counts = (f"{rows[0].n_articles:,}", f"{rows[0].n_passages:,}")
        table.add_row(_clean(group), *counts, *(_share_cell(row) for row in rows))
    return table


def _share_cell(row: SummaryRow) -> str:
    if math.isnan(row.share):
        return "–"
    cell = f"{100 * row.share:.0f} ({100 * row.low:.0f}–{100 * row.high:.0f})"
    if math.isnan(row.corrected):
        return cell
    low, high = 100 * row.corrected_low, 100 * row.corrected_high
    return f"{cell}\n→ {100 * row.corrected:.0f} ({low:.0f}–{high:.0f})"


def _header_lines(console: Console, article: Article) -> list[Text]:
    from rich.text import Text

    title = _clean(article.title or article.article_id)
    lines = [
        Text(_isolated(console, part.plain.rstrip()), style="bold")
        for part in Text(title).wrap(console, max(20, console.width - 2))
    ]
    facts = [article.article_id] if article.title else []
    facts += [f"{article.date:%Y-%m-%d}"] if article.date else []
    facts += [article.source] if article.source else []
    if facts:
        lines.append(Text(" · ".join(_isolated(console, _clean(f)) for f in facts), style="dim"))
    return lines


def _topics_cell(prediction: Prediction, topics: Sequence[str]) -> Text:
    from rich.text import Text

    lines = [
        Text(f"{topic:<9} {100 * prediction.probabilities[topic]:3.0f} %", _colour(topic, topics))
        for topic in prediction.topics
    ]
    return Text("\n").join(lines) if lines else Text("–", style="dim")


def _text_cell(console: Console, text: str, width: int) -> Text:
    """Wrap a text by hand, since each line needs its own isolate."""
    from rich.text import Text

    clean = _clean(text)
    if len(clean) > _SHOWN_CHARS:
        clean = clean[: _SHOWN_CHARS - 1].rstrip() + "…"
    justify = "right" if _is_right_to_left(clean) else "left"
    lines = [line.plain.rstrip() for line in Text(clean).wrap(console, width)]
    return Text("\n".join(_isolated(console, line) for line in lines), justify=justify)  # type: ignore[arg-type]


def _isolated(console: Console, text: str) -> str:
    return f"{_ISOLATE}{text}{_POP}" if console.is_terminal else text


def _is_right_to_left(text: str) -> bool:
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False


def _clean(text: str) -> str:
    """Fold white space, and drop what could steer a terminal: control and direction characters."""
    kept = (
        character
        for character in " ".join(text.split())
        if unicodedata.category(character) not in ("Cc", "Cs")
        and character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    return "".join(kept)


def _colour(topic: str, topics: Sequence[str]) -> str:
    return _COLOURS[list(topics).index(topic) % len(_COLOURS)]
