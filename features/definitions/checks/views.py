"""Checks of views, aggregations, profiles, derived features and protected columns."""

from __future__ import annotations

from collections.abc import Sequence

from features.core.durations import parse_duration
from features.core.errors import DefinitionError
from features.definitions.checks.sources import (
    NUMERIC,
    check_fields,
    check_unique,
    key_columns,
    known,
    unknown,
)
from features.definitions.expressions import check_condition, check_value, references, source_types
from features.definitions.naming import check_identifier
from features.definitions.profile_names import profile_fields
from features.definitions.spec import Aggregation, Definitions, Derived, Entity, FeatureView, Profile, Source

_ALLOWED = {
    "sum": NUMERIC,
    "mean": NUMERIC,
    "std": NUMERIC,
    "min": (*NUMERIC, "timestamp"),
    "max": (*NUMERIC, "timestamp"),
    "first": (*NUMERIC, "timestamp", "string"),
    "last": (*NUMERIC, "timestamp", "string"),
    "distinct": (*NUMERIC, "timestamp", "string"),
}
_OF_LABELS = ("rate", "count", "sum", "mean")


def check_views(definitions: Definitions) -> None:
    """Views and their aggregations: references, windows, types, conditions."""
    check_unique(definitions.views, "views")
    sources = {source.name: source for source in definitions.sources}
    entities = {entity.name: entity for entity in definitions.entities}
    for view in definitions.views:
        path = f"views.{view.name}"
        source = known(sources, view.source, f"{path}.source", "source")
        entity = known(entities, view.entity, f"{path}.entity", "entity")
        if key_columns(source, entity) is None:
            raise DefinitionError(
                f"{path}.entity",
                f"source `{source.name}` has no columns {', '.join(entity.keys)}; map them by `entity_keys`",
            )
        _check_readers(view, sources, entity, path)
        if not view.aggregations:
            raise DefinitionError(f"{path}.aggregations", "is empty")
        _check_windows(view.windows, f"{path}.windows")
        parse_duration(view.delay, f"{path}.delay")
        if view.where is not None:
            check_condition(view.where, source_types(source), f"{path}.where")
        for number, aggregation in enumerate(view.aggregations):
            _check_aggregation(aggregation, view, source, f"{path}.aggregations[{number}]")


def check_profiles(definitions: Definitions) -> None:
    """Profiles: entity, fields, age, fill values."""
    check_unique(definitions.profiles, "profiles")
    entities = {entity.name: entity for entity in definitions.entities}
    for profile in definitions.profiles:
        path = f"profiles.{profile.name}"
        known(entities, profile.entity, f"{path}.entity", "entity")
        check_fields(profile.fields, f"{path}.fields")
        if profile.max_age is not None:
            parse_duration(profile.max_age, f"{path}.max_age")
            if profile.updated_at is None:
                raise DefinitionError(f"{path}.max_age", "needs `updated_at`, the time of the last update")
        _check_updated_at(profile, path)
        fields = {field.name: field for field in profile_fields(profile)}
        if not fields:
            raise DefinitionError(f"{path}.fields", "is empty")
        for name, value in profile.fill.items():
            field = known(fields, name, f"{path}.fill.{name}", "field")
            if isinstance(value, str) != (field.dtype == "string"):
                raise DefinitionError(
                    f"{path}.fill.{name}", f"expected a {field.dtype}, got `{type(value).__name__}`"
                )


def check_derived(
    definitions: Definitions, source: Source, numbers: Sequence[str], texts: Sequence[str]
) -> list[tuple[Derived, bool]]:
    """Derived features of a source in dependency order, each with whether it is a text."""
    check_unique(definitions.derived, "derived")
    sources = {one.name: one for one in definitions.sources}
    own: dict[str, Derived] = {}
    for derived in definitions.derived:
        target = known(sources, derived.source, f"derived.{derived.name}.source", "source")
        if not target.scored:
            raise DefinitionError(
                f"derived.{derived.name}.source", f"`{target.name}` holds labels: never scored"
            )
        if target.name == source.name:
            own[derived.name] = derived
    types = source_types(source, numbers, texts)
    ordered: list[tuple[Derived, bool]] = []
    for derived in _in_dependency_order(own):
        is_text = check_value(derived.sql, types, f"derived.{derived.name}.sql", pending=own)
        types.update(source_types(None, *([(), [derived.name]] if is_text else [[derived.name], ()])))
        ordered.append((derived, is_text))
    return ordered


def check_protected(definitions: Definitions, features: set[str]) -> None:
    """Protected names must exist: a misspelt one would protect nothing."""
    columns = {field.name for source in definitions.sources for field in source.fields}
    columns |= {field.name for profile in definitions.profiles for field in profile.fields}
    for number, name in enumerate(definitions.protected):
        if name not in columns | features:
            raise DefinitionError(
                f"protected[{number}]", unknown("column or feature", name, columns | features)
            )


def _check_readers(view: FeatureView, sources: dict[str, Source], entity: Entity, path: str) -> None:
    if view.readers is None:
        if not any(s.scored and key_columns(s, entity) is not None for s in sources.values()):
            raise DefinitionError(
                f"{path}.entity", f"no scored source carries `{entity.name}`: nobody reads this"
            )
        return
    for number, name in enumerate(view.readers):
        reader = known(sources, name, f"{path}.readers[{number}]", "source")
        if not reader.scored:
            raise DefinitionError(f"{path}.readers[{number}]", f"`{name}` holds labels: never scored")
        if key_columns(reader, entity) is None:
            raise DefinitionError(
                f"{path}.readers[{number}]", f"`{name}` does not carry entity `{entity.name}`"
            )


def _check_windows(windows: Sequence[str], path: str) -> None:
    if not windows:
        raise DefinitionError(path, "is empty")
    lengths: list[int] = []
    for number, window in enumerate(windows):
        length = parse_duration(window, f"{path}[{number}]")
        if length == 0:
            raise DefinitionError(f"{path}[{number}]", f"`{window}` is a window of zero length")
        if length in lengths:
            raise DefinitionError(f"{path}[{number}]", f"`{window}` is given twice")
        lengths.append(length)


def _check_aggregation(aggregation: Aggregation, view: FeatureView, source: Source, path: str) -> None:
    function, column = aggregation.function, aggregation.column
    _check_column(aggregation, source, path)
    if aggregation.windows is not None:
        _check_windows(aggregation.windows, f"{path}.windows")
    if aggregation.delay is not None:
        parse_duration(aggregation.delay, f"{path}.delay")
    types = source_types(source)
    if aggregation.where is not None:
        check_condition(aggregation.where, types, f"{path}.where")
    if function == "share":
        if aggregation.of is None:
            raise DefinitionError(f"{path}.of", "a share needs `of`, the condition whose share is meant")
        check_condition(aggregation.of, types, f"{path}.of")
    elif aggregation.of is not None:
        raise DefinitionError(f"{path}.of", f"`of` belongs to share, not to {function}")
    windows = aggregation.windows or view.windows
    if aggregation.name is not None:
        check_identifier(aggregation.name.replace("{window}", "w"), f"{path}.name")
        if len(windows) > 1 and "{window}" not in aggregation.name:
            raise DefinitionError(
                f"{path}.name", f"names {len(windows)} windows alike; put {{window}} into it"
            )
    if source.labels is not None and function not in _OF_LABELS:
        raise DefinitionError(
            f"{path}.function", f"`{function}` does not work on labels; use one of {', '.join(_OF_LABELS)}"
        )
    if source.labels is not None and column not in (None, source.labels.value):
        raise DefinitionError(f"{path}.column", f"of labels only `{source.labels.value}` can be aggregated")


def _check_column(aggregation: Aggregation, source: Source, path: str) -> None:
    function, column = aggregation.function, aggregation.column
    fields = {field.name: field for field in source.fields}
    if function == "rate" and source.labels is None:
        raise DefinitionError(
            f"{path}.function",
            f"`rate` needs labels; source `{source.name}` declares none (`labels=LabelOf(...)`)",
        )
    if function not in _ALLOWED:
        if column is not None:
            raise DefinitionError(
                f"{path}.column", f"`{function}` takes no column; use `where` to choose events"
            )
        return
    if column is None:
        raise DefinitionError(f"{path}.column", f"`{function}` needs a column")
    declared = known(fields, column, f"{path}.column", "column")
    if declared.dtype not in _ALLOWED[function]:
        raise DefinitionError(f"{path}.column", f"{function} of `{column}`: it is a {declared.dtype}")
    if aggregation.fill is not None and function in ("first", "last") and declared.dtype == "string":
        raise DefinitionError(f"{path}.fill", f"`{column}` is a string: a fill value is a number")


def _check_updated_at(profile: Profile, path: str) -> None:
    fields = {field.name: field for field in profile.fields}
    if profile.updated_at in fields and fields[profile.updated_at].dtype != "timestamp":
        raise DefinitionError(f"{path}.updated_at", f"`{profile.updated_at}` is not a timestamp")


def _in_dependency_order(derived: dict[str, Derived]) -> list[Derived]:
    done: dict[str, Derived] = {}

    def visit(feature: Derived, path: tuple[str, ...]) -> None:
        if feature.name in path:
            circle = " -> ".join((*path[path.index(feature.name) :], feature.name))
            raise DefinitionError(f"derived.{feature.name}.sql", f"defines itself in a circle: {circle}")
        if feature.name in done:
            return
        for name in references(feature.sql, f"derived.{feature.name}.sql", derived):
            visit(derived[name], (*path, feature.name))
        done[feature.name] = feature

    for feature in derived.values():
        visit(feature, ())
    return list(done.values())
