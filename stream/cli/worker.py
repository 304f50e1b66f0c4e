"""`riskstream worker`: score events from Kafka until stopped."""

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
) -> None:
    """Score events from Kafka, publish alerts, keep state in Redis.

    Start more workers to share the partitions; each needs its own ordinal, kept over restarts. SIGTERM ends the
    running batch, commits it, brings state to Redis and leaves the group. Logs are JSON lines on stderr.

    Ends with 0 when stopped by SIGTERM, 130 by Ctrl-C, 2 when a setting or a server is wrong, 3 when another
    worker runs with the same ordinal.
    """
    from stream.project.run import run_worker
    from stream.telemetry import logs

    logs.configure(log_level)
    raise typer.Exit(run_worker(config, ordinal))
