"""Dead letters on the wire, and the limit that keeps a bad deployment from sending everything there.

A dead letter keeps the original key, value and headers, so that it can be re-driven byte for byte; what is
known about the failure travels in headers that start with `riskstream-`.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence

from features.core.errors import FatalError
from stream.codecs.alerts import Record
from stream.codecs.contracts import DeadLetter
from stream.codecs.messages import Headers
from stream.settings.tables import WorkerSettings

PREFIX = "riskstream-"
REDRIVEN = "riskstream-redriven"
TRUNCATED = "riskstream-truncated"
# Left for key, headers and the record batch itself.
_HEADERS = 16 * 1024
_TEXTS = ("source", "stage", "path", "reason", "topic")
_NUMBERS = ("partition", "offset", "timestamp")


def to_record(letter: DeadLetter, room: int | None = None) -> Record:
    """What is produced to the dead-letter topic.

    A value that does not fit into `room` bytes even compressed is cut; `riskstream-truncated` holds its length:
    such a letter can be read, not re-driven; the original is at its place as long as its topic keeps it.
    """
    said = {
        "source": letter.source,
        "stage": letter.stage,
        "path": letter.path,
        "reason": letter.reason,
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "timestamp": str(letter.timestamp_ms),
    }
    headers: Headers = [(name, value) for name, value in letter.headers if not _is_ours(name)]
    headers += [(PREFIX + name, text.encode(errors="replace")) for name, text in said.items()]
    value = letter.value
    if value is not None and room is not None and not _fits(value, room - _HEADERS):
        headers.append((TRUNCATED, str(len(value)).encode()))
        value = value[: room - _HEADERS]
    return Record(letter.key, value, headers)


def _fits(value: bytes, room: int) -> bool:
    """Surely: twice what zlib makes of it is more than what any codec of Kafka does."""
    return len(value) <= room or 2 * len(zlib.compress(value, 1)) <= room


def from_record(key: bytes | None, value: bytes | None, headers: Headers | None) -> DeadLetter | None:
    """The dead letter in a record, or None when it is something else."""
    own = {name.removeprefix(PREFIX): data for name, data in headers or [] if _is_ours(name)}
    if any(name not in own for name in (*_TEXTS, *_NUMBERS)):
        return None
    texts = {name: (own[name] or b"").decode(errors="replace") for name in _TEXTS}
    try:
        numbers = {name: int(own[name] or b"") for name in _NUMBERS}
    except ValueError:
        return None
    return DeadLetter(
        **texts,
        partition=numbers["partition"],
        offset=numbers["offset"],
        timestamp_ms=numbers["timestamp"],
        key=key,
        value=value,
        headers=[
            (name, data)
            for name, data in headers or []
            if not _is_ours(name) or name in (REDRIVEN, TRUNCATED)
        ],
    )


def _is_ours(name: str) -> bool:
    """Headers that say what failed; how often a message was re-driven is part of the message."""
    return name.startswith(PREFIX) and name != REDRIVEN


class DlqLimit:
    """Stops the worker when too much of its input is bad.

    Counts by batch: `consecutive` dead letters in batches without one good event, or more than `ratio` of the
    last `window` events. 0 for `consecutive` switches that rule off.
    """

    def __init__(self, ratio: float, window: int, consecutive: int) -> None:
        self._ratio = ratio
        self._window = window
        self._consecutive = consecutive
        self._batches: deque[tuple[int, int]] = deque()
        self._seen = 0
        self._bad = 0
        self._in_a_row = 0

    def check(self, good: int, letters: Sequence[DeadLetter]) -> None:
        """Count one batch before it is committed; FatalError when a limit is passed."""
        bad = len(letters)
        self._in_a_row = 0 if good else self._in_a_row + bad
        self._batches.append((good, bad))
        self._seen += good + bad
        self._bad += bad
        while self._batches and self._seen - sum(self._batches[0]) >= self._window:
            old_good, old_bad = self._batches.popleft()
            self._seen -= old_good + old_bad
            self._bad -= old_bad
        if self._consecutive and self._in_a_row >= self._consecutive:
            raise _stop(
                f"{self._in_a_row} events in a row could not be used", "dead_letter_consecutive", letters
            )
        if self._seen >= self._window and self._bad > self._ratio * self._seen:
            raise _stop(
                f"{self._bad} of the last {self._seen} events could not be used", "dead_letter_ratio", letters
            )


def limit_of(worker: WorkerSettings) -> DlqLimit:
    """The limit that the settings ask for."""
    return DlqLimit(worker.dead_letter_ratio, worker.dead_letter_window, worker.dead_letter_consecutive)


def _stop(what: str, setting: str, letters: Sequence[DeadLetter]) -> FatalError:
    last = ""
    if letters:
        wanted = letters[-1].reason.split(", got ")[0]
        last = f"; the last is {letters[-1].place} {letters[-1].path}: {wanted}"
    fix = f"mend the sender or the source's definition, or raise worker.{setting}"
    return FatalError(f"{what}{last}. Nothing of this batch was committed: {fix}")
