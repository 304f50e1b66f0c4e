"""The slow, obvious twin of the feature engine: a list, a loop, and exact fractions.

It follows the definitions word by word (docs/concepts/features.md) and shares no code with the engine. Events
go in one by one in scoring order; every window is found by looking at every event that was kept.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from features.core.durations import parse_duration
from features.definitions.spec import Aggregation, Definitions, FeatureView, Source

Event = Mapping[str, Any]
Condition = Callable[[Event], bool]
FOREVER = math.inf


def micros(text: str) -> int:
    """A duration in microseconds."""
    return parse_duration(text, "reference")


@dataclass
class Kept:
    """One event as its slice remembers it. `known` and `gone` bound the time in which a label holds."""

    time: int
    event_id: str
    event: Event
    known: float = -FOREVER
    gone: float = FOREVER


@dataclass
class Slice:
    """What one partition's events did to one entity, seen by one source."""

    kept: list[Kept] = field(default_factory=list)
    newest: float = -FOREVER


class Reference:
    """Features by the book. `conditions` gives each SQL condition of the definitions as a Python function."""

    def __init__(self, definitions: Definitions, conditions: Mapping[str, Condition]) -> None:
        self.definitions = definitions
        self.conditions = conditions
        self.sources = {source.name: source for source in definitions.sources}
        self.entities = {entity.name: entity for entity in definitions.entities}
        self.slices: dict[tuple[str, str, str, int], Slice] = defaultdict(Slice)

    def process(self, source: str, event: Event, partition: int) -> dict[str, float | str | None]:
        """Features of a scored event, which is then folded; a label is only folded."""
        features = self.read(source, event, partition) if self.sources[source].scored else {}
        for view_entity in {view.entity for view in self.definitions.views if view.source == source}:
            self._fold(source, view_entity, event, partition)
        return features

    def read(self, source: str, event: Event, partition: int) -> dict[str, float | str | None]:
        """Every feature as of the event, by name; None is missing."""
        out: dict[str, float | str | None] = {}
        for view in self.definitions.views:
            for aggregation in view.aggregations:
                for window in aggregation.windows or view.windows:
                    name = feature_name(view, aggregation, window, self.sources)
                    out[name] = self._feature(source, event, partition, view, aggregation, window)
        return out

    def _feature(
        self,
        source: str,
        event: Event,
        partition: int,
        view: FeatureView,
        aggregation: Aggregation,
        window: str,
    ) -> float | str | None:
        key = self._key(source, view.entity, event)
        fill = aggregation.fill
        if fill is None and aggregation.function in ("count", "sum", "distinct"):
            fill = 0.0
        if key is None:
            return fill
        chosen = self._window(source, event, partition, view, aggregation, window, key)
        value = aggregate(
            aggregation, [kept.event for kept in chosen], [kept.time for kept in chosen], self, event, source
        )
        return fill if value is None else value

    def _window(
        self,
        source: str,
        event: Event,
        partition: int,
        view: FeatureView,
        aggregation: Aggregation,
        window: str,
        key: str,
    ) -> list[Kept]:
        now = event[self.sources[source].event_time]
        delay = micros(aggregation.delay or view.delay)
        upto, after = now - delay, now - delay - micros(window)
        current = view.include_current if aggregation.include_current is None else aggregation.include_current
        current = current and aggregation.function != "elapsed"
        seen: list[tuple[int, int, int, Kept]] = []
        for (name, entity, whose, number), found in self.slices.items():
            if (name, entity, whose) == (view.source, view.entity, key):
                seen += [(kept.time, number, place, kept) for place, kept in enumerate(found.kept)]
        seen.sort(key=lambda one: one[:3])
        events = [kept for *_, kept in seen if after < kept.time <= upto and kept.known <= now < kept.gone]
        mine = Kept(now, event[self.sources[source].event_id], event)
        duplicate = self._is_duplicate(self.slices[source, view.entity, key, partition], mine)
        if current and delay == 0 and source == view.source and not duplicate:
            events.append(mine)
        return [kept for kept in events if self._holds(view, aggregation, kept.event)]

    def _holds(self, view: FeatureView, aggregation: Aggregation, event: Event) -> bool:
        where = aggregation.where or view.where
        return where is None or self.conditions[where](event)

    def _key(self, source: str, entity: str, event: Event) -> str | None:
        columns = self.sources[source].entity_keys.get(entity, self.entities[entity].keys)
        parts = [event.get(column) for column in columns]
        return None if None in parts else "|".join(map(str, parts))

    def _fold(self, source: str, entity: str, event: Event, partition: int) -> None:
        key = self._key(source, entity, event)
        if key is None:
            return
        spec = self.sources[source]
        found = self.slices[source, entity, key, partition]
        new = (
            self._labelled(spec, event, found)
            if spec.labels
            else Kept(event[spec.event_time], event[spec.event_id], event)
        )
        if self._is_duplicate(found, new):
            return
        found.newest = max(found.newest, event[spec.event_time])
        edge = found.newest - self._reach(source, entity)
        found.kept = [kept for kept in found.kept if kept.time > edge]
        if new.time > edge:
            found.kept.append(new)
        if spec.labels:
            for kept in found.kept:
                later = [
                    o.known
                    for o in found.kept
                    if (o.event_id, o.time) == (kept.event_id, kept.time) and o.known > kept.known
                ]
                kept.gone = min(later, default=FOREVER)

    def _labelled(self, spec: Source, event: Event, found: Slice) -> Kept:
        assert spec.labels is not None
        known, subject = event[spec.event_time], event[spec.labels.event_id]
        time = event.get(spec.labels.event_time) if spec.labels.event_time else None
        if time is None:
            first = [
                kept.time
                for kept in sorted(found.kept, key=lambda kept: kept.time)
                if kept.event_id == subject
            ]
            time = first[-1] if first else known
        return Kept(time, subject, event, known=known)

    @staticmethod
    def _is_duplicate(found: Slice, new: Kept) -> bool:
        return any(
            (kept.time, kept.event_id, kept.known) == (new.time, new.event_id, new.known)
            for kept in found.kept
        )

    def _reach(self, source: str, entity: str) -> int:
        spans = [
            micros(aggregation.delay or view.delay) + micros(window)
            for view in self.definitions.views
            if (view.source, view.entity) == (source, entity)
            for aggregation in view.aggregations
            for window in aggregation.windows or view.windows
        ]
        return max(spans) + micros(self.definitions.lateness)


def aggregate(
    aggregation: Aggregation,
    events: list[Event],
    times: list[int],
    reference: Reference,
    current: Event,
    source: str,
) -> float | str | None:
    """One function over the events of a window, oldest first; None is missing."""
    column = aggregation.column
    if aggregation.function == "rate":
        label = next(s.labels for s in reference.definitions.sources if s.labels is not None)
        column = label.value
    if aggregation.function == "share":
        assert aggregation.of is not None
        hits = sum(reference.conditions[aggregation.of](event) for event in events)
        return hits / len(events) if events else None
    if aggregation.function == "elapsed":
        now = current[reference.sources[source].event_time]
        return (now - max(times)) / 1e6 if times else None
    values = [event[column] for event in events if event.get(column) is not None] if column else events
    return _FUNCTIONS[aggregation.function](values)


def _std(values: list[float]) -> float | None:
    if len(values) < 2:
        return None
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))


_FUNCTIONS: dict[str, Callable[[list[Any]], float | str | None]] = {
    "count": len,
    "sum": math.fsum,
    "mean": lambda values: math.fsum(values) / len(values) if values else None,
    "rate": lambda values: math.fsum(values) / len(values) if values else None,
    "std": _std,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
    "distinct": lambda values: len(set(values)),
}


def feature_name(
    view: FeatureView, aggregation: Aggregation, window: str, sources: Mapping[str, Source]
) -> str:
    """The naming rule of docs/concepts/features.md."""
    if aggregation.name is not None:
        return aggregation.name.format(window=window)
    subject = aggregation.column or (view.name if aggregation.function == "share" else view.source)
    return f"{subject}_{aggregation.function}_{window}_by_{view.entity}"
