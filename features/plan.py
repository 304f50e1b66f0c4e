"""A compiled plan: definitions turned into the arrays and numbers that the kernel needs.

Control path only: built once by `features.compile.compile_plan`, read by the engine, the store
(fingerprint), models (feature names) and the command line (explain).

    group    one (entity, source) pair: the unit of state; one slice per group and topic-partition
    slot     one way of reading a group: column, condition, delay; several windows in one scan
    feature  one output column: a function of one window of one slot
"""

from __future__ import annotations

from dataclasses import dataclass

from features.spec import Definitions, Derived, Function, Profile, Source


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One scan over a group's events.

    `value` is an index into the group's `value_columns`, `token` into its `token_columns`, -1 for
    none (then events are counted). `where` is an index into the group's `conditions`, -1 for all
    events. `windows` in microseconds, ascending; the slot covers (t - delay - w, t - delay].
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
    """One output of a slot. `of_condition` is the condition index of a `share`, else -1."""

    name: str
    function: Function
    group: int
    slot: int
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
    `value_columns` is exactly the label's value column.
    """

    index: int
    entity: str
    source: str
    key_columns: tuple[str, ...]
    value_columns: tuple[str, ...]
    token_columns: tuple[str, ...]
    text_tokens: tuple[bool, ...]
    conditions: tuple[str, ...]
    slots: tuple[Slot, ...]
    horizon: int
    lateness: int
    capacity: int
    partition_local: bool
    label: bool


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What one scored source reads: its features in output order, and how it names each entity's key."""

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
