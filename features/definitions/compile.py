"""Definitions become a Plan: checked, merged into groups and slots, in an order that never changes.

Control path. All views of one (entity, source) pair share one group, because they share state; what
reads a group alike (column, condition, delay, current event or not) shares one scan with all its
windows. Every mistake in the definitions is one DefinitionError that says where it is.
"""

from __future__ import annotations

import hashlib

import msgspec

from features.core.errors import DefinitionError
from features.definitions.checks.sources import check_sources, key_columns, normalized
from features.definitions.checks.views import check_derived, check_profiles, check_protected, check_views
from features.definitions.groups import GroupBuilder
from features.definitions.naming import RESERVED
from features.definitions.plan import Feature, Group, Plan, Reader
from features.definitions.profile_names import profile_names
from features.definitions.spec import Definitions, Source
from features.kernel.row_format import STATE_FORMAT


def compile_plan(definitions: Definitions) -> Plan:
    """Check definitions and decide everything that the engine needs.

    The same definitions always give the same plan and fingerprint (tests/features/test_compile.py).
    Raises DefinitionError with the path to the first mistake.
    """
    definitions = normalized(definitions)
    check_sources(definitions)
    check_views(definitions)
    check_profiles(definitions)
    groups, features = _build_groups(definitions)
    _check_names_differ(definitions, features)
    sources = {source.name: source for source in definitions.sources}
    plan = Plan(
        definitions=definitions,
        groups=groups,
        readers={s.name: _reader(definitions, s, features) for s in definitions.sources if s.scored},
        sources=sources,
        fingerprint=fingerprint(definitions),
    )
    check_protected(definitions, {name for r in plan.readers.values() for name in (*r.names, *r.text_names)})
    return plan


def fingerprint(definitions: Definitions) -> str:
    """First 16 hexadecimal digits of SHA-256 over the canonical definitions and the state format."""
    canonical = msgspec.json.encode([STATE_FORMAT, msgspec.to_builtins(definitions)], order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


def _build_groups(definitions: Definitions) -> tuple[tuple[Group, ...], dict[str, list[Feature]]]:
    builders: dict[tuple[str, str], GroupBuilder] = {}
    owners: list[tuple[str, GroupBuilder]] = []
    sources = {source.name: source for source in definitions.sources}
    for view in definitions.views:
        pair = (view.entity, view.source)
        if pair not in builders:
            builders[pair] = GroupBuilder(len(builders), definitions, sources[view.source], view.entity)
        builders[pair].add(view)
        owners.append((view.name, builders[pair]))
    groups = tuple(builder.group() for builder in builders.values())
    features = {name: builder.features(name) for name, builder in owners}
    return groups, features


def _check_names_differ(definitions: Definitions, features: dict[str, list[Feature]]) -> None:
    """No two features, profile fields or derived features may have one name, nor a column's name."""
    columns = {f.name: f"sources.{s.name}" for s in definitions.sources if s.scored for f in s.fields}
    seen: dict[str, str] = {}
    named = [(f.name, f"views.{view}") for view, named_features in features.items() for f in named_features]
    for profile in definitions.profiles:
        named += [(name, f"profiles.{profile.name}") for name in profile_names(profile)]
    for derived in definitions.derived:
        named.append((derived.name, f"derived.{derived.name}"))
    for name, path in named:
        if name in RESERVED:
            raise DefinitionError(path, f"`{name}` is a name of riskstream's own; choose another")
        if name in columns:
            raise DefinitionError(path, f"feature `{name}` has the name of a column of {columns[name]}")
        if name in seen:
            where = "twice" if seen[name] == path else f"here and in {seen[name]}"
            raise DefinitionError(path, f"feature `{name}` is defined {where}; give one of them a `name`")
        seen[name] = path


def _reader(definitions: Definitions, source: Source, features: dict[str, list[Feature]]) -> Reader:
    keys = {e.name: columns for e in definitions.entities if (columns := key_columns(source, e)) is not None}
    views = [
        v for v in definitions.views if v.entity in keys and source.name in (v.readers or (source.name,))
    ]
    read = tuple(feature for view in views for feature in features[view.name])
    profiles = tuple(profile for profile in definitions.profiles if profile.entity in keys)
    names = [f.name for f in read if not f.text]
    texts = [f.name for f in read if f.text]
    for profile in profiles:
        for name, is_text in profile_names(profile).items():
            (texts if is_text else names).append(name)
    derived = check_derived(definitions, source, names, texts)
    for feature, is_text in derived:
        (texts if is_text else names).append(feature.name)
    first = views[0].entity if views else None
    keyed = next((name for name, columns in keys.items() if columns == (source.key,)), None)
    return Reader(
        source=source.name,
        features=read,
        entity_keys=keys,
        primary=keyed or first,
        derived=tuple(feature for feature, _ in derived),
        profiles=profiles,
        names=tuple(names),
        text_names=tuple(texts),
    )
