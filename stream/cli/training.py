"""`riskstream train` and `riskstream evaluate`: learn a model, and judge one, on recorded, labelled events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.core.errors import ConfigurationError
from stream.cli.options import takes
from stream.telemetry.terminal import echo

if TYPE_CHECKING:
    from models.core.manifest import Manifest
    from models.training.settings import TrainSettings

TrainFile = Annotated[Path, typer.Option("--config", help="Training settings; name the data.")]
TRAIN_SETTINGS = Path("train.toml")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("evaluate")(evaluate)


def train(
    model: Annotated[
        str, typer.Option("--model", help="Model to train: a table [models.NAME] of the settings.")
    ],
    config: TrainFile = TRAIN_SETTINGS,
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
    from models.training.settings import choose_model
    from stream.settings.training import load_training

    settings = load_training(config)
    choose_model(settings, model)
    path = _train(config, settings, model, registry or _registry(settings, config), key)
    for name, value in bundle.describe(path).metrics.items():
        echo(f"{name:<36} {value:.4f}")
    echo(path)


def _train(config: Path, settings: TrainSettings, model: str, registry: str, key: str | None) -> str:
    from models.bundles.signing import private_key, read_key
    from models.training.data.load import load_frame
    from models.training.train import train as train_model
    from stream.telemetry.progress_bar import progress_bar

    signer = private_key(read_key(key), key) if key else None
    with progress_bar("events") as advance:
        frame, plan = load_frame(settings.data, config.parent, advance)
    with progress_bar(f"training {model}") as advance:
        return train_model(
            frame,
            settings,
            model,
            plan=plan,
            registry=registry,
            key=signer,
            progress=lambda _, done, total: advance(done, total),
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `riskstream evaluate`."""

    model: Annotated[
        str | None, typer.Option("--model", help="NAME@ALIAS or NAME@VERSION in the settings' registry.")
    ] = None
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="A bundle's directory, instead of --model.")
    ] = None
    config: TrainFile = TRAIN_SETTINGS
    start: Annotated[str | None, typer.Option(help="First day to evaluate on, instead of data.start.")] = None
    end: Annotated[str | None, typer.Option(help="Day after the last one, instead of data.end.")] = None
    threshold: Annotated[float | None, typer.Option(help="Score from which a row counts as flagged.")] = None
    trusted: Annotated[
        list[str] | None, typer.Option("--key", help="Trusted public key: a PEM file, or env:NAME; repeat.")
    ] = None
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to, instead of the settings' `report`.")
    ] = None


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Evaluate a bundle: accuracy, money, stability, explanations, fairness.

    Writes `evaluation-NAME.html` (one self-contained file), `evaluation-NAME.json`, and the model card.
    Evaluate on days after the training window, or the figures are of rows that the model has learned.
    """
    from models.bundles import bundle as bundles
    from models.bundles.signing import trust
    from models.training.evaluation.report import render_report
    from stream.settings.training import load_training

    settings = load_training(options.config)
    path = _bundle_path(options, settings)
    manifest = bundles.describe(path)
    trusted = trust(options.trusted or [], allow_unsigned=() if options.trusted else (manifest.name,))
    figures = _figures(options, settings, manifest, path, trusted)
    _, _, files = bundles.read(path, trusted)
    card = files.get(bundles.CARD_FILE, b"").decode()
    folder = options.output or options.config.parent / settings.report
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"evaluation-{manifest.name}"
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    stem.with_name(f"{stem.name}.html").write_text(render_report(figures, card), encoding="utf-8")
    stem.with_name(f"{stem.name}.md").write_text(card, encoding="utf-8")
    _show(figures, stem.with_name(f"{stem.name}.html"))


def _figures(
    options: EvaluateOptions, settings: TrainSettings, manifest: Manifest, path: str, trusted: Any
) -> dict[str, Any]:
    import msgspec

    from models.bundles import bundle as bundles
    from models.training.data.load import load_frame
    from models.training.evaluation.evaluate import evaluate as figures_of
    from models.training.train import prepare
    from stream.telemetry.progress_bar import progress_bar

    period: dict[str, Any] = {
        name: day for name, day in (("start", options.start), ("end", options.end)) if day is not None
    }
    inputs = (*manifest.numeric, *manifest.categorical)
    exact = msgspec.structs.replace(settings.data, inputs=inputs, categorical=manifest.categorical, **period)
    with progress_bar("events") as advance:
        frame, plan = load_frame(settings.data, options.config.parent, advance)
    loaded = bundles.load(path, trusted, plan)
    data = prepare(frame, msgspec.structs.replace(settings, data=exact), plan, manifest.source or None)
    with progress_bar(f"evaluating {manifest.name}") as advance:
        return figures_of(
            loaded,
            data,
            costs=settings.costs,
            cards=settings.search.cards if settings.search else 100,
            threshold=options.threshold,
            protected=(*settings.data.protected, *(plan.definitions.protected if plan else ())),
            progress=lambda _, done, total: advance(done, total),
        )


def _registry(settings: TrainSettings, config: Path) -> str:
    """A registry's URL as it is, a path relative to the settings file."""
    return settings.registry if "://" in settings.registry else str(config.parent / settings.registry)


def _bundle_path(options: EvaluateOptions, settings: TrainSettings) -> str:
    from models.bundles.registry import Registry

    if (options.model is None) == (options.bundle is None):
        raise ConfigurationError("evaluate: give either --model NAME@ALIAS or --bundle DIRECTORY")
    if options.bundle is not None:
        return options.bundle
    return Registry(_registry(settings, options.config)).resolve(str(options.model)).path


def _show(figures: dict[str, Any], report: Path) -> None:
    accuracy = figures["accuracy"]
    for name in ("roc_auc", "average_precision", "card_precision", "card_precision_attainable"):
        if name in accuracy:
            echo(f"{name:<28} {accuracy[name]:.4f}")
    shift = figures["stability"]["shift"]
    if shift["score_psi"] is not None:
        echo(f"{'score_psi':<28} {shift['score_psi']:.4f}")
    echo(f"{'best_cost':<28} {figures['money']['best_cost']:,.2f}")
    echo(report)
