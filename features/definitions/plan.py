"""A compiled plan: definitions turned into the arrays and numbers that the kernel needs.

Control path only: built once by `features.definitions.compile.compile_plan`, read by the engine, the store
(fingerprint), models (feature names) and the command line (explain).

    group    one (entity, source) pair: the unit of state; one slice per group and topic-partition
    scan     one way of reading a group: column, condition, delay; several windows in one scan
    feature  one output column: a function of one window of one scan
"""

from __future__ import annotations

from dataclasses import dataclass

from features.definitions.spec import Definitions, Derived, Function, Profile, Source


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan over a group's events.

    `value` is an index into the group's `value_columns`, `token` into its `token_columns`, -1 for
    none (then events are counted); `distinct` reads tokens, of numbers too. `where` is an index
    into the group's `conditions`, -1 for all events. `windows` in microseconds, ascending; the scan covers
    (t - delay - w, t - delay].
    `include_current` only matters when `delay` is 0: a current event never reaches a delayed window.
    """

    value: int
    token: int
    where: int
    delay: int
    include_current: bool
    windows: tuple[int, ...]
    needs_squares: bool = False
    needs_extremes: bool = False
    needs_ends: bool = False
    needs_distinct: bool = False


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One output of a scan.

    `group` is an index into `Plan.groups`, `scan` into the group's scans, `window` into the scan's
    windows. `of_scan` is the scan that counts a `share`'s events (those for which `where` and `of`
    hold), with the same windows as `scan`, else -1. `elapsed` reads the newest event of a scan that
    never includes the current one. A `count` may share the scan of a column that is never null.
    `text` says that the value is a string (`first`, `last` of a string column).
    """

    name: str
    function: Function
    group: int
    scan: int
    of_scan: int = -1
    window: int
    fill: float
    text: bool
    view: str
    definition: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """State of one entity fed by one source.

    `key_columns` are the source's columns that make the entity's key. `horizon` is the longest
    delay + window in microseconds: what is older than newest - horizon - lateness is forgotten.
    `partition_local` says that the topic is keyed by this entity, so a key lives in one partition.
    `label` groups keep (position, known, id, value) and versions of corrected labels; then
    `value_columns` is exactly the label's value column. `text_tokens` says for each token column
    whether its texts are kept, because a `first` or `last` gives them back.
    """

    index: int
    entity: str
    source: str
    key_columns: tuple[str, ...]
    value_columns: tuple[str, ...]
    token_columns: tuple[str, ...]
    text_tokens: tuple[bool, ...]
    conditions: tuple[str, ...]
    scans: tuple[Scan, ...]
    horizon: int
    lateness: int
    capacity: int
    partition_local: bool
    label: bool


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What one scored source reads, and how it names each entity's key.

    `features` are the aggregations in the order in which the engine gives them, `derived` stands in
    dependency order. `names` are all numeric features: aggregations, then profile fields, then
    derived ones; `text_names` all texts in the same order.
    """

    source: str
    features: tuple[Feature, ...]
    entity_keys: dict[str, tuple[str, ...]]
    primary: str | None
    derived: tuple[Derived, ...]
    profiles: tuple[Profile, ...]
    names: tuple[str, ...]
    text_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything decided once. `fingerprint` is the SHA-256 (hex, 16 characters) of the definitions
    and of the state format's version; state, training sets and models carry it."""

    definitions: Definitions
    groups: tuple[Group, ...]
    readers: dict[str, Reader]
    sources: dict[str, Source]
    fingerprint: str
