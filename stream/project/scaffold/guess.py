"""Guesses what a project's events are from a sample of them: a first draft of definitions, to be looked at."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.core.errors import ConfigurationError
from features.core.files import lines, read_text
from features.core.times import BAD, TimeFormat
from features.definitions.spec import FieldType
from stream.codecs.shape import EXACT

MOST_LINES = 20_000
_MOST_ENTITIES = 4
_TIME = re.compile(r"time|date|stamp|when|created|occurred|(\b|_)(at|ts)$|quand|zeit|heure", re.IGNORECASE)
_ID = re.compile(r"id$|uuid|ref|numb|nr$|no$|key$|^tx$|^trx$", re.IGNORECASE)
_OWNER = re.compile(r"card|pan|acc|iban|cust|client|user|member|holder|applicant|konto|compte", re.IGNORECASE)
_PARTNER = re.compile(
    r"merch|shop|store|terminal|device|branch|mid$|payee|benef|counter|agent|ip$|mail|phone", re.IGNORECASE
)
_MONEY = re.compile(r"amount|amt|sum|total|price|value|loan|betrag|montant|importe", re.IGNORECASE)
_UNREADABLE = re.compile(r"[.\"\\\x00-\x1f]")
_UNITS = (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
_TEXTS = ("iso8601", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S")


@dataclass
class JsonMember:
    """One member of the events; `path` is where it stands in nested objects."""

    path: str
    values: list[Any] = field(default_factory=list)
    name: str = ""

    @property
    def distinct(self) -> int:
        """How many different values were seen."""
        return len(set(self.values))

    @property
    def dtype(self) -> FieldType | None:
        """The field type that holds all values seen; None when none does."""
        kinds = {type(value) for value in self.values}
        if kinds == {bool}:
            return "bool"
        if kinds == {str}:
            return "string"
        if kinds == {int} and all(abs(value) <= EXACT for value in self.values):
            return "int64"
        return "float64" if kinds <= {int, float} else None

    def time_format(self) -> str | None:
        """How these values say a time, or None."""
        sample = self.values[:500]
        if self.dtype == "string":
            fits = (name for name in _TEXTS if BAD not in TimeFormat(name).convert(sample))
            return next(fits, None)
        if self.dtype in ("int64", "float64") and _TIME.search(self.path):
            for name, scale in _UNITS:
                if all(9e8 * scale < value < 4.2e9 * scale for value in sample):
                    return name
        return None


@dataclass(frozen=True)
class Guess:
    """What the events seem to be."""

    members: list[JsonMember]
    optional: frozenset[str]
    event_id: JsonMember
    event_time: JsonMember
    time_format: str
    owner: JsonMember
    partners: list[JsonMember]
    money: JsonMember | None
    first: dict[str, Any]


def guess(file: Path) -> Guess:
    """Look at the events of a file; ConfigurationError says what could not be found."""
    events = list(_events(file))
    members = _members(events)
    full = [one for one in members if len(one.values) == len(events)]
    times = [(one, text) for one in full if (text := one.time_format()) is not None]
    if not times:
        raise ConfigurationError(f"{file}: no field of every event looks like a time; {_BY_HAND}")
    event_time, time_format = max(times, key=lambda one: (bool(_TIME.search(one[0].path)), one[0].distinct))
    keys = [one for one in full if one.dtype in ("string", "int64") and one is not event_time]
    ids = [one for one in keys if one.distinct == len(events)]
    if not ids:
        raise ConfigurationError(
            f"{file}: no field is another one in every event, as an id would be; {_BY_HAND}"
        )
    event_id = max(ids, key=lambda one: (bool(_ID.search(one.path)), not _OWNER.search(one.path)))
    others = [one for one in keys if one is not event_id and not any(one is time for time, _ in times)]
    owner = max(others, key=lambda one: (bool(_OWNER.search(one.path)), one.distinct), default=event_id)
    partners = [
        one for one in others if one is not owner and (_PARTNER.search(one.path) or _OWNER.search(one.path))
    ]
    numbers = [
        one for one in full if one.dtype in ("int64", "float64") and one not in (event_time, event_id, owner)
    ]
    money = [one for one in numbers if _MONEY.search(one.path)] or [
        one for one in numbers if one.dtype == "float64"
    ]
    optional = frozenset(one.path for one in members if len(one.values) < len(events))
    return Guess(
        members,
        optional,
        event_id,
        event_time,
        time_format,
        owner,
        partners[: _MOST_ENTITIES - 1],
        money[0] if money else None,
        events[0],
    )


_BY_HAND = "write definitions.py by hand: docs/guides/own-events.md"


def _events(file: Path) -> Iterator[dict[str, Any]]:
    empty = True
    for number, line in enumerate(lines(read_text(file))[:MOST_LINES], 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(f"{file}:{number}: not JSON: {error}; one event a line") from None
        except RecursionError:
            raise ConfigurationError(f"{file}:{number}: nested too deeply for an event") from None
        if not isinstance(event, dict):
            raise ConfigurationError(f"{file}:{number}: expected an object; one event a line")
        empty = False
        yield event
    if empty:
        raise ConfigurationError(f"{file}: holds no events; one JSON object a line")


def _members(events: list[dict[str, Any]]) -> list[JsonMember]:
    """All members that a field can hold, named."""
    found: dict[str, JsonMember] = {}
    for event in events:
        for path, value in _leaves(event, ""):
            found.setdefault(path, JsonMember(path)).values.append(value)
    # What is an object here and something else there fits no field, and neither does what is inside.
    mixed = tuple(
        f"{path}."
        for path, one in found.items()
        if {type(value) is dict for value in one.values} == {True, False}
    )
    members = [
        one for path, one in found.items() if one.dtype is not None and not (mixed and path.startswith(mixed))
    ]
    taken: set[str] = set()
    for one in members:
        parts = [_plain(part) for part in one.path.split(".")]
        names = ["_".join(parts[-size:]) for size in range(1, len(parts) + 1)]
        free = (name for name in [*names, *(f"{names[-1]}_{n}" for n in range(2, 99))] if name not in taken)
        one.name = next(free)
        taken.add(one.name)
    return members


def _plain(part: str) -> str:
    """A name of a-z, A-Z, 0-9 and _ as close as it gets."""
    ascii_only = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
    plain = re.sub(r"\W+", "_", ascii_only).strip("_") or "field"
    return f"n{plain}" if plain[0].isdigit() else plain


def _leaves(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        # A dot in a name cannot be told from a step into an object, and quotes no decoder takes.
        if not name or _UNREADABLE.search(name) or inner is None:
            continue
        yield f"{prefix}{name}", inner
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{prefix}{name}.")
