"""What commands share: options that mean the same everywhere, and options as a structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from features.core.errors import ConfigurationError

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="Settings of the project.")]
SETTINGS = Path("riskstream.toml")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
InputFiles = Annotated[
    list[str], typer.Option("--input", help="SOURCE=FILE, Parquet or CSV in order of time; repeat.")
]
ProfileFiles = Annotated[
    list[str] | None, typer.Option("--profile", help="PROFILE=FILE, Parquet or CSV; repeat.")
]

S = TypeVar("S")


def takes(structure: type[S]) -> Callable[[Callable[[S], None]], Callable[..., None]]:
    """A command whose options are the fields of a dataclass: it is called with one value, not with a dozen.

    A field without a default is a required option; annotations are those of Typer.
    """
    hints = get_type_hints(structure, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(structure)  # type: ignore[arg-type]
    ]

    def bind(command: Callable[[S], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            command(structure(**values))

        run.__dict__["__signature__"] = Signature(parameters)
        run.__annotations__ = {**hints, "return": None}
        return run

    return bind


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=FILE` options by name; ConfigurationError where one is not, is given twice, or names no file."""
    files: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not name or not equals or not path:
            raise ConfigurationError(f"{option} {text}: expected NAME=FILE")
        if name in files:
            raise ConfigurationError(f"{option} {text}: `{name}` is given twice")
        if not any(mark in path for mark in "*?[") and not Path(path).is_file():
            raise ConfigurationError(f"{option} {text}: file `{path}` does not exist")
        files[name] = path
    return files
