"""Commands that measure models: evaluate, compare, cross-validate, error-rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from relclass.codebook import Codebook
    from relclass.comparison import Comparison
    from relclass.cross_validation import CrossValidation
    from relclass.evaluation import Estimate, Evaluation

Data = Annotated[
    str,
    typer.Option("--data", "-d", help="Labelled file or folder, or train, validation or test."),
]
Config = Annotated[
    Path | None, typer.Option(help="A training config, for where a split's passages lie.")
]
Texts = Annotated[
    list[Path] | None,
    typer.Option(help="Files that hold the texts, where --data is labels without them."),
]
Origin = Annotated[str | None, typer.Option(help="Only real or only authored passages.")]
CodebookFile = Annotated[
    Path | None,
    typer.Option(
        help="[default: the config's, the first model's for a labelled file, or data/codebook.yaml]"
    ),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Score passages that gold and predictions both have.")
]
Resamples = Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0 for no intervals.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the resamples.")]
Outputs = Annotated[
    list[Path] | None,
    typer.Option("--output", "-o", help="Write here too; may be given more than once."),
]


def evaluate(
    models: Annotated[
        list[str] | None, typer.Argument(help="Shipped names or model folders.")
    ] = None,
    data: Data = "test",
    predictions: Annotated[
        list[Path] | None, typer.Option(help="Predictions on disk: JSONL, CSV or Parquet.")
    ] = None,
    texts: Texts = None,
    config: Config = None,
    origin: Origin = None,
    codebook: CodebookFile = None,
    partial: Partial = False,
    output: Outputs = None,
    mistakes: Annotated[
        int, typer.Option(min=0, help="Confident mistakes, with texts, in HTML and JSON.")
    ] = 40,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Score models, or predictions on disk, against labelled passages."""
    from dataclasses import replace

    from relclass.evaluation import Bootstrap
    from relclass.report import check_suffix, write_evaluations
    from relclass.scoring import evaluate_source, read_gold

    for path in output or ():
        check_suffix(path)
    sources = _sources(models, predictions)
    gold = read_gold(
        data,
        codebook=_own_codebook(sources),
        config=config,
        origin=origin,
        codebook_path=codebook,
        text_paths=texts or (),
    )
    bootstrap = Bootstrap(n_resamples=resamples, seed=seed)
    shows_mistakes = any(path.suffix.lower() in (".html", ".json") for path in output or ())
    evaluations: list[Evaluation] = []
    for source in sources:
        evaluation = evaluate_source(
            source,
            gold,
            bootstrap=bootstrap,
            n_mistakes=mistakes if shows_mistakes else 0,
            partial=partial,
        )
        if evaluation.model in {other.model for other in evaluations}:
            evaluation = replace(evaluation, model=source)
        evaluations.append(evaluation)
    _print_evaluations(evaluations)
    for path in output or ():
        write_evaluations(evaluations, path)
        print(f"wrote {path}")


def compare(
    models: Annotated[
        list[str], typer.Argument(help="Two or more model names, model folders or predictions.")
    ],
    data: Data = "test",
    texts: Texts = None,
    config: Config = None,
    origin: Origin = None,
    codebook: CodebookFile = None,
    output: Outputs = None,
    resamples: Resamples = 1000,
    shuffles: Annotated[int, typer.Option(min=1, help="Of the randomisation test.")] = 2000,
    seed: Seed = 0,
) -> None:
    """Say which model is better, by how much, and whether the difference is within noise."""
    from relclass.evaluation import Bootstrap
    from relclass.report import check_suffix, write_comparison
    from relclass.scoring import compare_sources, read_gold

    if len(models) < 2:
        raise typer.BadParameter("give two or more models to compare", param_hint="MODELS")
    for path in output or ():
        check_suffix(path, known=(".md", ".json"))
    gold = read_gold(
        data,
        codebook=_own_codebook(models),
        config=config,
        origin=origin,
        codebook_path=codebook,
        text_paths=texts or (),
    )
    comparison = compare_sources(
        models, gold, bootstrap=Bootstrap(n_resamples=resamples, seed=seed), n_shuffles=shuffles
    )
    _print_comparison(comparison)
    for path in output or ():
        write_comparison(comparison, path)
        print(f"wrote {path}")


def cross_validate(
    config: Annotated[Path, typer.Argument(help="A YAML of configs/, or your own.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: section.key=value.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="How many.")] = 5,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, help="May be given more than once [default: the config's]."),
    ] = None,
    shares: Annotated[
        list[float] | None,
        typer.Option(
            "--share", min=0.01, max=1, help="Of the training articles, for the learning curve."
        ),
    ] = None,
    with_test: Annotated[
        bool, typer.Option("--with-test", help="Deal the test passages to the folds too.")
    ] = False,
    origin: Annotated[
        Literal["real", "authored"] | None, typer.Option(help="Only passages of one origin.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop each training after N steps: a smoke run.")
    ] = None,
    output: Outputs = None,
) -> None:
    """Fit a config on folds that keep articles whole: mean, spread and learning curve."""
    from dataclasses import replace

    from relclass.config import load_config
    from relclass.cross_validation import cross_validate as run
    from relclass.cross_validation import make_fit
    from relclass.dataset import load_dataset
    from relclass.report import check_suffix, write_cross_validation
    from relclass.run_folder import RunOptions

    for path in output or ():
        check_suffix(path, known=(".md", ".json"))
    settings = load_config(config, overrides or ())
    dataset = load_dataset(settings.data)
    parts = ("train", "validation", "test") if with_test else ("train", "validation")
    passages = [p for part in parts for p in dataset.part(part, origin=origin)]
    options = RunOptions(device=device, resume=False, max_steps=max_steps)
    result = run(
        passages,
        dataset.codebook,
        make_fit(settings, dataset.codebook, options=options),
        n_folds=folds,
        seeds=seeds or (settings.seed,),
        shares=shares or (),
    )
    result = replace(result, name=settings.name)
    _print_cross_validation(result)
    for path in output or ():
        write_cross_validation(result, path)
        print(f"wrote {path}")


def _sources(models: Sequence[str] | None, predictions: Sequence[Path] | None) -> list[str]:
    if predictions:
        return [*(models or ()), *map(str, predictions)]
    return list(models or ("default",))


def _own_codebook(sources: Sequence[str]) -> Codebook | None:
    """Read the codebook of the first model; None where all are predictions on disk."""
    from relclass.codebook import Codebook
    from relclass.models.store import read_manifest
    from relclass.scoring import PREDICTION_SUFFIXES

    models = [name for name in sources if not name.lower().endswith(PREDICTION_SUFFIXES)]
    return Codebook.model_validate(read_manifest(models[0])["codebook"]) if models else None


def _print_evaluations(evaluations: Sequence[Evaluation]) -> None:
    from relclass.report_evaluation import describe_abstention

    console = _console()
    for evaluation in evaluations:
        scores = evaluation.overall
        title = (
            f"{evaluation.model} on {evaluation.data}: {scores.n_passages:,} passages of "
            f"{scores.n_articles:,} articles"
        )
        table = _table(title, "topic", "in gold", "precision", "recall", "F1", "average precision")
        for topic in evaluation.topics:
            by_name = scores.by_topic[topic]
            names = ("precision", "recall", "f1", "average_precision")
            n_positive = f"{scores.n_positive[topic]:,}"
            table.add_row(topic, n_positive, *(_stack(by_name[name]) for name in names))
        for average in ("macro", "micro"):
            figures = {n: scores.overall[f"{average}_{n}"] for n in ("precision", "recall", "f1")}
            rest = _stack(scores.overall["macro_average_precision"]) if average == "macro" else ""
            table.add_row(average, "", *map(_stack, figures.values()), rest)
        console.print(table)
        for name in ("subset_accuracy", "hamming_loss", "ece", "brier"):
            console.print(f"{name.replace('_', ' ')}: {scores.overall[name]}", highlight=False)
        console.print(describe_abstention(evaluation), highlight=False)


def _stack(estimate: Estimate) -> str:
    """Set the interval under the figure, so that a table fits 80 columns."""
    if estimate.value is None or estimate.low is None:
        return str(estimate)
    return f"{estimate.value:.3f}\n{estimate.low:.3f}–{estimate.high:.3f}"


def _print_comparison(comparison: Comparison) -> None:
    title = (
        f"{comparison.n_passages:,} passages of {comparison.n_articles:,} articles of "
        f"{comparison.data}"
    )
    table = _table(title, "metric", "less", "difference", "p", "p (Holm)", "verdict")
    for d in comparison.differences:
        verdict = {"first": f"{d.first} is better", "second": f"{d.second} is better"}
        p_values = ("undefined" if p is None else f"{p:.4f}" for p in (d.p_value, d.p_adjusted))
        pair = f"{d.second} less {d.first}"
        table.add_row(
            d.metric, pair, str(d.difference), *p_values, verdict.get(d.verdict, d.verdict)
        )
    _console().print(table)


def error_rates(
    model: Annotated[str, typer.Argument(help="A shipped name or a model folder.")],
    sample: Annotated[
        Path, typer.Option(help="Labels of passages drawn at random, and not trained on.")
    ] = Path("data/random_sample.jsonl"),
    config: Annotated[
        Path, typer.Option(help="Whose real texts and test passages are used.")
    ] = Path("configs/default.yaml"),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the model here, rates on its card.")
    ] = None,
) -> None:
    """Measure how a model errs on ordinary news: what summaries are corrected by."""
    from relclass.config import load_config
    from relclass.dataset import load_dataset, read_real
    from relclass.error_rates import measure_error_rates
    from relclass.errors import DataError
    from relclass.models.store import load_model, save_model

    settings = load_config(config).data
    classifier = load_model(model)
    passages, n_missing = read_real(sample, settings.real_texts, classifier.codebook)
    if not passages:
        raise DataError(f"{sample}: the texts of none of its {n_missing:,} passages were found")
    test = load_dataset(settings).part("test", origin="real")
    rates = measure_error_rates(classifier, passages, test)
    table = _table(
        f"{classifier.name} on {len(passages):,} passages drawn at random",
        "topic", "sensitivity", "specificity",
    )  # fmt: skip
    for topic, rate in rates.items():
        table.add_row(topic, f"{rate['sensitivity']:.3f}", f"{rate['specificity']:.3f}")
    _console().print(table)
    if out is not None:
        save_model(classifier, out, card={"error_rates": rates})
        print(f"model: {out}")


def _print_cross_validation(result: CrossValidation) -> None:
    names = ("macro_f1", "micro_f1", "macro_average_precision")
    table = _table(
        f"{result.name}: {result.n_folds} folds, seeds {', '.join(map(str, result.seeds))}",
        "origin", "macro F1", "micro F1", "mean average precision",
    )  # fmt: skip
    for origin in dict.fromkeys(origin for fold in result.folds for origin in fold.figures):
        spreads = (result.spread(name, origin=origin) for name in names)
        table.add_row(origin, *(str(spread or "undefined") for spread in spreads))
    console = _console()
    console.print(table)
    for n_articles, spread in result.learning_curve() if result.curve else ():
        console.print(f"{n_articles:,.0f} training articles: macro F1 {spread}", highlight=False)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Column, Table

    heads = (Column(name, overflow="fold") for name in columns)
    return Table(*heads, title=title, title_justify="left")


def _console() -> Console:
    """Make a console that prints names as they are: "[" begins no style, ":" no picture."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(evaluate)
    app.command()(compare)
    app.command("cross-validate")(cross_validate)
    app.command("error-rates")(error_rates)
