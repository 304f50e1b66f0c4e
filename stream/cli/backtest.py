"""`riskstream backtest`: what a setting would have decided of recorded events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile, takes
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from stream.replay.backtest.backtest import Result
    from stream.replay.backtest.request import BacktestRequest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(backtest)


@dataclass(frozen=True, kw_only=True)
class BacktestOptions:
    """Options of `riskstream backtest`."""

    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            help="SOURCE=FILE (Parquet or CSV, sorted by time), kafka:TOPIC or kafka:TOPIC@FROM..TO; repeat.",
        ),
    ]
    report: Annotated[Path, typer.Option(help="HTML report to write.")]
    config: ConfigFile = SETTINGS
    start: Annotated[str | None, typer.Option("--from", help="First event time reported, ISO 8601, UTC.")] = (
        None
    )
    end: Annotated[str | None, typer.Option("--to", help="Event time at which the report ends.")] = None
    warm_up: Annotated[
        str, typer.Option(help="Events this long before --from are folded into the windows.")
    ] = "30d"
    model: Annotated[str | None, typer.Option(help="NAME@VERSION to try, or SOURCE=NAME@VERSION.")] = None
    policy: Annotated[Path | None, typer.Option(help="Policy file to try.")] = None
    definitions: Annotated[Path | None, typer.Option(help="Definitions to try.")] = None
    against: Annotated[
        str | None, typer.Option(help="Compare with `live`, NAME@VERSION of a model, or other settings.")
    ] = None
    segment_by: Annotated[
        list[str] | None, typer.Option(help="Column to break the figures down by; repeat.")
    ] = None
    review_cost: Annotated[
        float, typer.Option(help="Cost of looking at one alert, for the threshold sweep.")
    ] = 0.0
    profile: Annotated[list[str] | None, typer.Option(help="NAME=FILE of a profile; repeat.")] = None
    json_file: Annotated[Path | None, typer.Option("--json", help="Figures as JSON.")] = None
    decisions: Annotated[Path | None, typer.Option(help="Folder for the decisions as Parquet.")] = None
    work: Annotated[Path, typer.Option(help="Folder that lets an interrupted run go on.")] = Path(
        "build/backtest"
    )
    with_features: Annotated[bool, typer.Option(help="Write the features among the decisions, too.")] = False
    processes: Annotated[
        int, typer.Option(help="Processes that compute features and scores, each for a range of entity keys.")
    ] = 1
    engine: Annotated[str, typer.Option(help="`local`, or `ray`: processes are tasks of a Ray cluster.")] = (
        "local"
    )


@takes(BacktestOptions)
def backtest(options: BacktestOptions) -> None:
    """Replay recorded events through the live scorer, publish nothing, and report what would have happened.

    State is built in memory from the events themselves: no live key, offset or alert is read or written. Give the
    label sources too; outcomes are taken as they became known. With --against two settings are compared event by
    event. Ctrl-C leaves a valid report of what was done; the same command goes on from there.

        riskstream backtest --input transactions=tx.parquet --input chargebacks=labels.parquet \\
            --policy stricter.toml --against live --report stricter.html
    """
    from stream.replay.backtest.backtest import backtest as run_backtest
    from stream.telemetry.progress_bar import progress_bar

    with progress_bar("backtest") as advance:
        result = run_backtest(_request(options), advance)
    _write(result, options)
    _summarize(result, options)
    raise typer.Exit(0 if result.complete else 130)


def _request(options: BacktestOptions) -> BacktestRequest:
    from stream.replay.backtest.request import BacktestRequest

    return BacktestRequest(
        config=options.config,
        inputs=options.inputs,
        start=options.start,
        end=options.end,
        warm_up=options.warm_up,
        model=options.model,
        policy=options.policy,
        definitions=options.definitions,
        against=options.against,
        work=options.work,
        segment_by=tuple(options.segment_by or ()),
        review_cost=options.review_cost,
        profiles=dict(text.partition("=")[::2] for text in options.profile or ()),
        decisions=options.decisions,
        with_features=options.with_features,
        processes=options.processes,
        engine=options.engine,
    )


def _write(result: Result, options: BacktestOptions) -> None:
    """A page a source, the first under the name asked for, and all figures as JSON where asked for."""
    import msgspec

    from stream.replay.backtest.report.page import write_page

    report = options.report
    for number, figures in enumerate(result.figures):
        write_page(figures, report if number == 0 else report.with_stem(f"{report.stem}-{figures.source}"))
    if options.json_file is not None:
        options.json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result.figures), indent=1))


def _summarize(result: Result, options: BacktestOptions) -> None:
    for figures in result.figures:
        for side in (figures.a, figures.b):
            if side is not None:
                outcome = side.outcome
                name = escaped(f"{figures.source} {side.setting.name}")
                echo(
                    f"{name}: {outcome.events} events, {outcome.alerts} alerts, {outcome.bad} known bad "
                    f"({outcome.caught} reviewed or declined)"
                )
    if result.division:
        echo(f"{options.processes} processes, {result.division}")
    if result.rejected:
        echo(f"{result.rejected} messages are no events; live they are dead letters")
    echo(f"report: {escaped(options.report)}")
