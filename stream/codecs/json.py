"""JSON messages to columns: one typed decode for a whole batch.

Fast path: the values are joined by newlines and decoded as one run of documents. That is sound because every value
is first seen to begin with `{` and to end with `}`: between `}` and `{` JSON needs a comma, and a text cannot hold a
raw newline, so no document spans two values; as many documents as values means one in each.
Slow path, when a batch holds anything bad: the same decoder value by value, so that only the bad ones are rejected.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from features.core.batch import Ints, SourceBatch
from features.definitions.spec import Source
from stream.codecs.columns import ColumnBuilder, Rejected
from stream.codecs.contracts import DeadLetter
from stream.codecs.explain import MAX_DEPTH, RejectionError, explain, nested_too_deeply
from stream.codecs.messages import RawBatch
from stream.codecs.shape import Shape

MAX_BYTES = 1 << 20
_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Events = list[msgspec.Struct]


class JsonDecoder:
    """Decodes messages of one source's topic.

    `identifiers` are further columns (keys of entities) that may come as whole numbers although declared as text.
    A value of `max_bytes` or more is rejected unread.
    """

    def __init__(
        self, source: Source, *, identifiers: Iterable[str] = (), max_bytes: int = MAX_BYTES
    ) -> None:
        self.source = source
        self._max_bytes = max_bytes
        self._shape = Shape(source, identifiers)
        self._builder = ColumnBuilder(self._shape)
        self._tolerant = msgspec.json.Decoder(self._shape.tolerant)
        self._decoders = [msgspec.json.Decoder(self._shape.strict), self._tolerant]

    def decode(self, raw: RawBatch) -> tuple[SourceBatch, list[DeadLetter]]:
        """Columns of the good messages, in the order given, and a dead letter for each bad one."""
        rejected: Rejected = {}
        rows = np.arange(len(raw), dtype=np.int64)
        events = self._together(raw)
        if events is None:
            events, rows = self._one_by_one(raw, rejected)
        batch = self._builder.build(raw, rows, events, rejected)
        return batch, [dead_letter(self.source, raw, row, rejected[row]) for row in sorted(rejected)]

    def _together(self, raw: RawBatch) -> Events | None:
        """All events in one decode, or None when any message needs a closer look."""
        if self.source.key is not None and None in raw.keys:
            return None
        joined = _join(raw.values, self._max_bytes)
        if joined is None:
            return None
        for decoder in self._decoders:
            try:
                events: Events = decoder.decode_lines(joined)
            except _FAULTS:
                continue
            if decoder is not self._decoders[0]:
                self._decoders.reverse()
            return events if len(events) == len(raw) else None
        return None

    def _one_by_one(self, raw: RawBatch, rejected: Rejected) -> tuple[Events, Ints]:
        events: Events = []
        rows: list[int] = []
        for row, (key, value) in enumerate(zip(raw.keys, raw.values, strict=True)):
            try:
                events.append(self._one(key, value))
                rows.append(row)
            except RejectionError as rejection:
                rejected[row] = rejection
        return events, np.array(rows, dtype=np.int64)

    def _one(self, key: bytes | None, value: bytes | None) -> msgspec.Struct:
        if value is None:
            raise RejectionError("$", "expected an event, got a tombstone (no value)")
        if key is None and self.source.key is not None:
            raise RejectionError("$", f"expected a message keyed by `{self.source.key}`, got a null key")
        if len(value) >= self._max_bytes:
            raise RejectionError("$", f"expected fewer than {self._max_bytes} bytes, got {len(value)}")
        if nested_too_deeply(value):
            raise RejectionError("$", f"expected at most {MAX_DEPTH} levels of nesting, got more")
        try:
            value.decode()
            event: msgspec.Struct = self._tolerant.decode(value)
            return event
        except _FAULTS as error:
            raise explain(error, value, self._shape) from error


def _join(values: list[bytes | None], max_bytes: int) -> bytes | None:
    """One document a value, a newline between; None when that cannot be told from the outside."""
    if not values:
        return b""
    try:
        joined = b"\n".join(values)  # type: ignore[arg-type]
    except TypeError:
        return None
    lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))  # type: ignore[arg-type]
    ends = np.cumsum(lengths + 1) - 1
    if lengths.min() < 2 or lengths.max() >= max_bytes:
        return None
    array = np.frombuffer(joined, dtype=np.uint8)
    if (array[ends - lengths] != ord("{")).any() or (array[ends - 1] != ord("}")).any():
        stripped: list[bytes | None] = [value.strip() for value in values if value is not None]
        return None if stripped == values else _join(stripped, max_bytes)
    if not joined.isascii() and not _is_utf8(joined):
        return None
    opened = np.count_nonzero(array == ord("{")) + np.count_nonzero(array == ord("["))
    if opened - len(values) >= MAX_DEPTH and any(map(nested_too_deeply, values)):  # type: ignore[arg-type]
        return None
    return joined


def _is_utf8(joined: bytes) -> bool:
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return True


def dead_letter(source: Source, raw: RawBatch, row: int, rejection: RejectionError) -> DeadLetter:
    """The message at `row` with the reason why it cannot be used."""
    headers = raw.headers[row]
    return DeadLetter(
        source=source.name,
        stage="decode",
        path=rejection.path,
        reason=rejection.reason,
        topic=raw.topic,
        partition=raw.partitions[row],
        offset=raw.offsets[row],
        timestamp_ms=raw.timestamps_ms[row],
        key=raw.keys[row],
        value=raw.values[row],
        headers=[] if headers is None else list(headers),
    )
