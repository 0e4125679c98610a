"""The named errors of relclass. Bad input and bad configs are ValueErrors with a way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A config cannot be used: an unknown key, a value of the wrong type or range."""


class DataError(ValueError):
    """An input cannot be used: an unreadable file, a broken record, an unknown topic."""


class ModelError(ValueError):
    """A model folder cannot be used: cut short, edited, of a newer format, or not a model."""


class MissingExtraError(ImportError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed. From the checkout: pip install -e '.[{extra}]'"
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the nearest known word, as a clause to append to an error message.

    Returns
    -------
    " (did you mean 'security'?)", or "" if nothing known is near.
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
