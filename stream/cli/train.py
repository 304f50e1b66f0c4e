"""`riskstream train`: learns a model from materialized features and writes its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    model: Annotated[
        str, typer.Option("--model", help="Model to train: a table [models.NAME] of the settings.")
    ],
    config: Annotated[Path, typer.Option("--config", help="Training settings.")] = Path("train.toml"),
    registry: Annotated[
        str | None, typer.Option(help="Registry to write to, instead of the settings' one.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Signing key: a PEM file, or env:NAME. Without one it is unsigned.")
    ] = None,
) -> None:
    """Train a model and write its bundle into the registry.

    Computes features first where the settings name recorded events instead of features. The same data,
    settings and seed give the same bundle. No alias is moved: `riskstream model promote` does that.
    """
    from models.bundles import bundle
    from models.bundles.signing import private_key, read_key
    from models.training.data.load import load_frame
    from models.training.settings import choose_model, load_settings
    from models.training.train import train as train_model
    from stream.telemetry.progress_bar import progress_bar

    settings = load_settings(config)
    choose_model(settings, model)
    signer = private_key(read_key(key), key) if key else None
    with progress_bar("events") as advance:
        frame, plan = load_frame(settings.data, config.parent, advance)
    target = registry or resolve(settings.registry, config)
    with progress_bar(f"training {model}") as advance:
        path = train_model(
            frame,
            settings,
            model,
            plan=plan,
            registry=target,
            key=signer,
            progress=lambda _, done, total: advance(done, total),
        )
    made = bundle.describe(path)
    for name, value in made.metrics.items():
        typer.echo(f"{name:<36} {value:.4f}")
    typer.echo(path)


def resolve(place: str, config: Path) -> str:
    """A registry's URL as it is, a path relative to the settings file."""
    return place if "://" in place else str(config.parent / place)
