"""From fetched messages to records to publish: decode, prepare, fold, decide, encode. No Kafka, no waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from features.core.batch import SourceBatch
from features.engine.prepared import Prepared
from features.offline.order import arrange
from features.state.cold_reads import ColdRead
from models.decision.decisions import Decisions
from stream.codecs import dead_letters as dlq
from stream.codecs.alerts import AlertEncoder, Record
from stream.codecs.contracts import DeadLetter
from stream.codecs.decoder import Decoder
from stream.codecs.messages import RawBatch
from stream.kafka.batches.journal import JournalWriter
from stream.kafka.batches.scored import Decoded, Outputs, ScoredBatch
from stream.scoring.scorer import Scorer
from stream.settings.tables import Topics


class BatchProcessor:
    """What worker and Faust face do with a batch; the same code for every delivery mode."""

    def __init__(
        self,
        scorer: Scorer,
        decoders: Mapping[str, Decoder],
        topics: Topics,
        letter_room: int | None = None,
        journal: JournalWriter | None = None,
    ) -> None:
        self._journal = journal
        self._letter_room = letter_room
        self._scorer = scorer
        self._decoders = decoders
        self._topics = topics
        self._encoder = AlertEncoder(scorer.plan)

    def decode(self, columns: Mapping[str, RawBatch]) -> Decoded:
        """Columns by topic as one batch, in the order of these alone: in muted replay that order is free."""
        batches, letters = self.by_source(columns)
        return Decoded(arrange(batches), letters)

    def by_source(self, columns: Mapping[str, RawBatch]) -> tuple[list[SourceBatch], list[DeadLetter]]:
        """Events by source, and a dead letter for each bad message; may run while a batch is delivered."""
        batches: list[SourceBatch] = []
        letters: list[DeadLetter] = []
        for topic, raw in columns.items():
            if len(raw):
                batch, bad = self._decoders[topic].decode(raw)
                batches.append(batch)
                letters += bad
        return batches, letters

    def prepare(self, decoded: Decoded) -> Prepared:
        """Keys, hashes and conditions of a batch."""
        return self._scorer.engine.prepare(decoded.batch)

    def score(self, prepared: Prepared, decoded: Decoded, read: ColdRead) -> ScoredBatch:
        """Fold and decide on what was read. From here on the cache has seen the batch: an error means `recover`."""
        matrices = self._scorer.engine.run(prepared)
        for matrix in matrices.values():
            read.flag(prepared, matrix)
        decisions = self._scorer.decide(matrices.values())
        scored = time.time_ns() // 1000
        outputs = self._outputs(decisions, decoded.letters, scored)
        if self._journal is not None:
            outputs.append((self._topics.journal, [self._journal.record(decoded.batch, scored, read)]))
        return ScoredBatch(decoded, decisions, outputs)

    def _outputs(self, decisions: Sequence[Decisions], letters: Sequence[DeadLetter], scored: int) -> Outputs:
        topics = self._topics
        alerts: list[Record] = []
        log: list[Record] = []
        for of_source in decisions:
            alerts += self._encoder.alerts(of_source, scored)
            if topics.decisions:
                log += self._encoder.decisions(of_source, scored)
        outputs = [
            (topics.alerts, alerts),
            (topics.decisions, log),
            (topics.dead_letters, [dlq.to_record(letter, self._letter_room) for letter in letters]),
        ]
        return [(topic, records) for topic, records in outputs if records]
