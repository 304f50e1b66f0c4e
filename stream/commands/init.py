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
) -> None:
    """Make a project: definitions, settings, a policy and a sample event.

    It works as it is, deciding by the rules of policy.toml, and is yours to change: see docs/guides/own-events.md.
    """
    from stream.scaffold.project import make_project

    for file in make_project(directory):
        typer.echo(f"made   {file}")
    typer.echo(f"""
next   cd {directory}
       riskstream doctor --create-topics 4     what is missing, and how to mend it
       riskstream worker                       score events as they come
       riskstream emit event.json              in another terminal: send the sample event""")
