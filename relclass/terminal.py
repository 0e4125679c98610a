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

    name_width = max((len(topic) for topic in topics), default=0)
    topics_width = name_width + len("  100 %")
    width = max(8, console.width - topics_width - _MARGIN)
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=True)
    table.add_column(justify="right", style="dim", no_wrap=True, min_width=3)
    table.add_column(width=topics_width, no_wrap=True)
    table.add_column(width=width, no_wrap=True)
    for prediction in predictions:
        table.add_row(
            str(prediction.index + 1),
            _topics_cell(prediction, topics, name_width),
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


def summary_table(summary: Summary, *, width: int | None = None) -> Table:
    """Lay a summary out: a row a group, a column a topic with its share and interval in percent.

    Parameters
    ----------
    width : of the terminal, in columns; where such a table is wider, each group and topic has a
        row of its own. None does not ask.
    """
    from rich.console import Console

    wide = _wide_summary(summary)
    if width is None or Console(width=10_000).measure(wide).maximum <= width:
        return wide
    return _long_summary(summary)


def _wide_summary(summary: Summary) -> Table:
    from rich.text import Text

    table = _empty_summary(summary, "after the arrow: corrected for the model's known error rates")
    topics = list(dict.fromkeys(row.topic for row in summary.rows))
    for topic in topics:
        style = f"bold {_colour(topic, topics)}"
        table.add_column(Text(topic), justify="right", header_style=style, no_wrap=True)
    for rows in _by_group(summary):
        table.add_row(*_group_cells(rows), *map(_share_cell, rows))
    return table


def _long_summary(summary: Summary) -> Table:
    from rich.text import Text

    table = _empty_summary(summary, "corrected: for the model's known error rates")
    topics = list(dict.fromkeys(row.topic for row in summary.rows))
    table.add_column("topic", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    is_corrected = _is_corrected(summary)  # once: it reads all rows
    if is_corrected:
        table.add_column("corrected", justify="right", no_wrap=True)
    for rows in _by_group(summary):
        for place, row in enumerate(rows):
            first = ("", "", "") if place else _group_cells(rows)
            name = Text(row.topic, _colour(row.topic, topics))
            shares = (_share(row), _corrected(row)) if is_corrected else (_share(row),)
            table.add_row(*first, name, *shares)
    return table


def _empty_summary(summary: Summary, legend: str) -> Table:
    from rich import box
    from rich.table import Table

    title = f"Share of passages with the topic, by {summary.by}, percent (95 % interval)"
    if _is_corrected(summary):
        title += f"\n{legend}"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column(summary.by, overflow="fold")
    table.add_column("articles", justify="right", no_wrap=True)
    table.add_column("passages", justify="right", no_wrap=True)
    return table


def _by_group(summary: Summary) -> list[list[SummaryRow]]:
    groups: dict[str, list[SummaryRow]] = {}
    for row in summary.rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.values())


def _group_cells(rows: Sequence[SummaryRow]) -> tuple[Text, str, str]:
    from rich.text import Text

    return Text(_clean(rows[0].group)), f"{rows[0].n_articles:,}", f"{rows[0].n_passages:,}"


def _is_corrected(summary: Summary) -> bool:
    return any(not math.isnan(row.corrected) for row in summary.rows)


def _share_cell(row: SummaryRow) -> str:
    corrected = _corrected(row)
    return f"{_share(row)}\n→ {corrected}" if corrected else _share(row)


def _share(row: SummaryRow) -> str:
    return _percent(row.share, row.low, row.high) or "–"


def _corrected(row: SummaryRow) -> str:
    return _percent(row.corrected, row.corrected_low, row.corrected_high)


def _percent(share: float, low: float, high: float) -> str:
    if math.isnan(share):
        return ""
    return f"{100 * share:.0f} ({100 * low:.0f}–{100 * high:.0f})"


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


def _topics_cell(prediction: Prediction, topics: Sequence[str], width: int) -> Text:
    from rich.text import Text

    percents = {topic: 100 * prediction.probabilities[topic] for topic in prediction.topics}
    lines = [
        Text(f"{topic:<{width}}  {percents[topic]:3.0f} %", _colour(topic, topics))
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
