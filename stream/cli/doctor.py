"""`riskstream doctor`: is everything there that a worker needs?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("riskstream.toml"),
    create_topics: Annotated[
        int | None, typer.Option(min=1, help="Make missing topics, with so many partitions.")
    ] = None,
) -> None:
    """Check settings, definitions, policy, models, Kafka, topics, Redis and versions.

    Each line says what was found, and where something is wrong, how to mend it. Ends with 1 when a worker
    would not run.
    """
    from stream.kafka.client.brokers import Brokers
    from stream.project import build
    from stream.project.doctor import examine, missing_topics
    from stream.settings.config import load

    settings = load(config)
    if create_topics is not None:
        brokers = Brokers(settings.kafka)
        made = missing_topics(settings, build.make_plan(settings), brokers, create_topics)
        brokers.create(made)
        for topic in made:
            typer.echo(f"made   topic {topic.name} with {topic.partitions} partitions")
    ill = 0
    for finding in examine(settings):
        ill += not finding.well
        word = "ok" if not finding.fix else "note" if finding.well else "WRONG"
        typer.echo(f"{word:6} {finding.name}: {finding.detail}")
        if finding.fix and finding.fix != "see the message":
            typer.echo(f"       fix: {finding.fix}")
    if ill:
        typer.echo(f"{ill} to mend before `riskstream worker` can run")
        raise typer.Exit(1)
    typer.echo("all is well: start with `riskstream worker`")
