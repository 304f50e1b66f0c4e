"""`riskstream model`: look at, check and switch the models of a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.core.errors import ConfigurationError
from stream.cli.options import SETTINGS, ConfigFile
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from models.bundles.registry import Registry
    from stream.settings.config import Config

Reference = Annotated[str, typer.Argument(help="NAME@ALIAS or NAME@VERSION.")]
Alias = Annotated[str, typer.Option(help="The alias to switch.")]
Key = Annotated[str | None, typer.Option("--key", help="Private key: a PEM file, or env:NAME.")]

models = typer.Typer(
    name="model", no_args_is_help=True, help="Versions of models, and which one is champion."
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(models)


@models.command("list")
def list_models(config: ConfigFile = SETTINGS) -> None:
    """List models, their versions and aliases."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from models.bundles import bundle

    registry = _registry(_load(config))
    table = Table("model", "version", "aliases", "algorithm", "roc auc", "plan")
    for name in registry.names():
        current = registry.aliases(name).current()
        for version in registry.versions(name):
            manifest = bundle.describe(registry.path(name, version))
            aliases = ", ".join(alias for alias, target in sorted(current.items()) if target == version)
            measured = manifest.metrics.get("roc_auc")
            auc = "" if measured is None else f"{measured:.3f}"
            cells = (name, version, aliases, manifest.algorithm, auc, manifest.plan)
            table.add_row(*(Text(escaped(cell)) for cell in cells))
    Console().print(table)


@models.command()
def show(reference: Reference, config: ConfigFile = SETTINGS) -> None:
    """Print a bundle's manifest and who its alias was before."""
    import msgspec

    from models.bundles import bundle
    from models.core import manifest

    registry = _registry(_load(config))
    resolved = registry.resolve(reference)
    echo(manifest.encode(bundle.describe(resolved.path)).decode().removesuffix("\n"))
    for change in registry.aliases(resolved.name).history[-10:]:
        echo(msgspec.json.encode(change).decode(), err=True)


@models.command()
def verify(reference: Reference, config: ConfigFile = SETTINGS) -> None:
    """Check a bundle as a worker does: signature, files, plan, inputs, golden rows. Ends with 1 if refused."""
    from models.core.errors import BundleRefused

    try:
        echo(_verified(_load(config), reference))
    except BundleRefused as refused:
        echo(escaped(refused), err=True)
        raise typer.Exit(1) from refused


@models.command()
def promote(reference: Reference, alias: Alias = "champion", config: ConfigFile = SETTINGS) -> None:
    """Verify a version and let the alias mean it; running workers swap between two batches."""
    loaded = _load(config)
    echo(_verified(loaded, reference))
    registry = _registry(loaded)
    resolved = registry.resolve(reference)
    registry.promote(resolved.name, resolved.version, alias)
    echo(f"{resolved.name}@{alias} is {resolved.version}")


@models.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The model.")],
    alias: Alias = "champion",
    config: ConfigFile = SETTINGS,
) -> None:
    """Verify the version before the last promotion, and let the alias mean it again."""
    from models.core.errors import BundleRefused

    loaded = _load(config)
    registry = _registry(loaded)
    try:
        _verified(loaded, f"{name}@{registry.previous(name, alias)}")
    except BundleRefused as refused:
        echo(f"{escaped(f'{name}@{alias} stays as it is: {refused}')}", err=True)
        raise typer.Exit(1) from refused
    version = registry.rollback(name, alias).current()[alias]
    echo(f"{name}@{alias} is {version}")


@models.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="An ONNX file.")],
    declaration: Annotated[
        Path, typer.Option("--signature", help="TOML file declaring inputs and baselines.")
    ],
    key: Key = None,
    config: ConfigFile = SETTINGS,
) -> None:
    """Make a bundle of any ONNX file and register it."""
    from models.bundles import bundle, signing
    from models.bundles.importing import import_onnx, read_declaration
    from stream.project.build import make_plan

    loaded = _load(config)
    contents = import_onnx(file.read_bytes(), read_declaration(str(declaration)), make_plan(loaded))
    _, manifest, _ = bundle.assemble(contents, str(file))
    path = _registry(loaded).path(manifest.name, manifest.version)
    private = None if key is None else signing.private_key(signing.read_key(key), key)
    bundle.write(path, contents, key=private)
    echo(f"{manifest.name}@{manifest.version}")


@models.command()
def sign(
    reference: Reference,
    key: Annotated[str, typer.Option("--key", help="Private key: a PEM file, or env:NAME.")],
    config: ConfigFile = SETTINGS,
) -> None:
    """Sign a registered version."""
    from models.bundles import bundle, signing

    resolved = _registry(_load(config)).resolve(reference)
    private = signing.private_key(signing.read_key(key), key)
    bundle.sign(resolved.path, private)
    echo(f"{resolved.name}@{resolved.version} signed by {signing.key_id(private.public_key())}")


@models.command()
def keygen(
    name: Annotated[str, typer.Argument(help="Writes NAME.pem (private, mode 600) and NAME.pub.pem.")],
) -> None:
    """Make a key pair for signing. Keep the private key out of the registry."""
    import os

    from models.bundles import signing

    private, public = signing.new_key()
    secret_file, public_file = Path(f"{name}.pem"), Path(f"{name}.pub.pem")
    if public_file.exists():
        raise ConfigurationError(f"{public_file} exists; keys are never overwritten")
    try:
        handle = os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigurationError(f"{secret_file} exists; keys are never overwritten") from error
    with os.fdopen(handle, "w") as out:
        out.write(private)
    public_file.write_text(public)
    echo(f"{secret_file} {public_file} {signing.key_id(signing.public_key(public, name))}")


def _load(path: Path) -> Config:
    from stream.settings import config

    return config.load(path)


def _registry(config: Config) -> Registry:
    from models.bundles.registry import Registry

    return Registry(config.resolve(config.models.registry))


def _verified(config: Config, reference: str) -> str:
    from stream.project.build import load_model, make_plan

    loaded = load_model(config, make_plan(config), reference)
    version = loaded.version
    return (
        f"{version.name} {version.version} holds: manifest {version.sha256[:16]}, plan {loaded.manifest.plan}"
    )
