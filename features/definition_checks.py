"""Every way in which definitions can be wrong, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Protocol, TypeVar

import msgspec

from features.durations import parse_duration
from features.errors import DefinitionError
from features.expressions import check_condition, check_value, references, source_types
from features.naming import check_identifier
from features.profile_names import profile_fields
from features.spec import (
    Aggregation,
    Definitions,
    Derived,
    Entity,
    Field,
    FeatureView,
    Profile,
    Source,
)

TIME_FORMATS = ("s", "ms", "us", "ns", "iso8601")
_NUMERIC = ("float64", "int64", "bool")
_ALLOWED = {
    "sum": _NUMERIC,
    "mean": _NUMERIC,
    "std": _NUMERIC,
    "min": (*_NUMERIC, "timestamp"),
    "max": (*_NUMERIC, "timestamp"),
    "first": (*_NUMERIC, "timestamp", "string"),
    "last": (*_NUMERIC, "timestamp", "string"),
    "distinct": (*_NUMERIC, "timestamp", "string"),
}
_OF_LABELS = ("rate", "count", "sum", "mean")
_PART = re.compile(r"\.(sources|entities|views|profiles|derived)\[(\d+)\]")


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
    _check_unique(definitions.sources, "sources")
    _check_unique(definitions.entities, "entities")
    if not definitions.sources:
        raise DefinitionError("sources", "there is none; declare at least one source")
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


def check_views(definitions: Definitions) -> None:
    """Views and their aggregations: references, windows, types, conditions."""
    _check_unique(definitions.views, "views")
    sources = {source.name: source for source in definitions.sources}
    entities = {entity.name: entity for entity in definitions.entities}
    for view in definitions.views:
        place = f"views.{view.name}"
        source = _known(sources, view.source, f"{place}.source", "source")
        entity = _known(entities, view.entity, f"{place}.entity", "entity")
        if key_columns(source, entity) is None:
            raise DefinitionError(
                f"{place}.entity",
                f"source `{source.name}` has no columns {', '.join(entity.keys)}; map them in its `entity_keys`",
            )
        _check_readers(view, sources, entity, place)
        if not view.aggregations:
            raise DefinitionError(f"{place}.aggregations", "there is none")
        _check_windows(view.windows, f"{place}.windows")
        parse_duration(view.delay, f"{place}.delay")
        if view.where is not None:
            check_condition(view.where, source_types(source), f"{place}.where")
        for number, aggregation in enumerate(view.aggregations):
            _check_aggregation(aggregation, view, source, f"{place}.aggregations[{number}]")


def check_profiles(definitions: Definitions) -> None:
    """Profiles: entity, fields, age, fill values."""
    _check_unique(definitions.profiles, "profiles")
    entities = {entity.name: entity for entity in definitions.entities}
    for profile in definitions.profiles:
        place = f"profiles.{profile.name}"
        _known(entities, profile.entity, f"{place}.entity", "entity")
        _check_fields(profile.fields, f"{place}.fields")
        if profile.max_age is not None:
            parse_duration(profile.max_age, f"{place}.max_age")
            if profile.updated_at is None:
                raise DefinitionError(f"{place}.max_age", "needs `updated_at`, the column with the time of update")
        _check_updated_at(profile, place)
        fields = {field.name: field for field in profile_fields(profile)}
        if not fields:
            raise DefinitionError(f"{place}.fields", "there is none")
        for name, value in profile.fill.items():
            field = _known(fields, name, f"{place}.fill.{name}", "field")
            if isinstance(value, str) != (field.dtype == "string"):
                raise DefinitionError(
                    f"{place}.fill.{name}", f"expected a {field.dtype}, got `{type(value).__name__}`"
                )


def check_derived(
    definitions: Definitions, source: Source, numbers: Sequence[str], texts: Sequence[str]
) -> list[tuple[Derived, bool]]:
    """Derived features of a source in dependency order, each with whether it is a text."""
    _check_unique(definitions.derived, "derived")
    sources = {one.name: one for one in definitions.sources}
    mine: dict[str, Derived] = {}
    for derived in definitions.derived:
        target = _known(sources, derived.source, f"derived.{derived.name}.source", "source")
        if not target.scored:
            raise DefinitionError(f"derived.{derived.name}.source", f"`{target.name}` holds labels: never scored")
        if target.name == source.name:
            mine[derived.name] = derived
    types = source_types(source, numbers, texts)
    ordered: list[tuple[Derived, bool]] = []
    for derived in _in_dependency_order(mine):
        is_text = check_value(derived.sql, types, f"derived.{derived.name}.sql", pending=mine)
        types.update(source_types(None, *([(), [derived.name]] if is_text else [[derived.name], ()])))
        ordered.append((derived, is_text))
    return ordered


def check_protected(definitions: Definitions, features: set[str]) -> None:
    """Protected names must exist: a misspelt one would protect nothing."""
    columns = {field.name for source in definitions.sources for field in source.fields}
    columns |= {field.name for profile in definitions.profiles for field in profile.fields}
    for number, name in enumerate(definitions.protected):
        if name not in columns | features:
            raise DefinitionError(f"protected[{number}]", _unknown("column or feature", name, columns | features))


def _check_source(definitions: Definitions, source: Source, place: str) -> None:
    _check_fields(source.fields, f"{place}.fields")
    fields = {field.name: field for field in source.fields}
    if not source.topic:
        raise DefinitionError(f"{place}.topic", "is empty")
    _typed(fields, source.event_id, f"{place}.event_id", ("string", "int64"), required=True)
    _typed(fields, source.event_time, f"{place}.event_time", ("timestamp",), required=True)
    if "event_time" in fields and source.event_time != "event_time":
        raise DefinitionError(
            f"{place}.fields", "`event_time` names the event's time in SQL; name this field otherwise, with an `alias`"
        )
    if source.scored and "event_id" in fields and source.event_id != "event_id":
        raise DefinitionError(f"{place}.fields", "`event_id` is not the source's event id; give it another name")
    _check_time_format(source.time_format, f"{place}.time_format")
    if source.key is not None:
        _typed(fields, source.key, f"{place}.key", ("string", "int64"))
    if source.amount is not None:
        _typed(fields, source.amount, f"{place}.amount", ("float64", "int64"))
    if source.event_type is not None:
        _typed(fields, source.event_type, f"{place}.event_type", ("string",))
    if (source.event_type is None) != (not source.event_types):
        raise DefinitionError(f"{place}.event_types", "`event_type` and `event_types` belong together")
    for name in ("max_age", "max_ahead"):
        if (limit := getattr(source, name)) is not None:
            parse_duration(limit, f"{place}.{name}")
    _check_entity_keys(definitions, source, fields, place)
    if source.labels is not None:
        labels = source.labels
        _typed(fields, labels.event_id, f"{place}.labels.event_id", ("string", "int64"), required=True)
        _typed(fields, labels.value, f"{place}.labels.value", _NUMERIC, required=True)
        if labels.event_time is not None:
            _typed(fields, labels.event_time, f"{place}.labels.event_time", ("timestamp",), required=True)


def _check_entity_keys(
    definitions: Definitions, source: Source, fields: dict[str, Field], place: str
) -> None:
    entities = {entity.name: entity for entity in definitions.entities}
    for name, columns in source.entity_keys.items():
        at = f"{place}.entity_keys.{name}"
        entity = _known(entities, name, at, "entity")
        if len(columns) != len(entity.keys):
            raise DefinitionError(at, f"expected {len(entity.keys)} columns, got {len(columns)}")
    for entity in definitions.entities:
        for column in key_columns(source, entity) or ():
            _typed(fields, column, f"{place}.entity_keys.{entity.name}", ("string", "int64"))


def _check_fields(fields: Sequence[Field], place: str) -> None:
    _check_unique(fields, place)
    for number, field in enumerate(fields):
        limits = (field.minimum, field.maximum)
        if limits != (None, None) and field.dtype not in ("float64", "int64"):
            raise DefinitionError(f"{place}[{number}]", f"`minimum` and `maximum` do not fit a {field.dtype}")
        if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
            raise DefinitionError(f"{place}[{number}]", "`minimum` is above `maximum`")
        if field.alias == "":
            raise DefinitionError(f"{place}[{number}].alias", "is empty")
    wire = [field.alias or field.name for field in fields]
    for number, name in enumerate(wire):
        if wire.index(name) != number:
            raise DefinitionError(f"{place}[{number}].alias", f"`{name}` is read by another field too")


def _check_time_format(time_format: str, place: str) -> None:
    if time_format not in TIME_FORMATS and "%" not in time_format:
        raise DefinitionError(
            place, f"`{time_format}` is none of {', '.join(TIME_FORMATS)}, nor a strptime format such as %Y-%m-%d"
        )


def _check_readers(view: FeatureView, sources: dict[str, Source], entity: Entity, place: str) -> None:
    if view.readers is None:
        if not any(s.scored and key_columns(s, entity) is not None for s in sources.values()):
            raise DefinitionError(f"{place}.entity", f"no scored source carries `{entity.name}`: nobody reads this")
        return
    for number, name in enumerate(view.readers):
        reader = _known(sources, name, f"{place}.readers[{number}]", "source")
        if not reader.scored:
            raise DefinitionError(f"{place}.readers[{number}]", f"`{name}` holds labels: never scored")
        if key_columns(reader, entity) is None:
            raise DefinitionError(f"{place}.readers[{number}]", f"`{name}` does not carry entity `{entity.name}`")


def _check_windows(windows: Sequence[str], place: str) -> None:
    if not windows:
        raise DefinitionError(place, "there is none")
    lengths: list[int] = []
    for number, window in enumerate(windows):
        length = parse_duration(window, f"{place}[{number}]")
        if length == 0:
            raise DefinitionError(f"{place}[{number}]", f"`{window}` is a window of zero length")
        if length in lengths:
            raise DefinitionError(f"{place}[{number}]", f"`{window}` is there twice")
        lengths.append(length)


def _check_aggregation(aggregation: Aggregation, view: FeatureView, source: Source, place: str) -> None:
    function, column = aggregation.function, aggregation.column
    _check_column(aggregation, source, place)
    if aggregation.windows is not None:
        _check_windows(aggregation.windows, f"{place}.windows")
    if aggregation.delay is not None:
        parse_duration(aggregation.delay, f"{place}.delay")
    types = source_types(source)
    if aggregation.where is not None:
        check_condition(aggregation.where, types, f"{place}.where")
    if function == "share":
        if aggregation.of is None:
            raise DefinitionError(f"{place}.of", "a share needs `of`, the condition whose share is meant")
        check_condition(aggregation.of, types, f"{place}.of")
    elif aggregation.of is not None:
        raise DefinitionError(f"{place}.of", f"`of` belongs to share, not to {function}")
    windows = aggregation.windows or view.windows
    if aggregation.name is not None:
        check_identifier(aggregation.name.replace("{window}", "w"), f"{place}.name")
        if len(windows) > 1 and "{window}" not in aggregation.name:
            raise DefinitionError(f"{place}.name", f"names {len(windows)} windows alike; put {{window}} into it")
    if source.labels is not None and function not in _OF_LABELS:
        raise DefinitionError(
            f"{place}.function", f"`{function}` does not work on labels; use one of {', '.join(_OF_LABELS)}"
        )
    if source.labels is not None and column not in (None, source.labels.value):
        raise DefinitionError(f"{place}.column", f"of labels only `{source.labels.value}` can be aggregated")


def _check_column(aggregation: Aggregation, source: Source, place: str) -> None:
    function, column = aggregation.function, aggregation.column
    fields = {field.name: field for field in source.fields}
    if function == "rate" and source.labels is None:
        raise DefinitionError(
            f"{place}.function", f"`rate` needs labels, and source `{source.name}` declares none (`labels=LabelOf(...)`)"
        )
    if function not in _ALLOWED:
        if column is not None:
            raise DefinitionError(f"{place}.column", f"`{function}` takes no column; use `where` to choose events")
        return
    if column is None:
        raise DefinitionError(f"{place}.column", f"`{function}` needs a column")
    found = _known(fields, column, f"{place}.column", "column")
    if found.dtype not in _ALLOWED[function]:
        raise DefinitionError(f"{place}.column", f"{function} of `{column}`: it is a {found.dtype}")
    if aggregation.fill is not None and function in ("first", "last") and found.dtype == "string":
        raise DefinitionError(f"{place}.fill", f"`{column}` is a string: a fill value is a number")


def _check_updated_at(profile: Profile, place: str) -> None:
    fields = {field.name: field for field in profile.fields}
    if profile.updated_at in fields and fields[profile.updated_at].dtype != "timestamp":
        raise DefinitionError(f"{place}.updated_at", f"`{profile.updated_at}` is a {fields[profile.updated_at].dtype}")


def _in_dependency_order(derived: dict[str, Derived]) -> list[Derived]:
    done: dict[str, Derived] = {}

    def visit(one: Derived, path: tuple[str, ...]) -> None:
        if one.name in path:
            circle = " -> ".join((*path[path.index(one.name) :], one.name))
            raise DefinitionError(f"derived.{one.name}.sql", f"defines itself in a circle: {circle}")
        if one.name in done:
            return
        for name in references(one.sql, f"derived.{one.name}.sql", derived):
            visit(derived[name], (*path, one.name))
        done[one.name] = one

    for one in derived.values():
        visit(one, ())
    return list(done.values())


def _check_unique(items: Sequence[_Named], place: str) -> None:
    seen: set[str] = set()
    for number, item in enumerate(items):
        check_identifier(item.name, f"{place}[{number}].name")
        if item.name in seen:
            raise DefinitionError(f"{place}[{number}].name", f"`{item.name}` is there twice")
        seen.add(item.name)


def _known(items: dict[str, N], name: str, place: str, kind: str) -> N:
    if name not in items:
        raise DefinitionError(place, _unknown(kind, name, items))
    return items[name]


def _typed(
    fields: dict[str, Field], name: str, place: str, dtypes: Sequence[str], required: bool = False
) -> None:
    field = _known(fields, name, place, "column")
    if field.dtype not in dtypes:
        raise DefinitionError(place, f"column `{name}` must be {' or '.join(dtypes)}, not {field.dtype}")
    if required and not field.required:
        raise DefinitionError(place, f"column `{name}` must be required")


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(names) or 'none'}"
    return f"unknown {kind} `{name}`; {hint}"


def _named_path(definitions: Definitions, path: str) -> str:
    found = _PART.match(path)
    if found is None:
        return path.lstrip(".") or "definitions"
    item = getattr(definitions, found[1])[int(found[2])]
    name = getattr(item, "name", None)
    return f"{found[1]}.{name}{path[found.end() :]}" if isinstance(name, str) else path.lstrip(".")
