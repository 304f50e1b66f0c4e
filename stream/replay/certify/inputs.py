"""The events of a replay: those of a unit of work in its order, and those that no unit scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from features.core.batch import MicroBatch, SourceBatch
from stream.codecs.decoder import Decoder
from stream.codecs.messages import PartitionId, RawBatch, RawMessage
from stream.kafka.batches.journal import JournalEntry
from stream.kafka.readers.topic_reader import TopicReader

_CHUNK = 10_000


@dataclass
class UnitEvents:
    """Events read for a unit of work.

    `batch` is in scoring order. `unclaimed` events decode, but are in no unit; `bad` ones do not decode. `lacking`
    events are named by the journal and not in the log; those in `again` were in an earlier unit.
    """

    batch: MicroBatch
    unclaimed: list[SourceBatch] = field(default_factory=list)
    bad: list[tuple[PartitionId, int]] = field(default_factory=list)
    lacking: list[tuple[PartitionId, int]] = field(default_factory=list)
    again: list[tuple[PartitionId, int]] = field(default_factory=list)


class Inputs:
    """Goes through each partition once. `reached` is the next offset not handed on."""

    def __init__(
        self, reader: TopicReader, decoders: Mapping[str, Decoder], origins: Mapping[PartitionId, int]
    ) -> None:
        self._reader = reader
        self._decoders = decoders
        self.reached = dict(reader.starts)
        for partition, origin in origins.items():
            if partition in self.reached and self.reached[partition] < min(origin, reader.ends[partition]):
                reader.take(partition, origin)
                self.reached[partition] = origin

    @property
    def done(self) -> int:
        """How many offsets were gone through."""
        return sum(upto - self._reader.starts[partition] for partition, upto in self.reached.items())

    def between(self, partition: PartitionId, upto: int) -> Iterator[UnitEvents]:
        """Events of a partition that no unit scores, up to an offset: all of them are unclaimed."""
        while partition in self.reached and self.reached[partition] < upto:
            end = min(upto, self.reached[partition] + _CHUNK)
            events, bad = self._decode(partition[0], self._reader.take(partition, end))
            self.reached[partition] = end
            yield UnitEvents(MicroBatch(()), [events] if len(events) else [], bad)

    def of_unit(self, entry: JournalEntry, spans: Mapping[PartitionId, tuple[int, int]]) -> UnitEvents:
        """The events of a unit; what lies between them counts as unclaimed or bad."""
        before = dict(self.reached)
        wanted = {event: position for position, event in enumerate(entry.order())}
        messages: dict[str, list[RawMessage]] = {}
        for partition, (_, end) in spans.items():
            messages.setdefault(partition[0], []).extend(self._reader.take(partition, end))
            self.reached[partition] = max(self.reached[partition], end)
        out = UnitEvents(MicroBatch(()))
        source_batches = []
        for topic, read in messages.items():
            events, bad = self._decode(topic, read)
            out.bad += bad
            offsets = zip(events.partition.tolist(), events.offset.tolist(), strict=True)
            positions = np.array([wanted.pop((topic, *event), -1) for event in offsets], np.int64)
            rows = np.argsort(positions, kind="stable")
            rows, unclaimed = rows[positions[rows] >= 0], np.flatnonzero(positions < 0)
            if len(rows):
                source_batches.append(replace(events, position=positions).take(rows))
            if len(unclaimed):
                out.unclaimed.append(events.take(unclaimed))
        out.batch = MicroBatch(tuple(source_batches))
        for topic, number, offset in wanted:
            partition = (topic, number)
            (out.again if offset < before[partition] else out.lacking).append((partition, offset))
        return out

    def _decode(
        self, topic: str, messages: list[RawMessage]
    ) -> tuple[SourceBatch, list[tuple[PartitionId, int]]]:
        events, letters = self._decoders[topic].decode(RawBatch.of(topic, messages))
        return events, [((letter.topic, letter.partition), letter.offset) for letter in letters]
