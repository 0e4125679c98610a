"""The commands that put fitted models together."""

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


def cascade(
    config: Annotated[Path, typer.Argument(help="The config whose data and splits are used.")],
    base: Annotated[str, typer.Argument(help="An ensemble: a model folder, or a shipped name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    first: Annotated[str, typer.Option(help="The member that reads every passage.")] = "baseline",
    name: Annotated[str, typer.Option(help="Stands in every prediction.")] = "cascade",
    max_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Macro-F1 that may be lost, by validation.")
    ] = 0.01,
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Refer to a shipped base instead of copying it.")
    ] = False,
) -> None:
    """Let an ensemble's cheap member settle the clear passages alone: much faster."""
    from relclass.cascading import build_cascade
    from relclass.config import load_config
    from relclass.dataset import load_dataset
    from relclass.models.store import load_model, save_model

    dataset = load_dataset(load_config(config).data)
    classifier = build_cascade(
        load_model(base),
        first,
        dataset,
        name=name,
        max_loss=max_loss,
        by_name=by_name,
    )
    save_model(classifier, out)
    for origin, figures in classifier.card["validation"].items():
        print(
            f"validation, {origin}: macro-F1 {figures['macro_f1']:.3f}, the base's "
            f"{figures['macro_f1_of_base']:.3f}; settled by {first}: "
            f"{figures['share_settled']:.0%}, by a student: "
            f"{figures['share_settled_by_student']:.0%}"
        )
    print(f"model: {out}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ensemble)
    app.command()(cascade)
