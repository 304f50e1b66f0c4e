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
from features.core.errors import ConfigurationError, DefinitionError, FencedError, RiskstreamError
from models.core.errors import PolicyError
from stream.cli.extras import extra_of
from stream.telemetry import logs
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
    names = sorted(
        {module.name for module in pkgutil.iter_modules(stream.cli.__path__)} - {"app", "extras", "options"}
    )
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
    """Run one command and return its exit code.

    Mistakes of use, settings, files and environment end in one line; only a bug ends in a traceback, and where the
    command logs, that is a line of the log too.
    """
    logs.reset()
    try:
        app(arguments, prog_name="riskstream")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except FencedError as error:
        return _failed(error, 3)
    except RiskstreamError as error:
        return _failed(error, 2)
    except OSError as error:
        return _failed(_environment(error), 2)
    except ImportError as error:
        if (missing := extra_of(error)) is None:
            raise
        return _failed(missing, 2)
    except Exception:
        if not logs.structured():
            raise
        logs.logger("process").critical("a bug ended the process: please report it", exc_info=True)
        return 1
    return 0


def _environment(error: OSError) -> ConfigurationError:
    """What the system refused, and for which file."""
    name = f"{error.filename}: " if error.filename is not None else ""
    return ConfigurationError(f"{name}{error.strerror or error}")


def _failed(error: Exception, code: int) -> int:
    """Say on one line what is wrong; an expression of definitions or policy may stand on the lines below."""
    if logs.structured():
        logs.logger("process").error(str(error), exit_code=code)
        return code
    pointed = isinstance(error, DefinitionError | PolicyError)
    echo(f"riskstream: {error if pointed else escaped(' '.join(str(error).splitlines()))}", err=True)
    return code
