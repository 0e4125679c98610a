"""Commands that make models: train, average, prune, drop-tokens, export, build-default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="A YAML of configs/, or your own.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: section.key=value.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder [default: runs/NAME].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool, typer.Option(help="Go on where a killed run of the same config stopped.")
    ] = True,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Save every N steps instead of each epoch.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after N steps: a smoke run.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to TensorBoard.")] = False,
    soft_targets: Annotated[
        Path | None, typer.Option(help="JSON of passage id to targets in [0, 1].")
    ] = None,
) -> None:
    """Fit a model from a config; on several GPUs: accelerate launch scripts/train.py CONFIG."""
    from relclass.config import load_config
    from relclass.examples import read_soft_targets
    from relclass.run_folder import MODEL, RunOptions, is_main_process
    from relclass.training import train as run

    settings = load_config(config, overrides or ())
    run_dir = out if out is not None else Path("runs") / settings.name
    options = RunOptions(
        checkpoint_steps=checkpoint_steps, max_steps=max_steps, use_tensorboard=tensorboard
    )
    soft = None if soft_targets is None else read_soft_targets(soft_targets)
    classifier = run(
        settings, run_dir, device=device, resume=resume, options=options, soft_targets=soft
    )
    if is_main_process():
        _print_metrics(classifier.card["metrics"])
        print(f"model: {run_dir / MODEL}")


def _print_metrics(metrics: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("split", "origin", "passages", "macro-F1", "mean AP", title="results")
    for split, origins in metrics.items():
        for origin, figures in origins.items():
            overall = figures["overall"]
            table.add_row(
                split,
                origin,
                f"{figures['n_passages']:,}",
                f"{overall['macro_f1']:.3f}",
                f"{overall['macro_average_precision']:.3f}",
            )
    Console().print(table)


def export(
    model: Annotated[Path, typer.Argument(help="A model folder of the kind transformer.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Texts to trim the vocabulary by (.txt, .jsonl); none keeps it whole."),
    ] = None,
    max_pieces: Annotated[
        int | None, typer.Option(min=1, help="Pieces to keep at most, the commonest first.")
    ] = None,
) -> None:
    """Export a fine-tuned transformer to int8 ONNX, which needs no torch."""
    from relclass.models.export import ExportSettings, export_classifier

    settings = ExportSettings(corpus=tuple(corpus or ()), max_pieces=max_pieces)
    sizes = export_classifier(model, out, settings)
    for name, n_bytes in sizes.items():
        print(f"{name}: {n_bytes / 1e6:.1f} MB")


def restore(
    model: Annotated[str, typer.Argument(help="A shipped model, or a model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    student: Annotated[
        bool, typer.Option("--student", help="The small network that reads first instead.")
    ] = False,
) -> None:
    """Turn an int8 ONNX model back into a transformer, to train it on; needs torch."""
    from relclass.loading import load_classifier
    from relclass.models.restore import restore_classifier
    from relclass.models.store import save_model

    restored = restore_classifier(load_classifier(model, device="cpu"), student=student)
    save_model(restored, out)
    print(f"model: {out}; train it on: model.encoder={out} model.keep_head=true")


def build_default(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are averaged.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path(
        "relclass/shipped/default"
    ),
    corpus: Annotated[
        list[Path] | None, typer.Option(help="Texts to trim the vocabulary by (.txt, .jsonl).")
    ] = None,
    max_pieces: Annotated[
        int | None, typer.Option(min=1, help="Pieces to keep at most, the commonest first.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model [default: the config's].")] = None,
    student: Annotated[
        Path | None, typer.Option(help="Run folder of a distilled network, to read first.")
    ] = None,
) -> None:
    """Make the model that ships inside the package out of finished runs."""
    from relclass.models.export import ExportSettings
    from relclass.shipping import build_default_model

    settings = ExportSettings(corpus=tuple(corpus or ()), max_pieces=max_pieces)
    classifier = build_default_model(runs, out, settings, name=name, student_dir=student)
    _print_metrics(classifier.card["metrics"])
    for split, parity in classifier.card["parity"].items():
        print(f"int8 against float, {split}: {parity}")
    for split, parity in classifier.card.get("student", {}).get("parity", {}).items():
        print(f"the student's, {split}: {parity}")
    n_bytes = sum(path.stat().st_size for path in out.iterdir())
    print(f"model: {out}, {n_bytes / 1e6:.1f} MB")


def average(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of fine-tuned transformers.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
) -> None:
    """Average the weights of several runs, to train on from or to imitate."""
    from relclass.shipping import average_runs

    average_runs(runs, out)
    print(f"model: {out}")


def prune(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are averaged.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    heads: Annotated[str, typer.Option(help="Heads each layer keeps: 6, or 6,6,5,…")],
    neurons: Annotated[str, typer.Option(help="Neurons each layer keeps: 768, or 768,640,…")],
    until_exit: Annotated[
        bool, typer.Option("--until-exit", help="Take the layers before the first early exit.")
    ] = False,
) -> None:
    """Take heads and neurons out of a fine-tuned transformer; train the result on afterwards."""
    from relclass.shipping import prune_runs

    prune_runs(
        runs,
        out,
        heads=_read_counts("heads", heads),
        neurons=_read_counts("neurons", neurons),
        until_exit=until_exit,
    )
    print(f"model: {out}; train it on: model.encoder={out} model.keep_head=true")


def drop_tokens(
    runs: Annotated[list[Path], typer.Argument(help="Run or model folders; several are averaged.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    keep: Annotated[
        str, typer.Option(help="After which layers which share of the tokens goes on: 4:0.5,8:0.25")
    ],
    at_least: Annotated[
        int, typer.Option(min=1, help="Of a window so many tokens go on whatever the shares.")
    ] = 32,
    until_exit: Annotated[
        bool, typer.Option("--until-exit", help="Take the layers before the first early exit.")
    ] = False,
) -> None:
    """Let a fine-tuned transformer drop, layer by layer, the tokens that its topics need least."""
    from relclass.shipping import drop_tokens_of_runs

    shares = _read_shares(keep)
    drop_tokens_of_runs(runs, out, shares, at_least=at_least, until_exit=until_exit)
    print(f"model: {out}; export it, or train it on: model.encoder={out} model.keep_head=true")
    print(f"    'model.keep_tokens={shares}' model.keep_at_least={at_least}")


def _read_shares(text: str) -> dict[int, float]:
    from relclass.errors import ConfigError

    try:
        pairs = [part.split(":") for part in text.split(",")]
        shares = {int(layer): float(share) for layer, share in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--keep: got {text!r}, expected LAYER:SHARE,… as 4:0.5,8:0.25"
        ) from error
    if len(shares) < len(pairs):
        raise ConfigError(f"--keep: got {text!r}, which names a layer twice")
    return shares


def _read_counts(what: str, text: str) -> list[int]:
    from relclass.errors import ConfigError

    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--{what}: got {text!r}, expected a number, or one a layer with commas between"
        ) from error


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line."""
    app.command()(train)
    app.command()(export)
    app.command()(restore)
    app.command()(build_default)
    app.command()(average)
    app.command()(prune)
    app.command()(drop_tokens)
