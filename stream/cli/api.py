"""`riskstream api`: the scorer over HTTP, and the keys of its callers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.core.errors import ConfigurationError
from stream.cli.options import SETTINGS, ConfigFile, LogLevel
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from stream.service.access.keys import KeyFile

commands = typer.Typer(name="api", help="Serve the scorer over HTTP; make and revoke API keys.")
keys = typer.Typer(name="keys", help="API keys: hashed at rest, shown once.")
commands.add_typer(keys, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(commands)


@commands.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: ConfigFile = SETTINGS,
    host: Annotated[str | None, typer.Option(help="Address to listen on; replaces api.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; replaces api.port.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No authentication; on a loopback address only.")
    ] = False,
    log_level: LogLevel = "info",
) -> None:
    """Serve the scorer over HTTP until stopped. Reads state, never writes it: the stream stays the only writer."""
    if context.invoked_subcommand is not None:
        return
    from stream.telemetry import logs

    logs.configure(log_level)
    from stream.service.serving import run_api

    raise typer.Exit(run_api(config, host=host, port=port, insecure=insecure))


@keys.command("create")
def create(
    config: ConfigFile = SETTINGS,
    scope: Annotated[
        list[str] | None, typer.Option(help="score, read or admin; may be given several times.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days until it expires; never when left out.")
    ] = None,
) -> None:
    """Make an API key and print it, this once. Rotate: create, move the callers, revoke."""
    from datetime import UTC, datetime, timedelta

    from stream.service.access.keys import SCOPES

    scopes = tuple(name for name in SCOPES if name in (scope or ["score"]))
    unknown = sorted(set(scope or []) - set(SCOPES))
    if unknown:
        raise ConfigurationError(f"--scope {unknown[0]}: expected one of {', '.join(SCOPES)}")
    now = datetime.now(UTC)
    key, token = _file(config).create(scopes, now=now, expires=now + timedelta(days=days) if days else None)
    echo(f"id {key.id}, scopes {' '.join(key.scopes)}", err=True)
    echo(token)


@keys.command("list")
def list_(config: ConfigFile = SETTINGS) -> None:
    """Show ids, scopes and dates; the keys themselves are stored nowhere."""
    for key in _file(config).keys().values():
        state = "revoked" if key.revoked else f"expires {key.expires:%Y-%m-%d}" if key.expires else "valid"
        echo(f"{key.id}  {' '.join(key.scopes):16}  made {key.created:%Y-%m-%d}  {state}")


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id that `keys list` shows.")],
    config: ConfigFile = SETTINGS,
) -> None:
    """Make a key useless at once, also for services that run."""
    _file(config).revoke(key_id)
    echo(f"{escaped(key_id)} revoked")


def _file(config: Path) -> KeyFile:
    from stream.service.access.keys import KeyFile
    from stream.settings.config import load

    settings = load(config)
    name = settings.api.keys_file
    if not name:
        raise ConfigurationError(f"{settings.path}: api.keys_file is empty; name a file")
    return KeyFile(Path(settings.resolve(name)))
