"""Definitions as data: what a user's project writes in its definitions module.

A project builds one `Definitions` object, usually in `definitions.py`, named by `riskstream.toml`.
Nothing here computes; `features.definitions.compile` checks the definitions and turns them into a `Plan`.

Durations are texts: `"90s"`, `"10m"`, `"1h"`, `"7d"`, `"2w"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FieldType = Literal["float64", "int64", "string", "bool", "timestamp"]
Function = Literal[
    "count", "sum", "mean", "std", "min", "max", "first", "last", "distinct", "elapsed", "share", "rate"
]
Value = float | int | str | bool


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a source or profile.

    `alias` is the name on the wire where it differs; a dotted alias reaches into nested objects
    (`"card.number"`). `timestamp` fields are read in the source's `time_format`. A float is
    rejected when it is NaN or infinite, and when outside `minimum`..`maximum`.
    """

    name: str
    dtype: FieldType
    required: bool = True
    alias: str | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True)
class LabelOf:
    """Makes a source a stream of labels (chargebacks, repayments, dispositions).

    The source's `event_time` is when the label became known. `event_id` names the column holding
    the id of the event it speaks of, `value` the column with the label (number or bool: 1 is bad).
    `event_time` names the column with the labelled event's own time, which places the label in
    windows; without it the label stands at the time it first became known. A later label for the
    same event id replaces the value from the time it became known.
    """

    event_id: str
    value: str
    event_time: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A topic and the shape of its events.

    `key` is the column the topic is keyed by: entities with exactly that key live in one partition.
    `entity_keys` maps an entity's name to this source's columns where they are named otherwise
    than in the entity. `event_type`, where given, names a column whose value must be one of
    `event_types`. `amount` names the column that says the money at stake (the alert's exposure).
    `time_format`: `s`, `ms`, `us`, `ns` since 1970 UTC, `iso8601`, or a strptime format.
    `max_age` / `max_ahead` bound event time against the Kafka timestamp of the message; outside
    of them an event is dead-lettered.
    """

    name: str
    topic: str
    event_id: str
    event_time: str
    fields: tuple[Field, ...]
    key: str | None = None
    time_format: str = "ms"
    labels: LabelOf | None = None
    entity_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    event_type: str | None = None
    event_types: tuple[str, ...] = ()
    amount: str | None = None
    max_age: str | None = None
    max_ahead: str | None = None

    @property
    def scored(self) -> bool:
        """Labels are folded into state, never scored."""
        return self.labels is None


@dataclass(frozen=True, kw_only=True)
class Entity:
    """Something that behaves: a card, a merchant, or a pair of them (several key columns)."""

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """One function over one column, once for each window.

    `column` may be a numeric, bool or string column of the source; none for `count`, `elapsed`
    and `rate`. `share` is the share of events for which the condition `of` holds. `rate` is the mean of the
    known labels and needs a label source. `where`, `delay`, `include_current` and `windows` default
    to the view's. `name` replaces the naming rule and may hold `{window}`. `fill` is the value
    when the window holds nothing (default: 0 for count, sum and distinct; missing otherwise).
    """

    function: Function
    column: str | None = None
    windows: tuple[str, ...] | None = None
    where: str | None = None
    of: str | None = None
    delay: str | None = None
    include_current: bool | None = None
    name: str | None = None
    fill: float | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureView:
    """Aggregations of one source by one entity.

    A window w with delay d covers event times in (t - d - w, t - d], t being the time of the event
    that is scored. `where` is an SQL condition on the source's columns.
    Any scored source that carries the entity's key reads the features, unless `readers` names some.
    """

    name: str
    source: str
    entity: str
    aggregations: tuple[Aggregation, ...]
    windows: tuple[str, ...]
    where: str | None = None
    delay: str = "0s"
    include_current: bool = True
    readers: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Static facts of an entity, loaded from a file and joined by key.

    A feature is named `{field}_of_{entity}`. One missing, or older than `max_age`, raises the flag
    `profile_missing:{name}` or `profile_stale:{name}`, and `fill` gives the model's value.
    """

    name: str
    entity: str
    fields: tuple[Field, ...]
    updated_at: str | None = None
    max_age: str | None = None
    fill: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A feature computed by an SQL expression from columns and other features of one source's events."""

    name: str
    sql: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """Everything riskstream must know of a project's data.

    `capacity`: events a ring keeps exactly for one slice. `lateness`: how much later than a newer
    event of its entity an event may come and still be folded and read exactly. `protected`: columns
    (sex, age, ...) that are neither model inputs nor reasons.
    """

    sources: tuple[Source, ...]
    entities: tuple[Entity, ...] = ()
    views: tuple[FeatureView, ...] = ()
    profiles: tuple[Profile, ...] = ()
    derived: tuple[Derived, ...] = ()
    protected: tuple[str, ...] = ()
    capacity: int = 512
    lateness: str = "1d"
