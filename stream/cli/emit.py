"""`riskstream emit`: send events from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(emit)


def emit(
    file: Annotated[Path, typer.Argument(help="Events, one JSON object a line.")],
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("riskstream.toml"),
    source: Annotated[
        str | None, typer.Option(help="Whose events they are; may be left out when there is one.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Send nothing: say only what is wrong with them.")
    ] = False,
) -> None:
    """Check events against a source's definition and send them to its topic, keyed as it says.

    Good for a first look and for tests: the systems that own events send them with their own Kafka clients.
    Events that would be dead-lettered are shown with their reason and not sent. Ends with 1 when there were any.
    """
    from stream.project.emit import emit_file

    done = emit_file(config, file, source, send=not check)
    for line, reason in done.rejected:
        typer.echo(f"{file}:{line} {reason}", err=True)
    typer.echo(f"{done.good} {'well' if check else f'sent to {done.topic}'}, {len(done.rejected)} rejected")
    if done.rejected:
        raise typer.Exit(1)
