"""The events of a replay: those of a unit of work in its order, and those that no unit scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from features.core.batch import MicroBatch, SourceBatch
from stream.codecs.json import Decoder
from stream.codecs.messages import PartitionId as Place
from stream.codecs.messages import RawBatch, RawMessage
from stream.kafka.batches.journal import JournalEntry
from stream.kafka.readers.topic_reader import TopicReader

_CHUNK = 10_000


@dataclass
class Taken:
    """Events read for a unit: `batch` in scoring order; `strays` decode, but are in no unit; `bad` do not decode;
    `lacking` are named by the journal and not in the log, `again` were in an earlier unit."""

    batch: MicroBatch
    strays: list[SourceBatch] = field(default_factory=list)
    bad: list[tuple[Place, int]] = field(default_factory=list)
    lacking: list[tuple[Place, int]] = field(default_factory=list)
    again: list[tuple[Place, int]] = field(default_factory=list)


class Inputs:
    """Goes through each partition once. `reached` is the next offset not handed on."""

    def __init__(
        self, reader: TopicReader, decoders: Mapping[str, Decoder], origins: Mapping[Place, int]
    ) -> None:
        self._reader = reader
        self._decoders = decoders
        self.reached = dict(reader.starts)
        for place, origin in origins.items():
            if place in self.reached and self.reached[place] < min(origin, reader.ends[place]):
                reader.take(place, origin)
                self.reached[place] = origin

    @property
    def done(self) -> int:
        """How many offsets were gone through."""
        return sum(upto - self._reader.starts[place] for place, upto in self.reached.items())

    def between(self, place: Place, upto: int) -> Iterator[Taken]:
        """Events of a partition that no unit scores, up to an offset: all of them are strays."""
        while place in self.reached and self.reached[place] < upto:
            end = min(upto, self.reached[place] + _CHUNK)
            events, bad = self._decode(place[0], self._reader.take(place, end))
            self.reached[place] = end
            yield Taken(MicroBatch(()), [events] if len(events) else [], bad)

    def of_unit(self, entry: JournalEntry, spans: Mapping[Place, tuple[int, int]]) -> Taken:
        """The events of a unit; what lies between them counts as stray or bad."""
        before = dict(self.reached)
        wanted = {event: position for position, event in enumerate(entry.order())}
        messages: dict[str, list[RawMessage]] = {}
        for place, (_, end) in spans.items():
            messages.setdefault(place[0], []).extend(self._reader.take(place, end))
            self.reached[place] = max(self.reached[place], end)
        out = Taken(MicroBatch(()))
        parts = []
        for topic, found in messages.items():
            events, bad = self._decode(topic, found)
            out.bad += bad
            places = zip(events.partition.tolist(), events.offset.tolist(), strict=True)
            positions = np.array([wanted.pop((topic, *one), -1) for one in places], np.int64)
            rows = np.argsort(positions, kind="stable")
            rows, strays = rows[positions[rows] >= 0], np.flatnonzero(positions < 0)
            if len(rows):
                parts.append(replace(events, position=positions).take(rows))
            if len(strays):
                out.strays.append(events.take(strays))
        out.batch = MicroBatch(tuple(parts))
        for topic, partition, offset in wanted:
            place = (topic, partition)
            (out.again if offset < before[place] else out.lacking).append((place, offset))
        return out

    def _decode(self, topic: str, messages: list[RawMessage]) -> tuple[SourceBatch, list[tuple[Place, int]]]:
        events, letters = self._decoders[topic].decode(RawBatch.of(topic, messages))
        return events, [((one.topic, one.partition), one.offset) for one in letters]
