"""`riskstream backtest`: what a setting would have decided of recorded events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(backtest)


def backtest(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            help="SOURCE=FILE (Parquet or CSV, sorted by time), kafka:TOPIC or kafka:TOPIC@FROM..TO; repeat.",
        ),
    ],
    report: Annotated[Path, typer.Option(help="HTML report to write.")],
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("riskstream.toml"),
    start: Annotated[
        str | None, typer.Option("--from", help="First event time reported, ISO 8601, UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Event time at which the report ends.")] = None,
    warm_up: Annotated[
        str, typer.Option(help="Events this long before --from are folded into the windows.")
    ] = "30d",
    model: Annotated[str | None, typer.Option(help="NAME@VERSION to try, or SOURCE=NAME@VERSION.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file to try.")] = None,
    definitions: Annotated[Path | None, typer.Option(help="Definitions to try.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with `live`, NAME@VERSION of a model, or other settings.")
    ] = None,
    segment_by: Annotated[
        list[str] | None, typer.Option(help="Column to break the figures down by; repeat.")
    ] = None,
    review_cost: Annotated[
        float, typer.Option(help="Cost of looking at one alert, for the threshold sweep.")
    ] = 0.0,
    profile: Annotated[list[str] | None, typer.Option(help="NAME=FILE of a profile; repeat.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Figures as JSON.")] = None,
    decisions: Annotated[Path | None, typer.Option(help="Folder for the decisions as Parquet.")] = None,
    work: Annotated[Path, typer.Option(help="Folder that lets an interrupted run go on.")] = Path(
        "build/backtest"
    ),
    with_features: Annotated[bool, typer.Option(help="Write the features among the decisions, too.")] = False,
    processes: Annotated[
        int, typer.Option(help="Processes that compute features and scores, each for a range of entity keys.")
    ] = 1,
    engine: Annotated[
        str, typer.Option(help="`local`, or `ray`: processes are tasks of a Ray cluster.")
    ] = "local",
) -> None:
    """Replay recorded events through the live scorer, page nobody, and report what would have happened.

    State is built in memory from the events themselves: no live key, offset or alert is read or written. Give the
    label sources too; outcomes are taken as they became known. With --against two settings are compared event by
    event. Ctrl-C leaves a valid report of what was done; the same command goes on from there.

        riskstream backtest --input transactions=tx.parquet --input chargebacks=labels.parquet \\
            --policy stricter.toml --against live --report stricter.html
    """
    import msgspec

    from stream.replay.backtest.backtest import backtest as run_backtest
    from stream.replay.backtest.report.page import write_page
    from stream.replay.backtest.request import Request
    from stream.telemetry.progress_bar import progress_bar

    request = Request(
        config=config, inputs=inputs, start=start, end=end, warm_up=warm_up, model=model, policy=policy,
        definitions=definitions, against=against, work=work, segment_by=tuple(segment_by or ()),
        review_cost=review_cost, profiles=dict(text.partition("=")[::2] for text in profile or ()),
        decisions=decisions, with_features=with_features, processes=processes, engine=engine,
    )  # fmt: skip
    with progress_bar("backtest") as advance:
        result = run_backtest(request, advance)
    for number, found in enumerate(result.figures):
        write_page(found, report if number == 0 else report.with_stem(f"{report.stem}-{found.source}"))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result.figures), indent=1))
    for found in result.figures:
        for side in (found.a, found.b):
            if side is not None:
                one = side.outcome
                name = f"{found.source} {side.setting.name}"
                typer.echo(f"{name}: {one.events} events, {one.alerts} alerts, {one.bad} known bad")
    if result.division:
        typer.echo(f"{processes} processes, {result.division}")
    if result.rejected:
        typer.echo(f"{result.rejected} messages are no events; live they are dead letters")
    typer.echo(f"report: {report}")
    raise typer.Exit(0 if result.complete else 130)
