"""Durations as texts: `"90s"`, `"10m"`, `"1h"`, `"7d"`, `"2w"`; microseconds inside."""

from __future__ import annotations

import re

from features.core.errors import DefinitionError

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_SHAPE = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")
LONGEST = 200 * 365 * _UNITS["d"]


def parse_duration(text: str, path: str) -> int:
    """Microseconds of a duration such as `"7d"`.

    Raises DefinitionError at `path` for anything else.

    >>> parse_duration("90s", "views.spend.windows[0]")
    90000000
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise DefinitionError(
            path,
            f"`{text}` is not a duration; write a whole number and a unit, such as 90s, 10m, 1h, 7d, 2w",
        )
    length = int(match[1]) * _UNITS[match[2]]
    if length > LONGEST:
        raise DefinitionError(path, f"`{text}` is longer than 200 years")
    return length


def format_duration(length: int) -> str:
    """The text of a number of microseconds, in days at most.

    >>> format_duration(604_800_000_000), format_duration(5_400_000_000)
    ('7d', '90m')
    """
    for unit in ("d", "h", "m", "s", "ms"):
        if length and length % _UNITS[unit] == 0:
            return f"{length // _UNITS[unit]}{unit}"
    return f"{length}us" if length else "0s"
