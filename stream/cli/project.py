"""`riskstream init`, `doctor` and `emit`: begin a project, look whether it can run, send it events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile
from stream.telemetry.terminal import echo, escaped


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(doctor)
    app.command()(emit)


def init(
    directory: Annotated[Path, typer.Argument(help="Where the project goes; its name is the project's.")],
    sample: Annotated[
        Path | None, typer.Option("--from", help="A sample of your own events, one JSON object a line.")
    ] = None,
) -> None:
    """Make a project: definitions, settings, a policy and a sample event.

    It works as it is, deciding by the rules of policy.toml, and is yours to change: see docs/guides/own-events.md.
    With `--from` the definitions are a first draft that fits your events: fields and types, id, time and its format,
    keys and amount are guessed. What the sample leaves open is listed, here and in definitions.py: check it there.
    """
    from stream.project.scaffold.project import make_project

    project = make_project(directory, sample)
    for file in project.files:
        echo(f"made   {escaped(file)}")
    for check in project.checks:
        echo(f"check  {escaped(check)}")
    echo(f"""
next   cd {escaped(directory)}
       riskstream doctor --create-topics 4     what is missing, and how to mend it
       riskstream worker                       score events as they come
       riskstream emit event.json              in another terminal: send the sample event""")


def doctor(
    config: ConfigFile = SETTINGS,
    create_topics: Annotated[
        int | None, typer.Option(min=1, help="Create missing topics, with so many partitions.")
    ] = None,
) -> None:
    """Check settings, definitions, policy, models, Kafka, topics, Redis and versions.

    Each line names one thing that was looked at, and where it is wrong, what to do. Ends with 1 when a worker
    would not run.
    """
    from stream.project.doctor import create_missing_topics, examine
    from stream.settings.config import load

    settings = load(config)
    if create_topics is not None:
        for topic in create_missing_topics(settings, create_topics):
            echo(f"made   topic {escaped(topic.name)} with {topic.partitions} partitions")
    wrong = 0
    for finding in examine(settings):
        wrong += not finding.well
        word = "ok" if not finding.fix else "note" if finding.well else "WRONG"
        echo(f"{word:6} {escaped(finding.name)}: {escaped(finding.detail)}")
        if finding.fix and finding.fix != "see the message":
            echo(f"       fix: {escaped(finding.fix)}")
    if wrong:
        echo(f"{wrong} to mend before `riskstream worker` can run")
        raise typer.Exit(1)
    echo("all is well: start with `riskstream worker`")


def emit(
    file: Annotated[Path, typer.Argument(help="Events, one JSON object a line.")],
    config: ConfigFile = SETTINGS,
    source: Annotated[
        str | None, typer.Option(help="Whose events they are; may be left out when there is one.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Send nothing: say only what is wrong with them.")
    ] = False,
) -> None:
    """Check events against a source's definition and send them to its topic, keyed as it says.

    Good for a first look and for tests: the systems that own events send them with their own Kafka clients.
    Events that would be dead-lettered are not sent; each cause is shown with its first line and how often it came.
    Ends with 1 when there were any.
    """
    from stream.project.emit import emit_file

    done = emit_file(config, file, source, send=not check)
    for cause in done.causes():
        more = f" (and {cause.count - 1} more like it)" if cause.count > 1 else ""
        echo(f"{escaped(file)}:{cause.line} {escaped(cause.reason)}{more}", err=True)
    echo(f"{done.good} {'well' if check else f'sent to {done.topic}'}, {len(done.rejected)} rejected")
    if done.rejected:
        raise typer.Exit(1)
