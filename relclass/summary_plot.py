"""Summary -> a picture: the share of each topic by group, with its interval."""

from __future__ import annotations

import math
from pathlib import Path

from relclass.errors import MissingExtraError
from relclass.summary import Summary, SummaryRow

_COLOURS = ("#c0392b", "#2471a3", "#b7950b", "#7d3c98", "#1e8449", "#566573")
_MAX_TICKS = 24


def plot_summary(summary: Summary, path: str | Path) -> None:
    """Draw one panel a topic: the corrected share where it is known, else the observed one.

    Parameters
    ----------
    path : .png, .svg or .pdf by its suffix.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    ValueError
        If the summary has no rows.
    """
    if not summary.rows:
        raise ValueError("Got a summary without rows but expected at least one group to draw.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    topics = list(dict.fromkeys(row.topic for row in summary.rows))
    groups = list(dict.fromkeys(row.group for row in summary.rows))
    width = min(16.0, max(6.0, 0.35 * len(groups) + 2))
    figure = Figure(figsize=(width, 1.7 * len(topics) + 0.8), layout="constrained")
    panels = figure.subplots(len(topics), 1, sharex=True, squeeze=False)[:, 0]
    for position, (panel, topic) in enumerate(zip(panels, topics, strict=True)):
        rows = [row for row in summary.rows if row.topic == topic]
        _draw(panel, rows, _COLOURS[position % len(_COLOURS)])
        panel.set_title(topic, loc="left", fontsize=10)
    step = math.ceil(len(groups) / _MAX_TICKS)
    ticks = range(0, len(groups), step)
    panels[-1].set_xticks(ticks, [groups[tick] for tick in ticks], rotation=45, ha="right")
    figure.supylabel("passages with the topic, percent")
    figure.savefig(str(path), dpi=120)


def _draw(panel: object, rows: list[SummaryRow], colour: str) -> None:
    places, shares, below, above = [], [], [], []
    for place, row in enumerate(rows):
        is_observed = math.isnan(row.corrected)
        share = row.share if is_observed else row.corrected
        low = row.low if is_observed else row.corrected_low
        high = row.high if is_observed else row.corrected_high
        if math.isnan(share):
            continue
        places.append(place)
        shares.append(100 * share)
        below.append(100 * max(0.0, share - low))
        above.append(100 * max(0.0, high - share))
    panel.errorbar(  # type: ignore[attr-defined]
        places, shares, yerr=[below, above], fmt="o-", color=colour, linewidth=1, markersize=4,
        capsize=2,
    )  # fmt: skip
    panel.set_ylim(bottom=0)  # type: ignore[attr-defined]
    panel.grid(axis="y", alpha=0.3)  # type: ignore[attr-defined]
