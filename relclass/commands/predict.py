"""``relclass predict``: articles in, topics out, to the terminal, a pipe or a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relclass.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from relclass.articles import Columns
    from relclass.jobs import Engine, Job, JobReport
    from relclass.models.base import Classifier
    from relclass.records import Article, Prediction, Reject
    from relclass.summary import Summary, Tally

    _Show = Callable[[Article, list[Prediction]], None]

_REFUSED = 2
"""Exit code where some inputs were refused."""
_AT_ONCE = 16
"""Articles labelled together before they are shown or piped on."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("predict", no_args_is_help=True)(predict)


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files (.txt, .html, .jsonl, .csv, .tsv, .parquet, texts also as .gz or .zst), "
            'folders of them, or "-" for standard input.',
        ),
    ],
    model: Annotated[str, typer.Option(help="A shipped model or a model folder.")] = "default",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help=".jsonl, .csv (both also .gz or .zst) or .parquet by its suffix; "
            '"-" is JSONL on standard output. Without it: a table in the terminal.',
        ),
    ] = None,
    unit: Annotated[
        Literal["passage", "article"], typer.Option(help="What a record is about.")
    ] = "passage",
    text_column: Annotated[str, typer.Option(help="Column or key of the text.")] = "text",
    id_column: Annotated[str, typer.Option(help="Column or key of the article's id.")] = "id",
    title_column: Annotated[str, typer.Option(help="Column or key of the title.")] = "title",
    date_column: Annotated[str, typer.Option(help="Column or key of the date.")] = "date",
    source_column: Annotated[str, typer.Option(help="Column or key of the source.")] = "source",
    language_column: Annotated[
        str, typer.Option(help="Column or key of the language.")
    ] = "language",
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Also the share of each topic by month; beside an output file as "
            "OUTPUT.summary.csv and, with matplotlib, .png.",
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first record refused.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the output, or an unfinished run of another job."
        ),
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This machine, or a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes or Ray actors; chosen for the machine."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where the network runs.")
    ] = "auto",
) -> None:
    """Label the passages of articles by topic.

    An output file is written in parts: a run that was interrupted goes on where it was when the
    same command is given again. Refused records go to OUTPUT.rejects.jsonl, without an output
    file to standard error. The exit code is 0 if all was labelled, 1 for a wrong argument or
    model, 2 if some inputs were refused.
    """
    from relclass.articles import Columns

    options = _Options(
        inputs=inputs,
        model=model,
        unit=unit,
        columns=Columns(
            text=text_column,
            article_id=id_column,
            title=title_column,
            date=date_column,
            source=source_column,
            language=language_column,
        ),
        has_summary=summary,
        fail_fast=fail_fast,
        device=device,
    )
    if output is None or output == "-":
        _refuse_job_options(overwrite=overwrite, engine=engine, n_workers=workers)
        n_rejects = _show(options, is_table=output is None)
    else:
        n_rejects = _write(
            options, Path(output), overwrite=overwrite, engine=engine, n_workers=workers
        )
    raise typer.Exit(_REFUSED if n_rejects else 0)


@dataclass(frozen=True)
class _Options:
    inputs: list[str]
    model: str
    unit: Literal["passage", "article"]
    columns: Columns
    has_summary: bool
    fail_fast: bool
    device: str


def _refuse_job_options(*, overwrite: bool, engine: Engine, n_workers: int | None) -> None:
    """Refuse what only a job that writes a file can heed."""
    given = {
        "--overwrite": overwrite,
        f"--engine {engine}": engine != "local",
        f"--workers {n_workers}": n_workers is not None,
    }
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise ConfigError(f"{', '.join(names)}: for an output file only; name one with --output")


def _show(options: _Options, *, is_table: bool) -> int:
    """Label the inputs as a stream, to the terminal or as JSONL; return the number refused."""
    from relclass.loading import choose_device, load_classifier, model_reference

    device = choose_device(options.device, model_reference(options.model).kind)
    clf = load_classifier(options.model, device=device)
    show = _table_printer(options, clf) if is_table else _line_printer(options, clf)
    counts = {"articles": 0, "passages": 0, "rejects": 0}

    def refuse(reject: Reject) -> None:
        if options.fail_fast:
            raise DataError(str(reject))
        counts["rejects"] += 1
        print(f"relclass: refused: {reject}", file=sys.stderr)

    tallies: list[Tally] = []
    try:
        for article, predictions in _label_stream(options, clf, refuse):
            counts["articles"] += 1
            counts["passages"] += len(predictions)
            show(article, predictions)
            tallies = _add_tally(tallies, article, predictions, clf) if options.has_summary else []
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of the pipe has seen enough
            raise typer.Exit(1) from None
        raise DataError(
            f"standard output: cannot write there: {error.strerror}. Run the command again with "
            "an output that has room."
        ) from error
    if options.has_summary:
        _print_summary(_summary(tallies, clf.card), to_stdout=is_table)
    print(_counts_line(**counts), file=sys.stderr)
    return counts["rejects"]


def _label_stream(
    options: _Options, clf: Classifier, refuse: Callable[[Reject], None]
) -> Iterator[tuple[Article, list[Prediction]]]:
    from relclass.articles import read_articles
    from relclass.batching import windows
    from relclass.parts import sort_out
    from relclass.predict import label_articles

    articles = read_articles(options.inputs, columns=options.columns, on_reject=refuse)
    for group in windows(articles, _AT_ONCE):
        fit, unfit = sort_out(group)
        for reject in unfit:
            refuse(reject)
        yield from zip(fit, label_articles(fit, clf), strict=True)


def _table_printer(options: _Options, clf: Classifier) -> _Show:
    from rich.console import Console

    from relclass.terminal import print_article, print_article_topics

    console = Console(highlight=False)
    show = print_article if options.unit == "passage" else print_article_topics
    return lambda article, predictions: show(console, article, predictions, clf.topics)


def _line_printer(options: _Options, clf: Classifier) -> _Show:
    from relclass.parts import to_records
    from relclass.writers import json_line, to_row

    def show(article: Article, predictions: list[Prediction]) -> None:
        for record in to_records([article], [predictions], clf, options.unit):
            sys.stdout.buffer.write(json_line(to_row(record)).encode())

    return show


def _write(
    options: _Options, output: Path, *, overwrite: bool, engine: Engine, n_workers: int | None
) -> int:
    """Label the inputs into a file; return the number refused."""
    from relclass.job_folder import list_files
    from relclass.jobs import Job, choose_workforce, run_job
    from relclass.loading import choose_device, model_reference
    from relclass.progress import show_progress

    model = model_reference(options.model)
    job = Job(
        inputs=tuple(options.inputs),
        output=output,
        model=model,
        unit=options.unit,
        device=choose_device(options.device, model.kind),
        columns=options.columns,
    )
    workforce = choose_workforce(job, engine=engine, n_workers=n_workers)
    began = time.monotonic()
    try:
        with show_progress(list_files(job.inputs)) as on_part:
            report = run_job(
                job,
                workforce,
                overwrite=overwrite,
                fail_fast=options.fail_fast,
                on_part=on_part,
            )
    except KeyboardInterrupt:
        print("relclass: interrupted; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
    _print_report(job, report, time.monotonic() - began)
    if options.has_summary:
        summary = _summary(report.tallies, job.model.card)
        _print_summary(summary, to_stdout=True)
        _write_summary(summary, output)
    return report.n_rejects


def _print_report(job: Job, report: JobReport, seconds: float) -> None:
    if report.was_done:
        print(f"relclass: {job.output}: done before by the same job.", file=sys.stderr)
    counts = _counts_line(report.n_articles, report.n_passages, report.n_rejects)
    written = f"{report.n_written:,} records in {job.output}"
    if not report.was_done:
        written += f", after {seconds:,.1f} s"
    print(f"{counts}; {written}.", file=sys.stderr)
    if report.n_rejects:
        print(f"relclass: what was refused, and why: {job.rejects}", file=sys.stderr)


def _counts_line(articles: int, passages: int, rejects: int) -> str:
    return (
        f"relclass: {articles + rejects:,} articles read = {articles:,} labelled + "
        f"{rejects:,} refused; {passages:,} passages"
    )


def _add_tally(
    tallies: list[Tally], article: Article, predictions: list[Prediction], clf: Classifier
) -> list[Tally]:
    from relclass.summary import merge_tallies, tally_articles

    new = tally_articles([article], [predictions], clf.topics)
    return list(merge_tallies([*tallies, *new]).values())


def _summary(tallies: Sequence[Tally], card: Mapping[str, Any]) -> Summary:
    from relclass.summary import summarize_tallies

    return summarize_tallies(tallies, by="month", error_rates=card.get("error_rates"))


def _print_summary(summary: Summary, *, to_stdout: bool) -> None:
    from rich.console import Console

    from relclass.terminal import summary_table

    console = Console(stderr=not to_stdout, highlight=False)
    console.print(summary_table(summary, width=console.width))


def _write_summary(summary: Summary, output: Path) -> None:
    from relclass.parts import explain_failed_write
    from relclass.summary_plot import plot_summary

    table = output.with_name(f"{output.name}.summary.csv")
    picture = output.with_name(f"{output.name}.summary.png")
    with explain_failed_write(table):
        summary.write_csv(table)
    if not summary.rows:
        return
    try:
        with explain_failed_write(picture):
            plot_summary(summary, picture)
    except MissingExtraError as error:
        print(f"relclass: {table}; no plot: {error}", file=sys.stderr)
    else:
        print(f"relclass: {table}, {picture}", file=sys.stderr)
