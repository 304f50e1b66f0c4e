"""`riskstream demo`: a whole simulated bank on this machine, without any server."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from features.core.errors import ConfigurationError
from stream.telemetry.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    seconds: Annotated[
        float | None, typer.Option(min=1, help="How long events flow; until stopped by default.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Events a second.")] = 200.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated bank.")] = 7,
    json_output: Annotated[
        bool, typer.Option("--json", help="No screen; print the summary as JSON when it ends.")
    ] = False,
) -> None:
    """Show live alerts of a simulated bank, without any server.

    Starts librdkafka's mock Kafka cluster and Valkey, trains a fraud and a credit model on simulated history
    (cached), starts a worker and a simulator, and shows the alerts with their reasons. Three kinds of card fraud
    and loans that default are hidden in the stream; the closing summary says how many were found.

    The summary counts messages read from the topics: `produced`, `scored`, `dead_lettered` (a few events are broken
    on purpose), `alerts`, `precision` and `recall` of the fraud alerts, `latency_ms` from an event's Kafka timestamp
    to its decision being read. Ends with 1 when an event was neither scored nor dead-lettered.
    """
    figures = _figures(seconds, rate, seed, screen=not json_output)
    if json_output:
        echo(json.dumps(figures))
    if figures["produced"] != figures["scored"] + figures["dead_lettered"]:
        raise typer.Exit(1)


def _figures(seconds: float | None, rate: float, seed: int, *, screen: bool) -> dict[str, Any]:
    from importlib.util import find_spec

    from rich.console import Console

    from stream.demo.run import Options, run_demo

    if find_spec("sklearn") is None or find_spec("skl2onnx") is None:
        raise ConfigurationError("the demo trains its models: pip install 'riskstream[demo]'")
    options = Options(seconds=seconds, rate=rate, seed=seed, screen=screen)
    return run_demo(options, Console(stderr=not screen))
