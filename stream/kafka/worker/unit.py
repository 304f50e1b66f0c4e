"""One unit of work between Kafka and Kafka: decode, order, read features, decide, encode."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import TopicPartition

from features.core.batch import MicroBatch, SourceBatch
from features.engine.prepared import Prepared
from features.offline.order import arrange
from features.state.slices import SliceState
from models.decision.decisions import Decisions
from stream.codecs import dead_letters as dlq
from stream.codecs.alerts import AlertEncoder, Record
from stream.codecs.contracts import DeadLetter
from stream.codecs.messages import RawBatch
from stream.kafka.client.consumer import Fetched
from stream.kafka.worker.delivery import Outputs
from stream.kafka.worker.journal import Journal
from stream.scoring.scorer import Scorer
from stream.settings.tables import Topics


class Decoder(Protocol):
    """Bytes of one topic to columns; bad messages become dead letters. Never blocks."""

    def decode(self, raw: RawBatch) -> tuple[SourceBatch, list[DeadLetter]]:
        """The good events in the order given, and a dead letter for each bad message."""
        ...


@dataclass(slots=True)
class Decoded:
    """Events ready to be scored."""

    batch: MicroBatch
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Messages of the batch."""
        return len(self.batch) + len(self.letters)


@dataclass(slots=True)
class Unit:
    """A scored batch, to be delivered with `offsets`."""

    decoded: Decoded
    decisions: list[Decisions]
    outputs: Outputs
    offsets: list[TopicPartition] = field(default_factory=list)


class Desk:
    """Turns what was fetched into what is published; the same code for every delivery mode."""

    def __init__(
        self,
        scorer: Scorer,
        state: SliceState,
        decoders: Mapping[str, Decoder],
        topics: Topics,
        letter_room: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal
        self._letter_room = letter_room
        self._scorer = scorer
        self._state = state
        self._decoders = decoders
        self._topics = topics
        self._encoder = AlertEncoder(scorer.plan)

    def decode(self, fetched: Fetched) -> Decoded:
        """Columns in the order of what was fetched alone (muted replay, where order between partitions is free)."""
        parts, letters = self.parts(fetched)
        return Decoded(arrange(parts), letters)

    def parts(self, fetched: Fetched) -> tuple[list[SourceBatch], list[DeadLetter]]:
        """Columns by source; may run while the unit of work before is committed."""
        parts: list[SourceBatch] = []
        letters: list[DeadLetter] = []
        for topic, raw in fetched.raw.items():
            if len(raw):
                part, bad = self._decoders[topic].decode(raw)
                parts.append(part)
                letters += bad
        return parts, letters

    def prepare(self, decoded: Decoded) -> Prepared:
        """Keys, hashes and conditions of a batch."""
        return self._scorer.engine.prepare(decoded.batch)

    def score(self, prepared: Prepared, decoded: Decoded) -> Unit:
        """Fold and decide. From here on the cache has seen the batch: an error means `recover`."""
        matrices = self._scorer.engine.run(prepared)
        for matrix in matrices.values():
            self._state.flag(prepared, matrix)
        decisions = self._scorer.decide(matrices.values())
        scored = time.time_ns() // 1000
        outputs = self._outputs(decisions, decoded.letters, scored)
        if self._journal is not None:
            outputs.append((self._topics.journal, [self._journal.record(decoded.batch, scored)]))
        return Unit(decoded, decisions, outputs)

    def _outputs(self, decisions: Sequence[Decisions], letters: Sequence[DeadLetter], scored: int) -> Outputs:
        topics = self._topics
        alerts: list[Record] = []
        log: list[Record] = []
        for one in decisions:
            alerts += self._encoder.alerts(one, scored)
            if topics.decisions:
                log += self._encoder.decisions(one, scored)
        out = [
            (topics.alerts, alerts),
            (topics.decisions, log),
            (topics.dead_letters, [dlq.to_record(letter, self._letter_room) for letter in letters]),
        ]
        return [(topic, records) for topic, records in out if records]
