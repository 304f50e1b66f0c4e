"""`riskstream worker`: events in, alerts out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("riskstream.toml"),
    ordinal: Annotated[
        int | None, typer.Option(min=0, help="Number of this worker in its group; replaces worker.ordinal.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    human: Annotated[bool, typer.Option("--human", help="Log lines for people in place of JSON.")] = False,
) -> None:
    """Score events as they come, and publish alerts.

    Runs until stopped: SIGTERM ends the running batch, commits and flushes it. Start a second one with another
    `--ordinal` to share the load. A promoted model and a changed policy file take effect between two batches.
    """
    from stream import logs
    from stream.running import run_worker

    if log_level not in logs.LEVELS:
        raise typer.BadParameter(f"one of {', '.join(logs.LEVELS)}", param_hint="--log-level")
    logs.configure(log_level, human=human)
    raise typer.Exit(run_worker(config, ordinal))
