"""The command `riskstream`.

Each file of stream/cli/ registers its commands; heavy imports happen inside a command, so that `--help`
answers at once. Exit codes: 0 done, 1 the checked thing does not hold, 2 wrong use or environment, 3 fenced,
130 interrupted.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.models import CommandInfo

import stream.cli
from features.core.errors import DefinitionError, FencedError, RiskstreamError
from models.core.errors import PolicyError
from stream.telemetry.terminal import echo, escaped

_HELP = """Score financial risk while the event is still in flight.

Events come from Kafka, features are exact sliding windows kept in Redis,
models are ONNX bundles, and alerts go to a topic, each with its reasons.

A first look, on a machine without any server:

    riskstream demo

Your own events:

    riskstream init fraud && cd fraud

    riskstream doctor

    riskstream worker
"""

app = typer.Typer(
    name="riskstream",
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"riskstream {version('riskstream')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Keeps `riskstream` a group, however many commands there are."""


def _register() -> None:
    names = sorted({module.name for module in pkgutil.iter_modules(stream.cli.__path__)} - {"app", "options"})
    for name in names:
        importlib.import_module(f"stream.cli.{name}").register(app)
    app.registered_commands.sort(key=_command_name)


def _command_name(command: CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))


_register()


def main() -> None:
    """Run the command line; mistakes end in one clear line, not in a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        app(arguments, prog_name="riskstream")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except FencedError as error:
        return _failed(error, 3)
    except RiskstreamError as error:
        return _failed(error, 2)
    return 0


def _failed(error: Exception, code: int) -> int:
    """Say on one line what is wrong; an expression of definitions or policy may stand on the lines below."""
    pointed = isinstance(error, DefinitionError | PolicyError)
    echo(f"riskstream: {error if pointed else escaped(' '.join(str(error).splitlines()))}", err=True)
    return code
