"""Command that shows results: report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from relclass.evaluation import Evaluation
    from relclass.records import Reject


def report(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Evaluations (.json), or one file of predictions."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page: .html, .md or .json.")
    ] = Path("report.html"),
    articles: Annotated[
        list[Path] | None,
        typer.Option(help="The articles that were labelled, for titles, dates and sources."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    max_articles: Annotated[
        int,
        typer.Option(
            min=1, help="Show N articles, the newest where dates are known; a page holds so many."
        ),
    ] = 500,
    text_column: Annotated[str, typer.Option(help="Of --articles, as in predict.")] = "text",
    id_column: Annotated[str, typer.Option(help="Of --articles, as in predict.")] = "id",
    title_column: Annotated[str, typer.Option(help="Of --articles, as in predict.")] = "title",
    date_column: Annotated[str, typer.Option(help="Of --articles, as in predict.")] = "date",
    source_column: Annotated[str, typer.Option(help="Of --articles, as in predict.")] = "source",
) -> None:
    """Write one self-contained page from evaluations, or from labelled articles to read.

    An article of --articles that cannot be read keeps its passages on the page, without title,
    date and source; the exit code is then 2.
    """
    from relclass.articles import Columns, read_articles
    from relclass.errors import ConfigError
    from relclass.report import check_suffix, write_articles, write_evaluations

    check_suffix(output)
    rejects: list[Reject] = []
    are_evaluations = [path.suffix.lower() == ".json" for path in inputs]
    if all(are_evaluations):
        evaluations = [one for path in inputs for one in _read_evaluations(path)]
        write_evaluations(evaluations, output, title=title or "Evaluation")
    elif any(are_evaluations) or len(inputs) > 1:
        raise ConfigError("expected evaluations (.json) or one file of predictions, not both")
    else:
        from relclass.predictions_file import read_predictions
        from relclass.report_articles import gather_articles

        predictions = read_predictions(inputs[0])
        columns = Columns(
            text=text_column,
            article_id=id_column,
            title=title_column,
            date=date_column,
            source=source_column,
        )
        known = read_articles(articles or (), columns=columns, on_reject=rejects.append)
        gathered = gather_articles(predictions, known)
        if len(gathered) > max_articles:
            shown = "newest" if any(article.date for article in gathered) else "first"
            print(
                f"{len(gathered):,} articles; the page shows the {shown} {max_articles:,} "
                "(--max-articles)",
                file=sys.stderr,
            )
        write_articles(gathered[:max_articles], output, title=title or "Labelled articles")
    print(f"wrote {output}")
    if rejects:
        print(f"relclass: refused {len(rejects):,}, the first: {rejects[0]}", file=sys.stderr)
        raise typer.Exit(2)


def _read_evaluations(path: Path) -> list[Evaluation]:
    import json

    from relclass.errors import DataError
    from relclass.evaluation import Evaluation

    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read the evaluation: {error}") from error
    parts = content if isinstance(content, list) else [content]
    return [Evaluation.from_json(json.dumps(part), where=str(path)) for part in parts]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(report)
