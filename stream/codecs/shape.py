"""A msgspec type made from a `Source`: what its events look like on the wire.

    fields with aliases      ->  a Struct whose members are renamed
    dotted aliases           ->  nested Structs (`card.number` lives in `card`)
    optional fields          ->  a missing member and null are both None
    unknown members          ->  skipped by the decoder; the message's bytes still hold them

Two types are made: the strict one, and a tolerant one in which identifiers declared as text (event id, key,
entity keys) may come as whole numbers. The decoder uses the second when the first fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from features.core.errors import DefinitionError
from features.core.times import TimeFormat
from features.definitions.spec import Field, Source

# int64 columns live in float64 arrays, exact up to here.
EXACT = 2**53
_UNREADABLE = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field: its wire path and what a message about it says was expected."""

    field: Field
    path: tuple[str, ...]
    expected: str
    required: bool


@dataclass(slots=True)
class Node:
    """An object on the wire; members in the order of the Struct."""

    members: dict[str, Node | Leaf] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        """An object may be absent when all that it holds may be."""
        return any(member.required for member in self.members.values())


class Shape:
    """The wire form of one source.

    `strict` and `tolerant` are msgspec Struct types, `leaves` the fields by wire path, in the order in which
    `columns` yields them.
    """

    def __init__(self, source: Source, identifiers: Iterable[str] = ()) -> None:
        self.source = source
        self.times = TimeFormat(source.time_format)
        self._identifiers = _identifiers(source) | frozenset(identifiers)
        self._needed = _needed(source)
        self.root = Node()
        for item in source.fields:
            self._place(item)
        self.leaves = list(_leaves(self.root))
        self.by_path = {leaf.path: leaf for leaf in self.leaves}
        self.by_name = {leaf.field.name: leaf for leaf in self.leaves}
        self.strict = self._struct(self.root, tolerant=False)
        self.tolerant = self._struct(self.root, tolerant=True)

    def columns(self, events: Sequence[msgspec.Struct]) -> dict[str, tuple[Any, ...]]:
        """Values of every field, by field name; there must be one event at least."""
        out: dict[str, tuple[Any, ...]] = {}
        _spread(self.root, events, out)
        return out

    def _place(self, item: Field) -> None:
        path = tuple((item.alias or item.name).split("."))
        place = f"sources.{self.source.name}.fields.{item.name}"
        if not all(path):
            raise DefinitionError(
                place, f"alias {item.alias!r} has an empty part; write it like `card.number`"
            )
        if _UNREADABLE.search("".join(path)):
            raise DefinitionError(place, "a name on the wire with quotes, backslashes or control characters")
        node = self.root
        for part in path[:-1]:
            child = node.members.setdefault(part, Node())
            if isinstance(child, Leaf):
                raise DefinitionError(
                    place, f"`{part}` is itself field `{child.field.name}`; it cannot be an object"
                )
            node = child
        if item.name == self.source.event_time:
            self._check_event_time(item, place)
        if path[-1] in node.members:
            raise DefinitionError(
                place, f"another field already reads `{'.'.join(path)}`; give each its own alias"
            )
        required = item.required or item.name in self._needed
        node.members[path[-1]] = Leaf(item, path, self._expected(item), required)

    def _check_event_time(self, item: Field, place: str) -> None:
        fits = ("timestamp", "int64", "float64") if self.times.numeric else ("timestamp", "string")
        if item.dtype not in fits:
            reason = f"event time in time_format {self.times.name!r} cannot be {item.dtype}; declare it `timestamp`"
            raise DefinitionError(place, reason)

    def _expected(self, item: Field) -> str:
        if item.name == self.source.event_type:
            return "one of " + ", ".join(f'"{name}"' for name in self.source.event_types)
        if item.dtype == "timestamp" or item.name == self.source.event_time:
            return self.times.expected
        word = {"float64": "number", "int64": "whole number", "string": "text", "bool": "true or false"}[
            item.dtype
        ]
        if item.minimum is not None and item.maximum is not None:
            return f"{word} from {item.minimum:g} to {item.maximum:g}"
        if item.minimum is not None:
            return f"{word} of at least {item.minimum:g}"
        if item.maximum is not None:
            return f"{word} of at most {item.maximum:g}"
        if item.dtype == "int64":
            return "whole number within 2**53"
        return "text that is not empty" if item.name == self.source.event_id else word

    def _struct(self, node: Node, tolerant: bool) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        rename: dict[str, str] = {}
        for place, (wire, member) in enumerate(node.members.items()):
            name = f"m{place}"
            rename[name] = wire
            kind = (
                self._struct(member, tolerant)
                if isinstance(member, Node)
                else self._type(member.field, tolerant)
            )
            fields.append((name, kind) if member.required else (name, kind | None, None))
        return msgspec.defstruct(
            f"{self.source.name}_event", fields, rename=rename, kw_only=True, gc=False, eq=False
        )

    def _type(self, item: Field, tolerant: bool) -> Any:
        source = self.source
        if item.name == source.event_type and source.event_types:
            return Literal[tuple(source.event_types)]
        if item.dtype == "timestamp" or item.name == source.event_time:
            return self.times.wire_type
        if item.dtype == "float64":
            return Annotated[float, msgspec.Meta(ge=item.minimum, le=item.maximum)]
        if item.dtype == "int64":
            low = -EXACT if item.minimum is None else max(-EXACT, math.ceil(item.minimum))
            high = EXACT if item.maximum is None else min(EXACT, math.floor(item.maximum))
            return Annotated[int, msgspec.Meta(ge=low, le=high)]
        if item.dtype == "bool":
            return bool
        text: Any = Annotated[str, msgspec.Meta(min_length=1)] if item.name == source.event_id else str
        return text | int if tolerant and item.name in self._identifiers else text


def _needed(source: Source) -> frozenset[str]:
    """Fields that no event can do without, whatever their declaration says."""
    names = {source.event_id, source.event_time}
    if source.key is not None:
        names.add(source.key)
    if source.event_type is not None:
        names.add(source.event_type)
    if source.labels is not None:
        names |= {source.labels.event_id, source.labels.value}
    return frozenset(names)


def _identifiers(source: Source) -> frozenset[str]:
    names = {source.event_id}
    if source.key is not None:
        names.add(source.key)
    if source.labels is not None:
        names.add(source.labels.event_id)
    for keys in source.entity_keys.values():
        names.update(keys)
    return frozenset(names)


def _leaves(node: Node) -> list[Leaf]:
    out: list[Leaf] = []
    for member in node.members.values():
        out.extend(_leaves(member) if isinstance(member, Node) else [member])
    return out


def _spread(node: Node, events: Sequence[msgspec.Struct | None], out: dict[str, tuple[Any, ...]]) -> None:
    # Member by member: a tuple an event would cost twice the time, and wake the garbage collector.
    whole = None not in events
    for place, member in enumerate(node.members.values()):
        read = attrgetter(f"m{place}")
        column = tuple(map(read, events) if whole else (None if one is None else read(one) for one in events))
        if isinstance(member, Node):
            _spread(member, column, out)
        else:
            out[member.field.name] = column
