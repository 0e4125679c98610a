"""Commands about labelled data: describe, check, split, agreement, convert, hydrate."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from relclass.agreement import Agreement
    from relclass.annotation import Format
    from relclass.config import DataSettings
    from relclass.quality import Finding

_LEAKS_FOUND = 1
"""Exit code of `check` where a test figure could not be trusted."""
_WIDTH = 140
"""Characters in a table's line where the output is no terminal."""
_Authored = Annotated[
    list[Path] | None,
    typer.Option("--authored", help="Labelled files or folders [default: data/articles]."),
]
_RealLabels = Annotated[
    Path | None, typer.Option(help="Labels of real passages, such as data/real_labels.jsonl.")
]
_RealTexts = Annotated[
    list[Path] | None, typer.Option(help="Files that hold their texts, looked up by hash.")
]
_Splits = Annotated[
    Path | None, typer.Option("--splits", help="The splits file [default: data/splits.json].")
]
_Codebook = Annotated[
    Path | None, typer.Option("--codebook", help="The topics [default: data/codebook.yaml].")
]
_Output = Annotated[Path | None, typer.Option("--output", "-o", help="Also write JSON here.")]
_FormatName = Literal["auto", "labelled", "label-studio", "doccano"]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    data = typer.Typer(help="Look at, check, split and convert labelled data.")
    for command in (describe, check, split, agreement, convert, hydrate):
        data.command(command.__name__)(command)
    app.add_typer(data, name="data", no_args_is_help=True)


def describe(
    authored: _Authored = None,
    real_labels: _RealLabels = None,
    real_texts: _RealTexts = None,
    splits: _Splits = None,
    codebook: _Codebook = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print as Markdown.")] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="A Markdown page: put the tables between its lines of `counts`."),
    ] = None,
) -> None:
    """Count passages by language, topic, length and split; texts of real ones may be absent."""
    from relclass.codebook import load_codebook
    from relclass.dataset import read_labelled, read_real
    from relclass.description import collect_items, fill_card
    from relclass.description import describe as count
    from relclass.real_passages import read_real_labels
    from relclass.split_file import read_splits

    settings = _settings(authored, real_labels, real_texts, splits, codebook)
    book = load_codebook(settings.codebook)
    passages = [p for path in settings.authored for p in read_labelled(path, book)]
    labels = read_real_labels(real_labels, book) if real_labels else []
    if real_labels and settings.real_texts:
        passages += read_real(real_labels, settings.real_texts, book)[0]
    known = read_splits(settings.splits) if settings.splits.exists() else None
    tables = count(collect_items(passages, labels, splits=known), book)
    page = "\n\n".join(f"**{table.title}**\n\n{table.to_markdown()}" for table in tables)
    if into is not None:
        into.write_text(fill_card(into.read_text(encoding="utf-8"), page), encoding="utf-8")
        print(f"{into}: counts brought up to date")
    elif markdown:
        print(page)
    else:
        for table in tables:
            _print_table(table.title, table.columns, table.rows)


def check(
    authored: _Authored = None,
    real_labels: _RealLabels = None,
    real_texts: _RealTexts = None,
    splits: _Splits = None,
    codebook: _Codebook = None,
    label_errors: Annotated[
        bool, typer.Option(help="Look for likely label errors; trains baselines, takes minutes.")
    ] = True,
    max_words: Annotated[int, typer.Option(min=1, help="Longer texts are named.")] = 400,
    limit: Annotated[int, typer.Option(min=0, help="Findings of a kind to print.")] = 20,
    output: _Output = None,
) -> None:
    """Look for leaks between splits, likely label errors and unfit texts, before training.

    Exits with 1 if passages of one article, or near-duplicates, are in two splits.
    """
    from relclass.dataset import load_dataset
    from relclass.quality import KINDS, check_data, predict_out_of_fold

    dataset = load_dataset(_settings(authored, real_labels, real_texts, splits, codebook))
    passages = dataset.passages
    y_prob = predict_out_of_fold(passages, dataset.codebook) if label_errors else None
    report = check_data(
        passages,
        dataset.codebook,
        splits=dataset.splits.tolist(),
        y_prob=y_prob,
        max_words=max_words,
    )
    texts = {passage.passage_id: passage.text for passage in passages}
    for kind, count in report.counts.items():
        print(f"{count:6,}  {KINDS[kind]}")
    for kind in report.counts:
        found = [finding for finding in report.findings if finding.kind == kind]
        if found and limit:
            _print_findings(KINDS[kind], found[:limit], texts)
    _write_json(output, report.to_dict())
    if report.has_leaks:
        raise typer.Exit(_LEAKS_FOUND)


def split(
    authored: _Authored = None,
    real_labels: _RealLabels = None,
    real_texts: _RealTexts = None,
    splits: _Splits = None,
    codebook: _Codebook = None,
    new_to_train: Annotated[
        bool, typer.Option("--new-to-train", help="Leave validation and test as they are.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop from the file what is not in the data.")
    ] = False,
) -> None:
    """Give every passage a split; those made before stay, and new ones are placed around them."""
    from relclass.dataset import make_splits
    from relclass.split_file import read_splits

    settings = _settings(authored, real_labels, real_texts, splits, codebook)
    before = read_splits(settings.splits) if settings.splits.exists() else None
    made = make_splits(settings, new_to_train=new_to_train, forget=forget)
    if before == made:
        print(f"{settings.splits}: version {made.version}, nothing to add")
        return
    n_old = len(before.articles) + len(before.passages) if before else 0
    n_new = len(made.articles) + len(made.passages)
    print(
        f"{settings.splits}: version {made.version}; {len(made.articles):,} articles and "
        f"{len(made.passages):,} real passages ({n_new - n_old:+,})"
    )


def agreement(
    files: Annotated[list[Path], typer.Argument(help="Label files of two or more annotators.")],
    codebook: _Codebook = None,
    format: Annotated[_FormatName, typer.Option("--format", help="Of the files.")] = "auto",
    limit: Annotated[int, typer.Option(min=0, help="Disagreements to print.")] = 20,
    output: _Output = None,
) -> None:
    """Say how far annotators agree on the same passages, and where they do not."""
    from relclass.agreement import measure_agreement
    from relclass.annotation import read_annotations
    from relclass.codebook import load_codebook
    from relclass.errors import DataError

    book = load_codebook(codebook or "data/codebook.yaml")
    annotators: dict[str, Any] = {}
    for file in files:
        for name, passages in read_annotations(file, book, format=_format(file, format)).items():
            unique = name if name not in annotators else str(file)
            if unique in annotators:
                raise DataError(f"{file}: given twice; name the files of different annotators")
            annotators[unique] = passages
    if len(annotators) < 2:
        raise DataError(f"{files[0]}: the labels of one annotator alone; give another file")
    result = measure_agreement(annotators, book)
    _print_agreement(result, limit)
    _write_json(output, result.to_dict())


def convert(
    source: Annotated[Path, typer.Argument(help="A label file, or a folder of them.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    from_format: Annotated[_FormatName, typer.Option("--from", help="Of the source.")] = "auto",
    to_format: Annotated[_FormatName, typer.Option("--to", help="Of the target.")] = "auto",
    annotator: Annotated[
        str | None, typer.Option(help="Whose labels, where the source has several.")
    ] = None,
    codebook: _Codebook = None,
) -> None:
    """Turn labelled passages into another layout: JSON lines, CSV, Label Studio, doccano."""
    from relclass.annotation import read_annotations, write_annotations
    from relclass.codebook import load_codebook
    from relclass.errors import DataError

    book = load_codebook(codebook or "data/codebook.yaml")
    found = read_annotations(source, book, format=_format(source, from_format))
    if annotator is None and len(found) > 1:
        raise DataError(f"{source}: several annotators; choose with --annotator {'|'.join(found)}")
    if annotator is not None and annotator not in found:
        raise DataError(f"{source}: no annotator {annotator!r}; there are {', '.join(found)}")
    passages = found[annotator] if annotator else next(iter(found.values()), [])
    layout = _format(target, to_format, is_new=True)
    write_annotations(passages, target, format=layout)
    print(f"{target}: {len(passages):,} passages as {layout}")


def hydrate(
    places: Annotated[list[Path], typer.Argument(help="Files, or folders of repositories.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON lines to write.")],
    labels: Annotated[Path, typer.Option(help="The labels without texts.")] = Path(
        "data/real_labels.jsonl"
    ),
    named_files_only: Annotated[
        bool,
        typer.Option(help="Read only files that a label names, as PLACE/OWNER/NAME/PATH: fast."),
    ] = False,
    codebook: _Codebook = None,
) -> None:
    """Rebuild the texts of real passages, by hash, from files on this machine."""
    from relclass.codebook import load_codebook
    from relclass.hydration import hydrate as find
    from relclass.hydration import write_texts
    from relclass.real_passages import read_real_labels

    wanted = read_real_labels(labels, load_codebook(codebook or "data/codebook.yaml"))
    found = find(wanted, places, named_files_only=named_files_only)
    write_texts(found, wanted, output)
    rows = [(name, f"{found.found[name]:,}", f"{n:,}") for name, n in found.wanted.items()]
    _print_table("texts found", ("repository", "found", "of"), rows)
    print(f"{output}: {len(found.texts):,} of {len(wanted):,} texts")


def _settings(
    authored: list[Path] | None,
    real_labels: Path | None,
    real_texts: list[Path] | None,
    splits: Path | None,
    codebook: Path | None,
) -> DataSettings:
    from relclass.config import DataSettings

    given = {
        "authored": tuple(authored) if authored else None,
        "real_labels": real_labels,
        "real_texts": tuple(real_texts) if real_texts else None,
        "splits": splits,
        "codebook": codebook,
    }
    return DataSettings.model_validate({k: v for k, v in given.items() if v is not None})


def _format(path: Path, name: _FormatName, *, is_new: bool = False) -> Format:
    from relclass.annotation import guess_format

    if name != "auto":
        return name
    if is_new:
        return "label-studio" if path.suffix == ".json" else "labelled"
    return guess_format(path)


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        is_number = all(row[columns.index(column)][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(title, style="bold")
    console.print(table)


def _print_findings(title: str, findings: Sequence[Finding], texts: dict[str, str]) -> None:
    rows = [
        (
            "\n".join(finding.passage_ids[:6]),
            finding.detail,
            "" if finding.probability is None else f"{finding.probability:.3f}",
            _shorten(texts[finding.passage_ids[0]]),
        )
        for finding in findings
    ]
    _print_table(title, ("passage", "what", "probability", "text"), rows)


def _print_agreement(result: Agreement, limit: int) -> None:
    alphas = [(topic, _figure(alpha)) for topic, alpha in result.alpha.items()]
    title = f"Krippendorff's alpha, {result.n_passages:,} passages labelled twice or more"
    _print_table(title, ("topic", "alpha"), [*alphas, ("sets (MASI)", _figure(result.alpha_masi))])
    rows = [
        (*pair.annotators, f"{pair.n_passages:,}", topic, _figure(pair.kappa[topic]),
         _figure(pair.f1[topic]), f"{pair.exact_match:.3f}")
        for pair in result.pairs
        for topic in pair.kappa
    ]  # fmt: skip
    columns = ("annotator", "and", "passages", "topic", "kappa", "F1", "same set")
    _print_table("Pairs", columns, rows)
    for name, count in result.n_unpaired.items():
        if count:
            print(f"{count:,} passages that only {name} labelled were left out", file=sys.stderr)
    if result.disagreements and limit:
        shown = [
            (
                item.passage_id,
                "\n".join(f"{name}: {', '.join(t) or '–'}" for name, t in item.topics.items()),
                _shorten(item.text),
            )
            for item in result.disagreements[:limit]
        ]
        title = f"{len(result.disagreements):,} disagreements"
        _print_table(title, ("passage", "topics", "text"), shown)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _shorten(text: str, n_chars: int = 90) -> str:
    """Cut a text for a table cell; on a terminal it is isolated, so that it keeps its direction."""
    text = " ".join(text.split())
    text = text if len(text) <= n_chars else text[: n_chars - 1] + "…"
    return f"\u2068{text}\u2069" if sys.stdout.isatty() else text


def _write_json(path: Path | None, content: object) -> None:
    if path is not None:
        text = json.dumps(content, ensure_ascii=False, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
