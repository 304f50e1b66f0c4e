"""A worked example of one windowed feature: a handful of events, which of them count, and the result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from features.core.durations import format_duration
from features.definitions.plan import Feature, Group, Scan

_NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
_SECOND = 1_000_000


@dataclass(frozen=True)
class _Event:
    age: int
    value: int
    text: str
    why: str
    counts: bool
    matches: bool = True


def worked_example(group: Group, scan: Scan, feature: Feature) -> list[str]:
    """Lines that show, for a scored event on 2026-01-31 at noon, what each past event does."""
    window = scan.windows[feature.window]
    lines = [f"example     a {group.entity} is scored at {_time(0)}"]
    head = "label's event" if group.label else "event"
    subject = _subject(group, scan, feature)
    lines.append(f"            {head:<28}{subject:<16}counts?")
    events = _events(group, scan, window)
    for event in events:
        shown = _shown(feature, scan, event)
        lines.append(
            f"            {_time(event.age):<28}{shown:<16}{'yes' if event.counts else 'no'}: {event.why}"
        )
    lines.append(f"            {_result(feature, scan, [event for event in events if event.counts])}")
    return lines


def _events(group: Group, scan: Scan, window: int) -> list[_Event]:
    oldest = scan.delay + window
    step = min(_SECOND, max(1, window // 4))
    length = format_duration(oldest)
    events = [
        _Event(oldest, 10, "a", f"exactly {length} old, just out", False),
        _Event(oldest - step, 20, "b", f"{format_duration(step)} less than {length} old", True),
        _Event(scan.delay + window // 2, 60, "c", "within the window", True, matches=False),
    ]
    if scan.where >= 0:
        why = "`where` does not hold"
        events.append(_Event(scan.delay + window // 3, 50, "d", why, False))
    if scan.delay:
        late = format_duration(scan.delay)
        events.append(_Event(scan.delay, 40, "b", f"exactly {late} old, just in", True))
        events.append(_Event(scan.delay - step, 90, "e", f"younger than {late}", False))
    if group.label:
        why = "its label becomes known after the scored event"
        return [*events, _Event(scan.delay + window // 4, 1, "f", why, False)]
    if not scan.delay:
        why = "the scored event itself"
        events.append(_Event(0, 40, "b", why, scan.include_current))
    return events


def _subject(group: Group, scan: Scan, feature: Feature) -> str:
    if feature.function == "share":
        return "condition"
    if feature.function == "rate":
        return "label"
    if (scan.value < 0 and scan.token < 0) or feature.function == "count":
        return ""
    columns = group.value_columns if scan.value >= 0 else group.token_columns
    return columns[max(scan.value, scan.token)][:15]


def _shown(feature: Feature, scan: Scan, event: _Event) -> str:
    if feature.function == "share":
        return "holds" if event.matches else "does not hold"
    if feature.function == "rate":
        return "1" if event.matches else "0"
    if feature.function in ("count", "elapsed"):
        return ""
    return event.text if scan.token >= 0 else str(event.value)


def _result(feature: Feature, scan: Scan, counted: list[_Event]) -> str:
    values = [float(event.value) for event in counted]
    count = len(values)
    by_time = sorted(counted, key=lambda event: -event.age)
    ends = {"first": by_time[0], "last": by_time[-1]}
    mean = sum(values) / count
    results = {
        "count": float(count),
        "sum": sum(values),
        "mean": mean,
        "std": (sum((value - mean) ** 2 for value in values) / max(count - 1, 1)) ** 0.5,
        "min": min(values),
        "max": max(values),
        "distinct": float(len({event.text if scan.token >= 0 else event.value for event in counted})),
        "elapsed": min(event.age for event in counted) / _SECOND,
        "share": sum(event.matches for event in counted) / count,
        "rate": sum(event.matches for event in counted) / count,
    }
    if feature.function in ends:
        event = ends[feature.function]
        return f"{feature.name} = {event.text if feature.text else event.value}"
    return f"{feature.name} = {results[feature.function]:g}"


def _time(age: int) -> str:
    moment = _NOW - timedelta(microseconds=age)
    return moment.strftime("%Y-%m-%d %H:%M:%S") + (f".{moment.microsecond:06}" if moment.microsecond else "")
