"""What was published, joined with what the replay expects: whichever comes first waits for the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from stream.codecs.alerts import Record
from stream.codecs.contracts import EventPlace
from stream.codecs.messages import PartitionId, RawMessage, record_text
from stream.kafka.readers.topic_reader import TopicReader
from stream.replay.certify.report.causes import Cause, Explanation, reason_of
from stream.replay.certify.report.certificate import Difference
from stream.replay.certify.report.comparing import differing
from stream.replay.certify.report.findings import Findings

_MOST_AHEAD = 50_000
_WHOLE = 1 << 256
_NOT_PUBLISHED = Explanation(Cause.LOST_RECORD, "never published, or deleted by retention")
_NO_UNIT = Explanation(Cause.ALTERED, "no unit of work published it")
_UNREADABLE = Explanation(Cause.ALTERED, "no decision can be read from it")
_AGAIN = Explanation(Cause.REPEATED, "it was published before")


class _Named(msgspec.Struct):
    """Of a decision, whose it is."""

    mode: str
    source: EventPlace


@dataclass(slots=True)
class Expected:
    """A record that must be there, and why it might differ for a known reason."""

    record: Record
    event_id: str
    reasons: Sequence[Explanation]


class Published:
    """One topic: `kind` is decision or alert. `spans` are the offsets of the inputs that are looked at."""

    def __init__(
        self,
        kind: str,
        reader: TopicReader,
        spans: Mapping[PartitionId, tuple[int, int]],
        findings: Findings,
    ) -> None:
        self.kind = kind
        self.compared = 0
        self._reader = reader
        self._spans = spans
        self._findings = findings
        self._seen = {partition: bytearray(max(0, end - first)) for partition, (first, end) in spans.items()}
        self._waiting: dict[tuple[PartitionId, int], Expected] = {}
        self._ahead: dict[tuple[PartitionId, int], RawMessage] = {}
        self._unexpected: dict[tuple[PartitionId, int], Explanation | None] = {}
        self._decoder = msgspec.json.Decoder(_Named)
        self._sum = 0

    @property
    def digest(self) -> str:
        """See Certificate.hashes."""
        return f"{self._sum:064x}"

    def expect(self, partition: PartitionId, offset: int, expected: Expected) -> None:
        """Compare with what the replay published of the event at `offset`, now or once it has been read."""
        message = self._ahead.pop((partition, offset), None)
        if message is None:
            self._waiting[partition, offset] = expected
        else:
            self._compare(partition, offset, expected, message)

    def expect_nothing(self, partition: PartitionId, offset: int, reason: Explanation | None) -> None:
        """The replay published nothing of this event, and may be wrong for this reason.

        Without a reason a record of the event is not reported: the event itself was.
        """
        self._unexpected[partition, offset] = reason

    def catch_up(self) -> None:
        """Read on while something is waited for, but not too far ahead."""
        while self._waiting and len(self._ahead) < _MOST_AHEAD and not self._reader.done:
            if not self._read():
                return

    def finish(self) -> None:
        """Read all that is left; what is missing or nobody expects is reported."""
        while not self._reader.done:
            self._read()
        for (partition, offset), expected in self._waiting.items():
            difference = self._difference("missing", partition, offset, expected)
            self._findings.report(difference, next(iter(expected.reasons), _NOT_PUBLISHED))
        for (partition, offset), message in self._ahead.items():
            reason = self._unexpected.get((partition, offset), _NO_UNIT)
            if reason is not None:
                self._findings.report(self._difference("unknown", partition, offset, at=_at(message)), reason)

    def _read(self) -> bool:
        messages = self._reader.poll()
        for message in messages:
            self._take(message)
        return bool(messages)

    def _take(self, message: RawMessage) -> None:
        try:
            named = self._decoder.decode(message.value or b"")
        except msgspec.MsgspecError:
            unreadable = Difference(what="unknown", record=self.kind, place="", at=_at(message))
            self._findings.report(unreadable, _UNREADABLE)
            return
        partition, offset = (named.source.topic, named.source.partition), named.source.offset
        first, end = self._spans.get(partition, (0, 0))
        if named.mode != "live" or not first <= offset < end:
            return
        if self._seen[partition][offset - first]:
            self._findings.report(self._difference("duplicated", partition, offset, at=_at(message)), _AGAIN)
            return
        self._seen[partition][offset - first] = 1
        expected = self._waiting.pop((partition, offset), None)
        if expected is None:
            self._ahead[partition, offset] = message
        else:
            self._compare(partition, offset, expected, message)

    def _compare(self, partition: PartitionId, offset: int, expected: Expected, message: RawMessage) -> None:
        self.compared += 1
        record = expected.record
        same = record.value == message.value and record.key == message.key
        fields = {} if same else differing(message, record)
        if not fields:
            digest = hashlib.sha256((message.key or b"") + b"\0" + (message.value or b"")).digest()
            self._sum = (self._sum + int.from_bytes(digest, "big")) % _WHOLE
            return
        difference = self._difference("altered", partition, offset, expected, at=_at(message))
        difference = msgspec.structs.replace(difference, fields=fields)
        self._findings.report(difference, reason_of(expected.reasons, fields))

    def _difference(
        self, what: str, partition: PartitionId, offset: int, expected: Expected | None = None, at: str = ""
    ) -> Difference:
        event = "" if expected is None else hashlib.sha256(expected.event_id.encode()).hexdigest()[:16]
        place = record_text(*partition, offset)
        return Difference(what=what, record=self.kind, place=place, at=at, event=event)


def _at(message: RawMessage) -> str:
    return record_text(message.topic, message.partition, message.offset)
