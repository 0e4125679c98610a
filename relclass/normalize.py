"""Text -> normalised text, by language; the only importer of hazm."""

from __future__ import annotations

from relclass.config import NormalizeSettings


def normalize(text: str, language: str, settings: NormalizeSettings) -> str:
    """Return the text as a model reads it (the steps follow)."""
    return text
