"""Says in words what a feature is: its definition, the edges of its window, its source, an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isnan

from features.core.durations import format_duration
from features.core.errors import ConfigurationError
from features.definitions.expressions import references
from features.definitions.naming import profile_feature_name
from features.definitions.plan import Feature, Group, Plan, Reader, Scan
from features.definitions.profile_names import profile_fields, profile_names
from features.definitions.spec import Derived, Profile
from features.definitions.worked_example import worked_example

_WHAT = {
    "count": "how many events",
    "sum": "sum of",
    "mean": "mean of",
    "std": "standard deviation (of a sample) of",
    "min": "smallest",
    "max": "largest",
    "first": "value of the oldest event's",
    "last": "value of the newest event's",
    "distinct": "number of different values of",
    "elapsed": "seconds since the event before",
    "share": "share of events for which the condition holds",
    "rate": "mean of the labels known by then",
}


@dataclass(frozen=True)
class FeatureLine:
    """One line of `riskstream features list`."""

    name: str
    source: str
    kind: str
    text: bool
    definition: str


def feature_lines(plan: Plan) -> list[FeatureLine]:
    """All features of all scored sources, in the order of the matrix."""
    return [line for reader in plan.readers.values() for line in _lines(reader)]


def explain(plan: Plan, name: str) -> str:
    """Several lines about one feature; ConfigurationError when there is none of that name."""
    for reader in plan.readers.values():
        for feature in reader.features:
            if feature.name == name:
                return _aggregation(plan, feature)
        for profile in reader.profiles:
            if name in profile_names(profile):
                return _profile(profile, name)
        for derived in reader.derived:
            if derived.name == name:
                return _derived(reader, derived)
    names = [line.name for line in feature_lines(plan)]
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean `{close[0]}`?" if close else "see `riskstream features list`"
    raise ConfigurationError(f"there is no feature `{name}`; {hint}")


def _lines(reader: Reader) -> list[FeatureLine]:
    lines = [FeatureLine(f.name, reader.source, "window", f.text, f.definition) for f in reader.features]
    for profile in reader.profiles:
        for name, text in profile_names(profile).items():
            definition = f"profile {profile.name} of {profile.entity}"
            lines.append(FeatureLine(name, reader.source, "profile", text, definition))
    for derived in reader.derived:
        text = derived.name in reader.text_names
        lines.append(FeatureLine(derived.name, reader.source, "derived", text, derived.sql))
    return lines


def _aggregation(plan: Plan, feature: Feature) -> str:
    group = plan.groups[feature.group]
    scan = group.scans[feature.scan]
    window = scan.windows[feature.window]
    rows = [
        ("feature", f"{feature.name} ({'text' if feature.text else 'number'})"),
        ("definition", _definition(group, scan, feature)),
        ("entity", f"{group.entity} = {' + '.join(group.key_columns)}"),
        ("source", f"{group.source}, topic {plan.sources[group.source].topic}, view {feature.view}"),
        ("read by", ", ".join(r.source for r in plan.readers.values() if feature in r.features)),
        ("window", _edges(scan.delay, window)),
    ]
    if scan.where >= 0:
        rows.append(("condition", group.conditions[scan.where]))
    rows += [
        ("current", _current(group, scan, feature)),
        ("empty", "missing" if isnan(feature.fill) else f"{feature.fill:g}"),
        ("exact", _exactness(group, feature)),
    ]
    return "\n".join([*_table(rows), "", *worked_example(group, scan, feature)])


def _definition(group: Group, scan: Scan, feature: Feature) -> str:
    what = _WHAT[feature.function]
    if feature.function == "share":
        return f"{what}: {group.conditions[group.scans[feature.of_scan].where]}"
    if feature.function in ("count", "elapsed", "rate"):
        return what
    columns = group.value_columns if scan.value >= 0 else group.token_columns
    return f"{what} `{columns[max(scan.value, scan.token)]}`"


def _edges(delay: int, window: int) -> str:
    length = format_duration(window)
    if not delay:
        return (
            f"(t - {length}, t]: an event exactly {length} old is out, one at t is in; t is the event's time"
        )
    late = format_duration(delay)
    return (
        f"(t - {late} - {length}, t - {late}]: it ends {late} before the event's time t; "
        f"an event exactly {late} old is in, one {format_duration(delay + window)} old is out"
    )


def _current(group: Group, scan: Scan, feature: Feature) -> str:
    if group.label:
        return "labels count once they are known; a correction replaces the value from its own time on"
    if scan.delay:
        return "never in a window that ends before it"
    if feature.function == "elapsed":
        return "measured from, not counted"
    return "included" if scan.include_current else "not included"


def _exactness(group: Group, feature: Feature) -> str:
    sketch = "; distinct is then within about 3 %" if feature.function == "distinct" else ""
    return (
        f"while one key has at most {group.capacity} events in {format_duration(group.horizon)}, "
        f"late ones up to {format_duration(group.lateness)} included; beyond that windows are within 1 %{sketch}"
    )


def _profile(profile: Profile, name: str) -> str:
    fields = {profile_feature_name(field.name, profile.entity): field for field in profile_fields(profile)}
    rows = [("feature", name)]
    if name in fields:
        field = fields[name]
        fill = profile.fill.get(field.name)
        rows.append(("definition", f"field `{field.name}` ({field.dtype}) of profile {profile.name}"))
        rows.append(("fill", "none: missing stays missing" if fill is None else str(fill)))
    else:
        rows.append(
            ("definition", f"seconds between the last update of profile {profile.name} and the event")
        )
    rows.append(("entity", profile.entity))
    rows.append(("flags", f"profile_missing:{profile.name}, profile_stale:{profile.name}"))
    rows.append(("stale", f"older than {profile.max_age}" if profile.max_age else "never"))
    return "\n".join(_table(rows))


def _derived(reader: Reader, derived: Derived) -> str:
    known = [*reader.names, *reader.text_names]
    used = references(derived.sql, derived.name, known)
    rows = [
        ("feature", f"{derived.name} ({'text' if derived.name in reader.text_names else 'number'})"),
        ("definition", " ".join(derived.sql.split())),
        ("source", derived.source),
        ("uses", ", ".join(used) or "columns of the event only"),
        ("empty", "missing where the SQL gives null, or a division by zero"),
    ]
    return "\n".join(_table(rows))


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{head:<12}{text}" for head, text in rows]
