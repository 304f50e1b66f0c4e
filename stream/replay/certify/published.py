"""What was published, joined with what the replay expects: whichever comes first waits for the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from stream.codecs.alerts import Record
from stream.codecs.contracts import EventPlace
from stream.codecs.messages import PartitionId as Place
from stream.codecs.messages import RawMessage
from stream.kafka.readers.topic_reader import TopicReader
from stream.replay.certify.certificate import Difference
from stream.replay.certify.comparing import cause_of, differing, name_of

_MOST_AHEAD = 50_000
_WHOLE = 1 << 256


class _Named(msgspec.Struct):
    """Of a decision, whose it is."""

    mode: str
    source: EventPlace


@dataclass(slots=True)
class Expected:
    """A record that must be there, and why it might differ for a known reason."""

    record: Record
    event_id: str
    causes: list[str]


class Published:
    """One topic: `kind` is decision or alert. `spans` are the offsets of the inputs that are looked at."""

    def __init__(
        self,
        kind: str,
        reader: TopicReader,
        spans: Mapping[Place, tuple[int, int]],
        report: Callable[[Difference], None],
    ) -> None:
        self.kind = kind
        self.agreed = 0
        self.compared = 0
        self._reader = reader
        self._spans = spans
        self._report = report
        self._seen = {place: bytearray(max(0, end - first)) for place, (first, end) in spans.items()}
        self._waiting: dict[tuple[Place, int], Expected] = {}
        self._ahead: dict[tuple[Place, int], RawMessage] = {}
        self._excuses: dict[tuple[Place, int], str] = {}
        self._decoder = msgspec.json.Decoder(_Named)
        self._sum = 0

    @property
    def digest(self) -> str:
        """See Certificate.hashes."""
        return f"{self._sum:064x}"

    def expect(self, place: Place, offset: int, expected: Expected) -> None:
        """The replay published this of the event at `offset`."""
        found = self._ahead.pop((place, offset), None)
        if found is None:
            self._waiting[place, offset] = expected
        else:
            self._compare(place, offset, expected, found)

    def excuse(self, place: Place, offset: int, cause: str) -> None:
        """The replay published nothing of this event, and may be wrong for a known reason; "" if that was reported."""
        self._excuses[place, offset] = cause

    def catch_up(self) -> None:
        """Read on while something is waited for, but not too far ahead."""
        while self._waiting and len(self._ahead) < _MOST_AHEAD and not self._reader.done:
            if not self._read():
                return

    def finish(self) -> None:
        """Read all that is left; what is missing or nobody expects is reported."""
        while not self._reader.done:
            self._read()
        for (place, offset), expected in self._waiting.items():
            self._report(
                Difference(
                    what="missing", record=self.kind, place=name_of(place, offset),
                    event=_hashed(expected.event_id),
                    cause=_first(expected.causes, "lost record: never published, or deleted by retention"),
                )
            )  # fmt: skip
        for (place, offset), message in self._ahead.items():
            cause = self._excuses.get((place, offset), "altered: no unit of work published it")
            if cause:
                at, named = _at(message), name_of(place, offset)
                self._report(Difference(what="unknown", record=self.kind, place=named, at=at, cause=cause))

    def _read(self) -> bool:
        messages = self._reader.poll()
        for message in messages:
            self._take(message)
        return bool(messages)

    def _take(self, message: RawMessage) -> None:
        try:
            named = self._decoder.decode(message.value or b"")
        except msgspec.MsgspecError:
            self._report(
                Difference(
                    what="unknown",
                    record=self.kind,
                    place="",
                    at=_at(message),
                    cause="altered: no decision can be read from it",
                )
            )
            return
        place, offset = (named.source.topic, named.source.partition), named.source.offset
        first, end = self._spans.get(place, (0, 0))
        if named.mode != "live" or not first <= offset < end:
            return
        if self._seen[place][offset - first]:
            self._report(
                Difference(
                    what="duplicated", record=self.kind, place=name_of(place, offset), at=_at(message),
                    cause="repeated: it was published before",
                )
            )  # fmt: skip
            return
        self._seen[place][offset - first] = 1
        expected = self._waiting.pop((place, offset), None)
        if expected is None:
            self._ahead[place, offset] = message
        else:
            self._compare(place, offset, expected, message)

    def _compare(self, place: Place, offset: int, expected: Expected, found: RawMessage) -> None:
        self.compared += 1
        record = expected.record
        same = record.value == found.value and record.key == found.key
        fields = {} if same else differing(found, record)
        if not fields:
            self.agreed += 1
            digest = hashlib.sha256((found.key or b"") + b"\0" + (found.value or b"")).digest()
            self._sum = (self._sum + int.from_bytes(digest, "big")) % _WHOLE
            return
        self._report(
            Difference(
                what="altered", record=self.kind, place=name_of(place, offset), at=_at(found),
                event=_hashed(expected.event_id), cause=cause_of(expected.causes, fields), fields=fields,
            )
        )  # fmt: skip


def _first(causes: list[str], otherwise: str) -> str:
    return causes[0] if causes else otherwise


def _at(message: RawMessage) -> str:
    return name_of((message.topic, message.partition), message.offset)


def _hashed(event_id: str) -> str:
    return hashlib.sha256(event_id.encode()).hexdigest()[:16]
