"""`riskstream worker` and `riskstream faust`: score events from Kafka until stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile, LogLevel


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(worker)
    app.command()(faust)


def worker(
    config: ConfigFile = SETTINGS,
    ordinal: Annotated[
        int | None, typer.Option(min=0, help="Number of this worker in its group; replaces worker.ordinal.")
    ] = None,
    log_level: LogLevel = "info",
) -> None:
    """Score events from Kafka, publish alerts, keep state in Redis.

    Start more workers to share the partitions; each needs its own ordinal, kept over restarts. SIGTERM ends the
    running batch, commits it, brings state to Redis and leaves the group. Logs are JSON lines on stderr.

    Ends with 0 when stopped by SIGTERM, 130 by Ctrl-C, 2 when a setting or a server is wrong, 3 when another
    worker runs with the same ordinal.
    """
    from stream.project.run import INTERRUPTED, run_worker
    from stream.telemetry import logs

    logs.configure(log_level)
    try:
        code = run_worker(config, ordinal)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def faust(config: ConfigFile = SETTINGS, log_level: LogLevel = "info") -> None:
    """Score events as a Faust app, at least once; `riskstream worker` is quicker and exactly once.

    For teams that run Faust: `stream.faust.app.riskstream_agent` puts the same into an app of theirs.
    """
    from stream.telemetry import logs

    logs.configure(log_level)
    from stream.faust.app import run_faust

    run_faust(config)
