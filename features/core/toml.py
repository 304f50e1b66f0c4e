"""Reads a settings file: TOML, environment variables, secrets from files, unknown names.

    "${NAME}"             the environment variable, an error when there is none
    "${NAME:-fallback}"   the same with a default
    "$${"                 a plain "${"

Every mistake names the file, the setting and the fix.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from features.core.errors import ConfigurationError
from features.core.files import read_text

_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a table",
}

T = TypeVar("T", bound=msgspec.Struct)


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables, environment variables filled in."""
    filled: dict[str, Any] = _filled(parse_toml(read_text(path), path), path, "")
    return filled


def parse_toml(text: str, path: str | Path) -> dict[str, Any]:
    """The tables of a text as they stand; ConfigurationError names file and line. `path` is for messages."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = _LINE.search(message)
        line = at[1] if at and at[1] else text.rstrip().count("\n") + 1
        raise ConfigurationError(f"{path}:{line}: not TOML: {_LINE.sub('', message)}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: not TOML: nested too deeply") from None


def convert(
    tables: Mapping[str, Any], kind: type[T], path: Path, table: str = "", *, strict: bool = False
) -> T:
    """Typed settings of one table; unknown names and wrong types are errors that say where.

    `table` is the table's own name, such as `api`, used in messages. Unless `strict`, a text is taken for the
    number or the flag that it spells: environment variables give texts.
    """
    prefix = f"{table}." if table else ""
    _check_names(tables, kind, path, prefix)
    try:
        return msgspec.convert(tables, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_message(str(error), path, prefix) + _choices(str(error), kind)) from None


def read_secret(path: Path, setting: str, name: str) -> str:
    """A secret from a file, the line ends after it cut."""
    file = path.parent / Path(name).expanduser()
    try:
        return read_text(file).rstrip("\r\n")
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {setting}: {error}") from None


def _choices(message: str, kind: Any) -> str:
    """What an enumerated setting may be, for a message that says it is none of these."""
    at = _AT.search(message)
    if at is None or "enum" not in message:
        return ""
    for name in at[1].replace("[...]", "").split("."):
        struct = _struct_within(kind)
        fields = msgspec.structs.fields(struct) if struct is not None else ()
        kind = next((field.type for field in fields if field.encode_name == name), None)
    return f"; one of {', '.join(map(str, getattr(kind, '__args__', ())))}"


def _filled(value: Any, path: Path, setting: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, path, f"{setting}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, path, f"{setting}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, fallback = match.group(2), match.group(3)
        if match.group(1):
            return match.group(0)[1:]
        filled: str | None = os.environ.get(name, fallback)
        if filled is None:
            fix = f"export {name}, or write ${{{name}:-a default}}"
            raise ConfigurationError(f"{path}: {setting}: the environment has no {name}; {fix}")
        return filled

    return _VARIABLE.sub(fill, value)


def _check_names(tables: Mapping[str, Any], kind: type[Any], path: Path, prefix: str) -> None:
    """Every name in the file is a setting."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, value in tables.items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            known = f"did you mean `{prefix}{close[0]}`?" if close else f"known: {', '.join(sorted(fields))}"
            raise ConfigurationError(f"{path}: `{prefix}{name}` is no setting; {known}")
        if not isinstance(value, dict):
            continue
        inner = _struct_within(fields[name].type)
        if inner is None:
            continue
        if _is_mapping(fields[name].type):
            for key, item in value.items():
                if isinstance(item, dict):
                    _check_names(item, inner, path, f"{prefix}{name}.{key}.")
        else:
            _check_names(value, inner, path, f"{prefix}{name}.")


def _struct_within(kind: Any) -> type[Any] | None:
    """The Struct in a type such as `S`, `S | None`, `dict[str, S]` or `Annotated[S, ...]`."""
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return kind
    inner = (_struct_within(argument) for argument in getattr(kind, "__args__", ()))
    return next((struct for struct in inner if struct is not None), None)


def _is_mapping(kind: Any) -> bool:
    if getattr(kind, "__origin__", None) is dict:
        return True
    return hasattr(kind, "__metadata__") and _is_mapping(kind.__origin__)


def _message(message: str, path: Path, prefix: str) -> str:
    """msgspec's message in the words of a settings file."""
    at = _AT.search(message)
    setting = (prefix + at[1]) if at else prefix.rstrip(".")
    text = _AT.sub("", message)
    if text.startswith("Object missing required field"):
        missing = text.split("`")[1]
        return f"{path}: `{f'{setting}.{missing}'.lstrip('.')}` is missing; it has no default"
    for name, word in _WORDS.items():
        text = text.replace(f"`{name} | null`", word).replace(f"`{name}`", word)
    return f"{path}: {setting}: {text[0].lower()}{text[1:].replace('`', '')}"
