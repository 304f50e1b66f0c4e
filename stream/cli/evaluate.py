"""`riskstream evaluate`: figures, report and model card of a bundle on recorded, labelled events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[
        str | None, typer.Option("--model", help="NAME@ALIAS or NAME@VERSION in the settings' registry.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="A bundle's directory, instead of --model.")
    ] = None,
    config: Annotated[Path, typer.Option("--config", help="Training settings; name the data.")] = Path(
        "train.toml"
    ),
    start: Annotated[
        str | None, typer.Option(help="First day to evaluate on, instead of data.start.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last one, instead of data.end.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Score from which a row counts as flagged.")] = None,
    trusted: Annotated[
        list[str] | None, typer.Option("--key", help="Trusted public key: a PEM file, or env:NAME; repeat.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to, instead of the settings' `report`.")
    ] = None,
) -> None:
    """Evaluate a bundle: accuracy, money, stability, explanations, fairness.

    Writes `evaluation-NAME.html` (one self-contained file), `evaluation-NAME.json`, and the model card.
    Evaluate on days after the training window, or the figures are of rows that the model has learned.
    """
    import json

    import msgspec

    from models.bundles import bundle as bundles
    from models.bundles.signing import trust
    from models.training.data.load import load_frame
    from models.training.evaluation.evaluate import evaluate as figures_of
    from models.training.evaluation.report import render_report
    from models.training.settings import load_settings
    from models.training.train import prepare
    from stream.cli.train import resolve
    from stream.telemetry.progress_bar import progress_bar

    settings = load_settings(config)
    path = _path(model, bundle, resolve(settings.registry, config))
    made = bundles.describe(path)
    believed = trust(trusted or [], allow_unsigned=() if trusted else (made.name,))
    period: dict[str, Any] = {name: day for name, day in (("start", start), ("end", end)) if day is not None}
    exact = msgspec.structs.replace(
        settings.data, inputs=(*made.numeric, *made.categorical), categorical=made.categorical, **period
    )
    with progress_bar("events") as advance:
        frame, plan = load_frame(settings.data, config.parent, advance)
    loaded = bundles.load(path, believed, plan)
    protected = (*settings.data.protected, *(plan.definitions.protected if plan else ()))
    data = prepare(frame, msgspec.structs.replace(settings, data=exact), plan, made.source or None)
    with progress_bar(f"evaluating {made.name}") as advance:
        figures = figures_of(
            loaded,
            data,
            costs=settings.costs,
            cards=settings.search.cards if settings.search else 100,
            threshold=threshold,
            protected=protected,
            progress=lambda _, done, total: advance(done, total),
        )
    card = _card(bundles, path, believed)
    folder = output or config.parent / settings.report
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"evaluation-{made.name}.json").write_text(
        json.dumps(figures, indent=1) + "\n", encoding="utf-8"
    )
    (folder / f"evaluation-{made.name}.html").write_text(render_report(figures, card), encoding="utf-8")
    (folder / f"evaluation-{made.name}.md").write_text(card, encoding="utf-8")
    _show(figures, folder / f"evaluation-{made.name}.html")


def _path(model: str | None, bundle: str | None, registry: str) -> str:
    from features.core.errors import ConfigurationError
    from models.bundles.registry import Registry

    if (model is None) == (bundle is None):
        raise ConfigurationError("evaluate: give either --model NAME@ALIAS or --bundle DIRECTORY")
    return bundle if bundle is not None else Registry(registry).resolve(str(model)).path


def _card(bundles: Any, path: str, believed: Any) -> str:
    _, _, files = bundles.read(path, believed)
    return str(files.get(bundles.CARD_FILE, b"").decode())


def _show(figures: dict[str, Any], report: Path) -> None:
    accuracy = figures["accuracy"]
    for name in ("roc_auc", "average_precision", "card_precision", "card_precision_attainable"):
        if name in accuracy:
            typer.echo(f"{name:<28} {accuracy[name]:.4f}")
    shift = figures["stability"]["shift"]
    if shift["score_psi"] is not None:
        typer.echo(f"{'score_psi':<28} {shift['score_psi']:.4f}")
    typer.echo(f"{'best_cost':<28} {figures['money']['best_cost']:,.2f}")
    typer.echo(str(report))
