"""Reads a sample of events: their members, the values seen, and what kind of thing each seems to be."""

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
_TIME = re.compile(r"time|date|stamp|when|created|occurred|(\b|_)(at|ts)$|quand|zeit|heure", re.IGNORECASE)
_LABEL = re.compile(r"fraud|label|target|chargeback|default(ed)?$|is_?bad$|dispute|outcome", re.IGNORECASE)
_VERDICTS = frozenset({"0", "1", "true", "false", "y", "n", "yes", "no"})
# A currency, thousands in groups, two decimals: at least one of the three makes a text of digits money.
_MONEY_TEXT = re.compile(
    r"\s*[-(]?\s*(?:(?:[A-Z]{3}|[$€£¥])\s*-?\d[\d,.' ]*|\d[\d,.' ]*\s*(?:[A-Z]{3}|[$€£¥])"
    r"|\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+,\d+|\d+[.,]\d{2})\)?\s*"
)
_UNREADABLE = re.compile(r"[.\"\\\x00-\x1f]")
_SCALES = (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
_TEXTS = ("iso8601", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S")
_LOOKED_AT = 500
_LONG = 10**12


@dataclass
class JsonMember:
    """One member of the events; `path` leads to it through nested objects, `name` is what its field is called."""

    path: str
    values: list[Any] = field(default_factory=list)
    name: str = ""

    @property
    def distinct(self) -> int:
        """How many different values were seen."""
        return len(set(self.values))

    @property
    def dtype(self) -> FieldType | None:
        """The field type that holds all values seen without losing a digit; None when none does."""
        kinds = {type(value) for value in self.values}
        if kinds == {bool}:
            return "bool"
        if kinds == {str}:
            return "string"
        if kinds == {int}:
            return "int64" if all(abs(value) <= EXACT for value in self.values) else "string"
        return "float64" if kinds <= {int, float} and not self.loses_digits else None

    @property
    def loses_digits(self) -> bool:
        """True where a whole number is too large for a float64 to hold each digit."""
        return any(isinstance(value, int) and abs(value) > EXACT for value in self.values)

    @property
    def is_long_number(self) -> bool:
        """True for whole numbers of 13 digits and more that are no times: they name something."""
        whole = {type(value) for value in self.values} == {int}
        return whole and max(abs(value) for value in self.values) >= _LONG and not self.time_formats()

    @property
    def is_money_text(self) -> bool:
        """True where every value is an amount written as text, such as "$1,234.50"."""
        texts = self.dtype == "string" and not self.is_long_number
        return texts and all(_MONEY_TEXT.fullmatch(value) for value in self.values[:_LOOKED_AT])

    @property
    def is_prose(self) -> bool:
        """True where half of the values hold spaces: text to read, not a name of something."""
        texts = [value for value in self.values[:_LOOKED_AT] if isinstance(value, str)]
        return 2 * sum(" " in text.strip() for text in texts) > len(self.values[:_LOOKED_AT])

    @property
    def is_label(self) -> bool:
        """True where name and values are those of a verdict that becomes known later."""
        verdicts = {str(value).lower() for value in self.values}
        return bool(_LABEL.search(self.path)) and verdicts <= _VERDICTS

    @property
    def sounds_like_a_time(self) -> bool:
        """True where the name is one of those that times have."""
        return bool(_TIME.search(self.path))

    def time_formats(self) -> list[str]:
        """How these values may be read as times, the likeliest first."""
        sample = self.values[:_LOOKED_AT]
        kinds = {type(value) for value in sample}
        if kinds == {str}:
            return [name for name in _TEXTS if BAD not in TimeFormat(name).convert(sample)]
        if kinds <= {int, float} and self.sounds_like_a_time:
            scales = (name for name, scale in _SCALES if all(9e8 * scale < v < 4.2e9 * scale for v in sample))
            return list(scales)
        return []


def read_sample(file: Path) -> list[dict[str, Any]]:
    """Events of a file, one JSON object a line; ConfigurationError names the line that is none."""
    events = list(_events(file))
    if not events:
        raise ConfigurationError(f"{file}: holds no events; one JSON object a line")
    if len(events) == 1:
        raise ConfigurationError(f"{file}: one event is too few to guess from; give a few hundred")
    return events


def _events(file: Path) -> Iterator[dict[str, Any]]:
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
        yield event


def members_of(events: list[dict[str, Any]]) -> list[JsonMember]:
    """All members that hold one kind of value throughout, named; those whose `dtype` is None fit no field."""
    seen: dict[str, JsonMember] = {}
    for event in events:
        for path, value in _leaves(event, ""):
            seen.setdefault(path, JsonMember(path)).values.append(value)
    # What is an object here and something else there fits no field, and neither does what is inside.
    mixed = tuple(
        f"{path}."
        for path, member in seen.items()
        if {type(value) is dict for value in member.values} == {True, False}
    )
    members = [
        member
        for path, member in seen.items()
        if _is_plain(member) and not (mixed and path.startswith(mixed))
    ]
    taken: set[str] = set()
    for member in members:
        member.name = _free_name(member.path, taken)
        taken.add(member.name)
    return members


def _is_plain(member: JsonMember) -> bool:
    kinds = {type(value) for value in member.values}
    return kinds <= {bool} or kinds <= {str} or kinds <= {int, float}


def _free_name(path: str, taken: set[str]) -> str:
    """The last step of a path as a name, with as many steps before it as make it the only one."""
    steps = [_plain(step) for step in path.split(".")]
    names = ["_".join(steps[-size:]) for size in range(1, len(steps) + 1)]
    return next(name for name in [*names, *(f"{names[-1]}_{n}" for n in range(2, 99))] if name not in taken)


def _plain(step: str) -> str:
    """A name of a-z, A-Z, 0-9 and _ as close as it gets."""
    ascii_only = unicodedata.normalize("NFKD", step).encode("ascii", "ignore").decode()
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
