"""Times on the wire to microseconds since 1970 UTC.

`s` and `ms` may have fractions; `us` and `ns` are whole numbers (`ns` is cut to microseconds).
`iso8601` is whatever `datetime.fromisoformat` reads; any other format is for `strptime`. A time
without an offset is UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np

from features.core.batch import Ints
from features.core.errors import ConfigurationError

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
NULL = np.iinfo(np.int64).min
BAD = NULL + 1
_PER_MICRO = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)
_MICRO = timedelta(microseconds=1)
_EARLIEST = -62_135_596_800_000_000
_LATEST = 253_402_300_800_000_000
# Formats that fromisoformat reads too, 50 times faster than strptime: their length and separator.
_ISO_ALIKE = {
    "%Y-%m-%d %H:%M:%S": (19, " "),
    "%Y-%m-%dT%H:%M:%S": (19, "T"),
    "%Y-%m-%dT%H:%M:%SZ": (20, "T"),
    "%Y-%m-%d": (10, ""),
}


class TimeFormat:
    """How one source writes times."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numeric = name in _PER_MICRO

    @property
    def wire_type(self) -> Any:
        """The msgspec type of a time on the wire, years 1 to 9999."""
        if not self.numeric:
            return str
        scale = _PER_MICRO[self.name]
        low, high = int(_EARLIEST / scale), int(_LATEST / scale)
        whole = Annotated[int, msgspec.Meta(ge=max(low, -(2**63) + 2), le=min(high, 2**63 - 1))]
        if self.name in ("us", "ns"):
            return whole
        return whole | Annotated[float, msgspec.Meta(ge=float(low), le=float(high))]

    @property
    def expected(self) -> str:
        """What a message says it wanted."""
        if self.numeric:
            return f"time in {self.name} since 1970 (a number)"
        if self.name == "iso8601":
            return "time as ISO 8601 text"
        return f"time as text like {self.name}"

    def convert(self, values: Sequence[Any]) -> Ints:
        """int64 microseconds; NULL for None, BAD where a text is no time."""
        if not self.numeric:
            return _texts(values, self._parser())
        array = np.array(values)
        if array.dtype.kind == "i":
            return self._scaled(array)
        if array.dtype.kind == "f":
            return np.rint(array * _PER_MICRO[self.name]).astype(np.int64)
        out = np.full(len(values), NULL, dtype=np.int64)
        for row, value in enumerate(values):
            if value is not None:
                out[row] = self.convert((value,))[0]
        return out

    def _scaled(self, array: Ints) -> Ints:
        if self.name == "ns":
            return np.floor_divide(array, 1000)
        return array * int(_PER_MICRO[self.name])

    def _parser(self) -> Callable[[str], datetime]:
        if self.name == "iso8601":
            return datetime.fromisoformat
        pattern = self.name
        if pattern not in _ISO_ALIKE:
            return lambda text: datetime.strptime(text, pattern)
        length, separator = _ISO_ALIKE[pattern]

        def parse(text: str) -> datetime:
            alike = len(text) == length and text[4:8:3] == "--" and text[10:11] == separator
            if alike and text.isascii():
                return datetime.fromisoformat(text)
            return datetime.strptime(text, pattern)

        return parse


def _texts(values: Sequence[str | None], parse: Callable[[str], datetime]) -> Ints:
    out = np.empty(len(values), dtype=np.int64)
    for row, text in enumerate(values):
        if text is None:
            out[row] = NULL
            continue
        try:
            moment = parse(text)
            epoch = _NAIVE_EPOCH if moment.tzinfo is None else _EPOCH
            out[row] = (moment - epoch) // _MICRO
        except (ValueError, OverflowError):
            out[row] = BAD
    return out


def now_us() -> int:
    """This machine's time, microseconds since 1970."""
    return time.time_ns() // 1_000


def now_ms() -> int:
    """This machine's time, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def iso_us(text: str) -> int:
    """An ISO 8601 time to the microsecond, UTC where it names no offset; ValueError where it is none.

    >>> iso_us("2018-04-01T00:00:31.000007+00:00")
    1522540831000007
    """
    moment = datetime.fromisoformat(text)
    return (moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)) // _MICRO


def option_us(option: str, text: str) -> int:
    """The time that an option gives; ConfigurationError names the option."""
    try:
        return iso_us(text)
    except (ValueError, OverflowError):
        expected = "expected a time such as 2026-05-01T12:00:00"
        raise ConfigurationError(f"{option}: {expected}, got {text!r}") from None


def rfc3339(micros: int) -> str:
    """A time as text in UTC with microseconds.

    >>> rfc3339(1_522_540_831_000_000)
    '2018-04-01T00:00:31.000000Z'
    """
    moment = _NAIVE_EPOCH + timedelta(microseconds=micros)
    return f"{moment.isoformat(timespec='microseconds')}Z"


def rfc3339_all(micros: Ints) -> list[str]:
    """Many times as text, at a quarter of the cost.

    >>> rfc3339_all(np.array([1_522_540_831_000_000]))
    ['2018-04-01T00:00:31.000000Z']
    """
    texts: list[str] = np.datetime_as_string(
        micros.astype("datetime64[us]"), unit="us", timezone="UTC"
    ).tolist()
    return texts
