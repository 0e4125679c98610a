"""Figures -> inline SVG. Colours come from the page's style, so that they follow its theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relclass.evaluation import Estimate
from relclass.report_markup import Attributes, Markup, element, join, topic_class

WIDTH, HEIGHT = 340, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 40
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Parameters
    ----------
    points : (x, y), both in [0, 1] of the axes.
    css_class : carries the colour, such as "topic-0".
    sizes : of the dots, in [0, 1]; empty draws none.
    is_stepped : whether a point's y holds from the x before it, the first one's from 0; the area
        below a precision-recall line is then the average precision.
    """

    name: str
    points: Sequence[tuple[float, float]]
    css_class: str
    sizes: Sequence[float] = ()
    is_stepped: bool = False


def round_up(value: float) -> float:
    """Choose the top of an axis that starts at 0: the next of 0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 1."""
    return next((top for top in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6) if value <= top), 1.0)


@dataclass(frozen=True, slots=True)
class Axes:
    """What a chart shows.

    Parameters
    ----------
    title : spoken by a screen reader for the whole chart.
    y_max : the top of the y axis.
    has_diagonal : whether y = x is drawn, where perfect calibration lies.
    """

    title: str
    x: str
    y: str
    y_max: float = 1.0
    has_diagonal: bool = False


def line_chart(series: Sequence[Series], axes: Axes) -> Markup:
    """Draw lines over a common pair of axes."""
    marks = [_grid(axes)]
    if axes.has_diagonal:
        marks.append(_line(_x(0), _y(0, axes), _x(1), _y(1, axes), "diagonal"))
    for one in series:
        group = [element("title", {}, one.name), _path(one, axes)]
        for (x, y), size in zip(one.points, one.sizes, strict=False):
            dot: Attributes = {"cx": _x(x), "cy": _y(y, axes), "r": 2.5 + 5 * size**0.5}
            group.append(element("circle", dot))
        marks.append(element("g", {"class": f"series {one.css_class}"}, *group))
    return element(
        "svg",
        {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": axes.title},
        *marks,
    )


def interval_bar(estimate: Estimate, *, css_class: str = "") -> Markup:
    """Draw an estimate in [0, 1] as a dot on its interval; nothing where it is undefined."""
    width, middle = 120.0, 7.0
    marks = [_line(0, middle, width, middle, "axis")]
    if estimate.value is not None:
        if estimate.low is not None and estimate.high is not None:
            low, high = estimate.low * width, estimate.high * width
            marks.append(_line(low, middle, max(high, low + 0.5), middle, "interval"))
        marks.append(element("circle", {"cx": estimate.value * width, "cy": middle, "r": 3.5}))
    attributes: Attributes = {
        "viewBox": "-4 0 128 14",
        "class": f"bar {css_class}",
        "aria-hidden": "true",
    }
    return element("svg", attributes, *marks)


def timeline(
    counts: Mapping[str, Sequence[int]], periods: Sequence[str], totals: Sequence[int]
) -> Markup:
    """Draw each topic's share of the passages over time, one row of bars a topic.

    Parameters
    ----------
    counts : topic to passages with it, one number a period.
    periods : names of the periods, such as "2020-11", in order.
    totals : passages of each period.
    """
    row, left, width = 58, 96, 1180
    step = (width - left) / max(1, len(periods))
    largest = max(
        (count / total for row_ in counts.values()
         for count, total in zip(row_, totals, strict=True) if total), default=0
    )  # fmt: skip
    scale = (row - 18) / largest if largest else 0.0
    marks: list[Markup] = []
    for position, (topic, numbers) in enumerate(counts.items()):
        base = (position + 1) * row
        label_place: Attributes = {"x": left - 12, "y": base - 6, "class": "row"}
        marks.append(element("text", label_place, topic))
        marks.append(_line(left, base, width, base, "axis"))
        bars = []
        for k, (count, total) in enumerate(zip(numbers, totals, strict=True)):
            height = scale * count / total if total else 0.0
            bar: Attributes = {
                "x": left + k * step + min(1.5, step / 6),
                "y": base - height,
                "width": max(1.0, step - min(3.0, step / 3)),
                "height": height,
                "data-period": k,
            }
            label = f"{topic}, {periods[k]}: {count} of {total} passages"
            bars.append(element("rect", bar, element("title", {}, label)))
        group: Attributes = {
            "class": f"series {topic_class(position)}",
            "data-topic": position,
            "data-base": base,
            "data-scale": scale,
        }
        marks.append(element("g", group, *bars))
    if largest:
        top: Attributes = {"x": left, "y": 9, "class": "tick"}
        marks.append(element("text", top, f"highest bar: {largest:.0%}"))
    bottom = len(counts) * row + 18
    every = max(1, round(len(periods) / 12))
    for k in range(0, len(periods), every):
        place: Attributes = {"x": left + (k + 0.5) * step, "y": bottom, "class": "tick middle"}
        marks.append(element("text", place, periods[k]))
    title = f"Share of passages with each topic, {periods[0]} to {periods[-1]}" if periods else ""
    return element(
        "svg",
        {"viewBox": f"0 0 {width} {bottom + 8}", "role": "img", "aria-label": title,
         "class": "timeline"},
        *marks,
    )  # fmt: skip


def legend(names: Sequence[str]) -> Markup:
    """Name the colour of each topic."""
    items = [
        element("li", {"class": topic_class(k)}, element("span", {"class": "swatch"}), name)
        for k, name in enumerate(names)
    ]
    return element("ul", {"class": "legend"}, *items)


def _grid(axes: Axes) -> Markup:
    marks = []
    for tick in _TICKS:
        x, y = _x(tick), _y(tick * axes.y_max, axes)
        marks += [
            _line(x, _y(0, axes), x, _y(axes.y_max, axes), "grid"),
            _line(_x(0), y, _x(1), y, "grid"),
            element("text", {"x": x, "y": HEIGHT - _BOTTOM + 15, "class": "tick middle"},
                    f"{tick:g}"),
            element("text", {"x": _LEFT - 6, "y": y + 3.5, "class": "tick end"},
                    f"{tick * axes.y_max:.2g}"),
        ]  # fmt: skip
    x_middle, y_middle = (_x(0) + _x(1)) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    marks.append(element("text", {"x": x_middle, "y": HEIGHT - 6, "class": "label middle"}, axes.x))
    turned: Attributes = {
        "x": 0,
        "y": 0,
        "class": "label middle",
        "transform": f"translate(11 {y_middle:.0f}) rotate(-90)",
    }
    marks.append(element("text", turned, axes.y))
    return join(marks)


def _path(series: Series, axes: Axes) -> Markup:
    steps: list[str] = []
    for position, (x, y) in enumerate(series.points):
        across, up = f"{_x(x):.1f}", f"{_y(y, axes):.1f}"
        if series.is_stepped:
            steps.append(f"V{up}H{across}" if position else f"M{_x(0):.1f} {up}H{across}")
        else:
            steps.append(f"{'L' if position else 'M'}{across} {up}")
    return element("path", {"d": "".join(steps), "fill": "none"})


def _line(x1: float, y1: float, x2: float, y2: float, css_class: str) -> Markup:
    ends: Attributes = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": css_class}
    return element("line", ends)


def _x(value: float) -> float:
    return float(_LEFT + value * (WIDTH - _LEFT - _RIGHT))


def _y(value: float, axes: Axes) -> float:
    return float(HEIGHT - _BOTTOM - min(1.0, value / axes.y_max) * (HEIGHT - _BOTTOM - _TOP))
