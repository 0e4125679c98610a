"""Evaluation or labelled articles -> one self-contained HTML page, Markdown or JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from string import Template

from relclass.comparison import Comparison
from relclass.cross_validation import CrossValidation
from relclass.errors import ConfigError
from relclass.evaluation import Evaluation
from relclass.report_articles import LabelledArticle, articles_body
from relclass.report_evaluation import evaluation_body
from relclass.report_markdown import (
    articles_markdown,
    comparison_markdown,
    cross_validation_markdown,
    evaluation_markdown,
)
from relclass.report_markup import Markup

SUFFIXES = (".html", ".md", ".json")


def write_evaluations(
    evaluations: Sequence[Evaluation], path: str | Path, *, title: str = "Evaluation"
) -> None:
    """Write evaluations as HTML, Markdown or JSON, by the suffix.

    JSON holds one evaluation as `Evaluation.to_json` writes it, or a list of several.

    Raises
    ------
    ConfigError
        If the suffix is none of SUFFIXES, or the file cannot be written.
    """
    suffix = check_suffix(path)
    if suffix == ".html":
        text = build_page(title, evaluation_body(evaluations), script="evaluation.js")
    elif suffix == ".md":
        text = evaluation_markdown(evaluations)
    else:
        parts = [evaluation.to_json() for evaluation in evaluations]
        text = parts[0] if len(parts) == 1 else "[" + ",\n".join(parts) + "]"
    _write(path, text)


def write_articles(
    articles: Sequence[LabelledArticle], path: str | Path, *, title: str = "Labelled articles"
) -> None:
    """Write labelled articles as HTML, Markdown or JSON, by the suffix.

    Raises
    ------
    ConfigError
        If the suffix is none of SUFFIXES, or the file cannot be written.
    """
    suffix = check_suffix(path)
    if suffix == ".html":
        text = build_page(title, articles_body(articles), script="articles.js")
    elif suffix == ".md":
        text = articles_markdown(articles)
    else:
        rows = [asdict(article) for article in articles]
        text = json.dumps(rows, ensure_ascii=False, indent=1, default=str)
    _write(path, text)


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write a comparison as Markdown or JSON, by the suffix.

    Raises
    ------
    ConfigError
        If the suffix is neither, or the file cannot be written.
    """
    suffix = check_suffix(path, known=(".md", ".json"))
    _write(path, comparison_markdown(comparison) if suffix == ".md" else comparison.to_json())


def write_cross_validation(result: CrossValidation, path: str | Path) -> None:
    """Write a cross-validation as Markdown or JSON, by the suffix.

    Raises
    ------
    ConfigError
        If the suffix is neither, or the file cannot be written.
    """
    if check_suffix(path, known=(".md", ".json")) == ".md":
        _write(path, cross_validation_markdown(result))
    else:
        _write(path, json.dumps(result.to_dict(), ensure_ascii=False, indent=1))


def build_page(title: str, body: Markup, *, script: str) -> str:
    """Put a body into the page: style and script inside, everything else forbidden.

    The content policy lets only this very script and style run, so that text that slipped
    through the escaping could neither run nor ask the network for anything.

    Parameters
    ----------
    script : a file of report_templates.
    """
    style, code = _template("page.css"), _template(script)
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(code)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_template("page.html")).substitute(
        title=escape(title),
        policy=escape(policy),
        style=style,
        script=code,
        body=body,
        version=escape(_version()),
    )


def check_suffix(path: str | Path, *, known: Sequence[str] = SUFFIXES) -> str:
    """Return the suffix of an output that can be written.

    Raises
    ------
    ConfigError
        If it is not one of `known`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise ConfigError(f"{path}: expected an output named {' or '.join(known)}")
    return suffix


def _write(path: str | Path, text: str) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # a lone surrogate in a text, which no file can hold, becomes a question mark
        Path(path).write_bytes(text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot write the report: {error.strerror}") from error


def _template(name: str) -> str:
    return (files("relclass") / "report_templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _version() -> str:
    try:
        return version("relclass")
    except PackageNotFoundError:
        return "(not installed)"
