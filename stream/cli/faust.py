"""`riskstream faust`: the same scoring as a Faust app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.core.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(faust)


def faust(
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("riskstream.toml"),
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Score events as a Faust app, at least once; `riskstream worker` is quicker and exactly once.

    For teams that run Faust: `stream.faust.app.riskstream_agent` puts the same into an app of theirs.
    """
    from stream.telemetry import logs

    try:
        from stream.faust.app import run_faust
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{error.name} is missing: pip install 'riskstream[faust]'") from error
    logs.configure(log_level)
    run_faust(config)
