"""Texts and codes of reasons: a TOML file that users edit.

    [amount_sum_1d_by_card]              a feature's name, or a pattern such as "*_by_device"
    code = "CARD_SPENDING_1D"            defaults to the feature's name
    text = "{value:,.0f} spent within a day; {baseline:,.0f} is usual"
    higher = "..."   lower = "..."       instead of `text`, by the side of the baseline it is on

The first entry that fits a feature counts, exact names before patterns. Texts may use `value`,
`baseline`, `contribution` and `feature`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter

from msgspec import Struct

from features.core.files import decode
from features.core.toml import convert, parse_toml
from models.core.errors import PolicyError

_MAX_TEXT = 1_000
_MAX_WIDTH = 100
_SAMPLES: tuple[float | str | None, ...] = (1.5, -1e308, float("nan"), float("inf"), "x", None)
_FIELDS = ("value", "baseline", "contribution", "feature")


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Code and texts of one feature."""

    code: str | None = None
    text: str = "{feature} is {value}; {baseline} is usual"
    higher: str | None = None
    lower: str | None = None


class Catalogue:
    """Finds and fills in texts; never fails on a value."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)
        self._known: dict[str, Entry] = {}

    def code(self, feature: str) -> str:
        """The reason code of a feature."""
        return self._entry(feature).code or feature

    def text(
        self, feature: str, value: float | str | None, baseline: float | str | None, contribution: float
    ) -> str:
        """The text for one alert."""
        entry = self._entry(feature)
        template = entry.text
        if isinstance(value, float) and isinstance(baseline, float):
            template = (entry.higher if value > baseline else entry.lower) or template
        return template.format(
            value=_Lenient(value),
            baseline=_Lenient(baseline),
            contribution=_Lenient(contribution),
            feature=_Lenient(feature),
        )

    def _entry(self, feature: str) -> Entry:
        known = self._known.get(feature)
        if known is None:
            fitting = (entry for name, entry in self._entries.items() if fnmatchcase(feature, name))
            known = self._entries.get(feature) or next(fitting, Entry())
            self._known[feature] = known
        return known


def parse(data: bytes, path: Path) -> Catalogue:
    """Read a catalogue's bytes; ConfigurationError names the entry that is wrong."""
    entries: dict[str, Entry] = {}
    for name, table in parse_toml(decode(data, path), path).items():
        if not isinstance(table, dict):
            raise PolicyError(f"{path}: {name}", "expected a table such as [amount] with code and text")
        entries[name] = entry = convert(table, Entry, path, name, strict=True)
        for template in (entry.text, entry.higher, entry.lower):
            _check(template or "", f"{path}: {name}")
    return Catalogue(entries)


def _check(template: str, where: str) -> None:
    if len(template) > _MAX_TEXT:
        raise PolicyError(where, f"a text of {len(template):,} characters; at most {_MAX_TEXT:,} are taken")
    try:
        fields = [part for part in Formatter().parse(template) if part[1] is not None]
        for _, field, spec, _ in fields:
            if field not in _FIELDS:
                raise PolicyError(where, f"unknown {{{field}}}; texts may use {', '.join(_FIELDS)}")
            _check_spec(spec or "", where)
        for value in _SAMPLES:
            filled = dict.fromkeys(("value", "baseline", "contribution"), _Lenient(value))
            template.format(**filled, feature=_Lenient("x"))
    except ValueError as error:
        raise PolicyError(where, f"text {template!r}: {error}") from error


def _check_spec(spec: str, where: str) -> None:
    """A format without nested fields, of a width that fits a line: it is filled in for every alert."""
    if "{" in spec:
        raise PolicyError(where, f"format {spec!r}: a format cannot hold another field")
    if any(int(number) > _MAX_WIDTH for number in re.findall(r"\d+", spec)):
        raise PolicyError(where, f"format {spec!r}: width and precision are at most {_MAX_WIDTH}")


class _Lenient:
    """A value that formats as asked where it is a number, and else as it is; None reads "missing"."""

    __slots__ = ("_value",)

    def __init__(self, value: float | str | None) -> None:
        self._value = value

    def __format__(self, spec: str) -> str:
        if isinstance(self._value, float):
            return format(self._value, spec or ".6g")
        return "missing" if self._value is None else str(self._value)

    def __repr__(self) -> str:
        return repr(self._value)

    def __str__(self) -> str:
        return str(self._value)
