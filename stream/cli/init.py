"""`riskstream init`: a new project that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(
    directory: Annotated[Path, typer.Argument(help="Where the project goes; its name is the project's.")],
    sample: Annotated[
        Path | None, typer.Option("--from", help="A sample of your own events, one JSON object a line.")
    ] = None,
) -> None:
    """Make a project: definitions, settings, a policy and a sample event.

    It works as it is, deciding by the rules of policy.toml, and is yours to change: see docs/guides/own-events.md.
    With `--from` the definitions are a first draft that fits your events: fields and types, id, time and its format,
    keys and amount are guessed. Look at every line of definitions.py before you trust it.
    """
    from stream.project.scaffold.project import make_project

    for file in make_project(directory, sample):
        typer.echo(f"made   {file}")
    typer.echo(f"""
next   cd {directory}
       riskstream doctor --create-topics 4     what is missing, and how to mend it
       riskstream worker                       score events as they come
       riskstream emit event.json              in another terminal: send the sample event""")
