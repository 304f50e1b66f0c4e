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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from features.core.errors import ConfigurationError

_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
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
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        fix = "name the settings file by --config, or make a project with `riskstream init DIR`"
        raise ConfigurationError(f"{path}: there is no such file; {fix}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    try:
        tables: dict[str, Any] = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    filled: dict[str, Any] = _filled(tables, path, "")
    return filled


def convert(tables: Mapping[str, Any], kind: type[T], path: Path, place: str = "") -> T:
    """Typed settings of one table; unknown names and wrong types are errors that say where.

    `place` is the table's own name, such as `api`, used in messages.
    """
    prefix = f"{place}." if place else ""
    _check_names(tables, kind, path, prefix)
    try:
        return msgspec.convert(tables, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_said(str(error), path, prefix) + _choices(str(error), kind)) from None


def read_secret(path: Path, setting: str, name: str) -> str:
    """A secret from a file, its last newline cut."""
    file = path.parent / Path(name).expanduser()
    try:
        return file.read_text().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{path}: {setting}: cannot read {file}: {error.strerror}") from None


def _choices(message: str, kind: Any) -> str:
    """What an enumerated setting may be, for a message that says it is none of these."""
    at = _AT.search(message)
    if at is None or "enum" not in message:
        return ""
    for name in at[1].split("."):
        struct = _struct_within(kind)
        fields = msgspec.structs.fields(struct) if struct is not None else ()
        kind = next((field.type for field in fields if field.encode_name == name), None)
    return f"; one of {', '.join(map(str, getattr(kind, '__args__', ())))}"


def _filled(value: Any, path: Path, place: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, path, f"{place}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, path, f"{place}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        name, fallback = found.group(2), found.group(3)
        if found.group(1):
            return found.group(0)[1:]
        filled: str | None = os.environ.get(name, fallback)
        if filled is None:
            fix = f"export {name}, or write ${{{name}:-a default}}"
            raise ConfigurationError(f"{path}: {place}: the environment has no {name}; {fix}")
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
    for part in getattr(kind, "__args__", ()):
        found = _struct_within(part)
        if found is not None:
            return found
    return None


def _is_mapping(kind: Any) -> bool:
    if getattr(kind, "__origin__", None) is dict:
        return True
    return hasattr(kind, "__metadata__") and _is_mapping(kind.__origin__)


def _said(message: str, path: Path, prefix: str) -> str:
    """msgspec's message in the words of a settings file."""
    at = _AT.search(message)
    place = (prefix + at[1]) if at else prefix.rstrip(".")
    text = _AT.sub("", message)
    if text.startswith("Object missing required field"):
        missing = text.split("`")[1]
        return f"{path}: `{f'{place}.{missing}'.lstrip('.')}` is missing; it has no default"
    for name, word in _WORDS.items():
        text = text.replace(f"`{name} | null`", word).replace(f"`{name}`", word)
    return f"{path}: {place}: {text[0].lower()}{text[1:].replace('`', '')}"
