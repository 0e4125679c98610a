"""The command that weighs fitted models against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ensemble(
    config: Annotated[Path, typer.Argument(help="The config whose data and splits are used.")],
    members: Annotated[list[str], typer.Argument(help="Model folders, or shipped names.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    name: Annotated[str, typer.Option(help="Stands in every prediction.")] = "ensemble",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Settings to change: section.key=value.")
    ] = None,
) -> None:
    """Weigh models topic by topic on the validation passages, and keep them as one."""
    from relclass.config import load_config
    from relclass.dataset import load_dataset
    from relclass.models.store import load_model, save_model
    from relclass.stacking import build_ensemble

    settings = load_config(config, set_ or ())
    dataset = load_dataset(settings.data)
    loaded = [load_model(member) for member in members]
    classifier = build_ensemble(loaded, dataset, name=name, thresholds=settings.thresholds)
    save_model(classifier, out)
    for origin, figures in classifier.card["metrics"]["test"].items():
        print(f"test, {origin}: macro-F1 {figures['overall']['macro_f1']:.3f}")
    print(f"model: {out}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ensemble)
