"""Checks of sources and entities, and what all checks share; the rest is in features/definitions/checks/views.py.

Every mistake is one DefinitionError with the path to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Protocol, TypeVar

import msgspec

from features.core.durations import parse_duration
from features.core.errors import DefinitionError
from features.definitions.naming import check_identifier
from features.definitions.spec import Definitions, Entity, Field, Source

TIME_FORMATS = ("s", "ms", "us", "ns", "iso8601")
NUMERIC = ("float64", "int64", "bool")
_ITEM = re.compile(r"\.(sources|entities|views|profiles|derived)\[(\d+)\]")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def normalized(definitions: Definitions) -> Definitions:
    """The same definitions with every value of the declared type; DefinitionError where one is not."""
    if not isinstance(definitions, Definitions):
        raise DefinitionError("definitions", f"expected a `Definitions`, got `{type(definitions).__name__}`")
    try:
        return msgspec.convert(msgspec.to_builtins(definitions), Definitions)
    except (msgspec.ValidationError, TypeError) as error:
        reason, _, path = str(error).partition(" - at `$")
        raise DefinitionError(_named_path(definitions, path.rstrip("`")), reason) from None


def key_columns(source: Source, entity: Entity) -> tuple[str, ...] | None:
    """The source's columns that make the entity's key; None when it does not carry them."""
    if entity.name in source.entity_keys:
        return tuple(source.entity_keys[entity.name])
    names = {field.name for field in source.fields}
    return entity.keys if names.issuperset(entity.keys) else None


def check_sources(definitions: Definitions) -> None:
    """Sources and entities: names, fields, keys, times, labels, limits."""
    check_unique(definitions.sources, "sources")
    check_unique(definitions.entities, "entities")
    if not definitions.sources:
        raise DefinitionError("sources", "is empty; declare at least one source")
    if definitions.capacity < 2:
        raise DefinitionError("capacity", f"expected at least 2 events, got {definitions.capacity}")
    parse_duration(definitions.lateness, "lateness")
    for entity in definitions.entities:
        if not entity.keys:
            raise DefinitionError(f"entities.{entity.name}.keys", "an entity needs at least one key column")
        if not any(key_columns(source, entity) for source in definitions.sources):
            raise DefinitionError(
                f"entities.{entity.name}.keys", f"no source has the columns {', '.join(entity.keys)}"
            )
    for source in definitions.sources:
        _check_source(definitions, source, f"sources.{source.name}")


def _check_source(definitions: Definitions, source: Source, path: str) -> None:
    check_fields(source.fields, f"{path}.fields")
    fields = {field.name: field for field in source.fields}
    if not source.topic:
        raise DefinitionError(f"{path}.topic", "is empty")
    _check_roles(source, fields, path)
    _check_time_format(source.time_format, f"{path}.time_format")
    if (source.event_type is None) != (not source.event_types):
        raise DefinitionError(f"{path}.event_types", "`event_type` and `event_types` belong together")
    for name in ("max_age", "max_ahead"):
        if (limit := getattr(source, name)) is not None:
            parse_duration(limit, f"{path}.{name}")
    _check_entity_keys(definitions, source, fields, path)
    if source.labels is not None:
        labels = source.labels
        typed(fields, labels.event_id, f"{path}.labels.event_id", ("string", "int64"), required=True)
        typed(fields, labels.value, f"{path}.labels.value", NUMERIC, required=True)
        if labels.event_time is not None:
            typed(fields, labels.event_time, f"{path}.labels.event_time", ("timestamp",), required=True)


def _check_roles(source: Source, fields: dict[str, Field], path: str) -> None:
    """The columns that are the event's id, time, key, amount and type."""
    typed(fields, source.event_id, f"{path}.event_id", ("string", "int64"), required=True)
    typed(fields, source.event_time, f"{path}.event_time", ("timestamp",), required=True)
    if "event_time" in fields and source.event_time != "event_time":
        raise DefinitionError(
            f"{path}.fields",
            "`event_time` is the event's time in SQL; name this field otherwise, with an `alias`",
        )
    if source.scored and "event_id" in fields and source.event_id != "event_id":
        raise DefinitionError(
            f"{path}.fields", "`event_id` is not the source's event id; rename it, with an `alias`"
        )
    if source.key is not None:
        typed(fields, source.key, f"{path}.key", ("string", "int64"))
    if source.amount is not None:
        typed(fields, source.amount, f"{path}.amount", ("float64", "int64"))
    if source.event_type is not None:
        typed(fields, source.event_type, f"{path}.event_type", ("string",))


def _check_entity_keys(definitions: Definitions, source: Source, fields: dict[str, Field], path: str) -> None:
    entities = {entity.name: entity for entity in definitions.entities}
    for name, columns in source.entity_keys.items():
        at = f"{path}.entity_keys.{name}"
        entity = known(entities, name, at, "entity")
        if len(columns) != len(entity.keys):
            raise DefinitionError(at, f"expected {len(entity.keys)} columns, got {len(columns)}")
    for entity in definitions.entities:
        for column in key_columns(source, entity) or ():
            typed(fields, column, f"{path}.entity_keys.{entity.name}", ("string", "int64"))


def check_fields(fields: Sequence[Field], path: str) -> None:
    """Names, aliases and limits of a source's or profile's fields."""
    check_unique(fields, path)
    for number, field in enumerate(fields):
        limits = (field.minimum, field.maximum)
        if limits != (None, None) and field.dtype not in ("float64", "int64"):
            raise DefinitionError(f"{path}[{number}]", f"`minimum` and `maximum` do not fit a {field.dtype}")
        if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
            raise DefinitionError(f"{path}[{number}]", "`minimum` is above `maximum`")
        if field.alias == "":
            raise DefinitionError(f"{path}[{number}].alias", "is empty")
    wire = [field.alias or field.name for field in fields]
    for number, name in enumerate(wire):
        if wire.index(name) != number:
            raise DefinitionError(f"{path}[{number}].alias", f"`{name}` is read by another field too")


def _check_time_format(time_format: str, path: str) -> None:
    if time_format not in TIME_FORMATS and "%" not in time_format:
        raise DefinitionError(
            path, f"`{time_format}` is none of {', '.join(TIME_FORMATS)}, nor like %Y-%m-%d"
        )


def check_unique(items: Sequence[_Named], path: str) -> None:
    """Names are identifiers, and no two are alike."""
    seen: set[str] = set()
    for number, item in enumerate(items):
        check_identifier(item.name, f"{path}[{number}].name")
        if item.name in seen:
            raise DefinitionError(f"{path}[{number}].name", f"`{item.name}` is defined twice")
        seen.add(item.name)


def known(items: dict[str, N], name: str, path: str, kind: str) -> N:
    """The item of that name; DefinitionError at `path` when there is none."""
    if name not in items:
        raise DefinitionError(path, unknown(kind, name, items))
    return items[name]


def typed(
    fields: dict[str, Field], name: str, path: str, dtypes: Sequence[str], required: bool = False
) -> None:
    """DefinitionError at `path` unless the named column has one of the types."""
    field = known(fields, name, path, "column")
    if field.dtype not in dtypes:
        raise DefinitionError(path, f"column `{name}` must be {' or '.join(dtypes)}, not {field.dtype}")
    if required and not field.required:
        raise DefinitionError(path, f"column `{name}` must be required")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Says what is unknown, and what was probably meant."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(names) or 'none'}"
    return f"unknown {kind} `{name}`; {hint}"


def _named_path(definitions: Definitions, path: str) -> str:
    match = _ITEM.match(path)
    if match is None:
        return path.lstrip(".") or "definitions"
    item = getattr(definitions, match[1])[int(match[2])]
    name = getattr(item, "name", None)
    return f"{match[1]}.{name}{path[match.end() :]}" if isinstance(name, str) else path.lstrip(".")
