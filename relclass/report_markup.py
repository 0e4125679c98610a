"""HTML that cannot be injected into: text is escaped unless it was built here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

RIGHT_TO_LEFT = ("ar", "fa")
"""Languages always written so; Azerbaijani has both scripts and is left to the browser."""
N_COLOURS = 8
"""Of topics in page.css; further topics take them again. articles.js counts the same."""
_VOID = ("br", "circle", "hr", "input", "line", "meta", "path", "polyline", "rect")
_FORBIDDEN = '"<>&='


class Markup(str):
    """A string that is HTML already. Only this module turns text into it."""

    __slots__ = ()


Child = str | Markup | None
Attributes = Mapping[str, str | int | float | bool | None]


def element(name: str, attributes: Attributes | None = None, *children: Child) -> Markup:
    """Build one element.

    Parameters
    ----------
    attributes : values are escaped; True gives a bare attribute, False and None none.
    children : strings are escaped, `Markup` is not; None is left out.

    Raises
    ------
    ValueError
        If a name holds a character that a name cannot have, or an attribute is a handler.
    """
    parts = [f"<{_name(name)}"]
    for key, value in (attributes or {}).items():
        if value is None or value is False:
            continue
        if key.lower().startswith("on"):
            raise ValueError(f"Got attribute {key!r} but handlers belong in the script.")
        text = "" if value is True else f'="{escape(_number(value), quote=True)}"'
        parts.append(f" {_name(key)}{text}")
    parts.append(">")
    if name in _VOID and not children:
        return Markup("".join(parts)[:-1] + "/>")
    return Markup("".join([*parts, join(children), f"</{name}>"]))


def join(children: Iterable[Child]) -> Markup:
    """Put children one after another; strings are escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(child)
            for child in children
            if child is not None
        )
    )


def isolated(text: str) -> Markup:
    """Keep a stretch of unknown direction from disturbing the line around it."""
    return element("bdi", {}, text)


def passage_attributes(language: str) -> dict[str, str]:
    """Give the attributes that tell a browser how to set a passage."""
    direction = "rtl" if language in RIGHT_TO_LEFT else "auto"
    known = {} if language == "other" else {"lang": language}
    return {"dir": direction, **known}


def topic_class(position: int) -> str:
    """Give the class that colours the topic at a position in the codebook, from 0."""
    return f"topic-{position % N_COLOURS}"


def _number(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _name(name: str) -> str:
    if not name or any(c.isspace() or c in _FORBIDDEN or c in "'/" for c in name):
        raise ValueError(f"Got {name!r} but expected the name of an element or attribute.")
    return name
