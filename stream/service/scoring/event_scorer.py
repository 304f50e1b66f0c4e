"""Scores events asked over HTTP as the stream would at this moment; reads state, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from features.core.batch import MicroBatch, SourceBatch
from features.core.errors import InvalidEvent, RetriableError, RiskstreamError
from features.core.times import now_ms
from models.decision.decisions import Decisions
from stream.codecs.alerts import AlertEncoder
from stream.codecs.decoder import Decoder
from stream.codecs.messages import RawBatch
from stream.scoring.scorer import Scorer
from stream.service.scoring.state_reader import NOWHERE, StateReader


class EventScorer:
    """Not thread-safe: runs in the service's executor, but for `check_ready`. `decoders` of JSON are by source."""

    def __init__(
        self,
        scorer: Scorer,
        state: StateReader,
        decoders: Mapping[str, Decoder],
        count_invalid: Callable[[Decisions], None],
    ) -> None:
        self._count_invalid = count_invalid
        self._scorer = scorer
        self._decoders = decoders
        self._reader = state
        self._encoder = AlertEncoder(scorer.plan)
        self.sources = tuple(sorted(set(decoders) & set(scorer.plan.readers)))

    def check_ready(self) -> None:
        """RetriableError while the state cannot be read, or is not kept current."""
        self._reader.check_fresh()

    def score(self, items: Sequence[tuple[str, bytes]]) -> Sequence[bytes | Exception]:
        """For each (source, JSON event) the decision as the stream publishes it, or what is wrong with it.

        Events of one batch do not know of each other; where the policy would, each is decided by itself.
        """
        if self._scorer.policy.remembers:
            return [answer for item in items for answer in self._score([item])]
        return self._score(items)

    def _score(self, items: Sequence[tuple[str, bytes]]) -> Sequence[bytes | Exception]:
        answers: list[bytes | Exception] = [RetriableError("not scored")] * len(items)
        source_batches: list[SourceBatch] = []
        rows_of: dict[str, list[int]] = {}
        for source in dict.fromkeys(source for source, _ in items):
            rows = [row for row, item in enumerate(items) if item[0] == source]
            batch, good = self._decode(source, rows, items, answers)
            if good:
                source_batches.append(batch)
                rows_of[source] = good
        if source_batches:
            self._answer(MicroBatch(tuple(source_batches)), rows_of, answers)
        return answers

    def _decode(
        self,
        source: str,
        rows: list[int],
        items: Sequence[tuple[str, bytes]],
        answers: list[bytes | Exception],
    ) -> tuple[SourceBatch, list[int]]:
        """Columns of a source's good events with their rows; the others are answered here."""
        decoder = self._decoders[source]
        raw = RawBatch(
            decoder.source.topic,
            partitions=[NOWHERE] * len(rows),
            offsets=list(rows),
            timestamps_ms=[now_ms()] * len(rows),
            keys=[b""] * len(rows),
            values=[items[row][1] for row in rows],
            headers=[None] * len(rows),
        )
        batch, letters = decoder.decode(raw)
        for letter in letters:
            answers[letter.offset] = InvalidEvent(source, letter.path, letter.reason)
        good = batch.offset.tolist()
        batch.position = batch.offset.copy()
        batch.offset = np.full(len(good), NOWHERE, np.int64)
        return batch, good

    def _answer(
        self, batch: MicroBatch, rows_of: Mapping[str, list[int]], answers: list[bytes | Exception]
    ) -> None:
        engine = self._scorer.engine
        try:
            prepared = engine.prepare(batch)
            read = self._reader.load(prepared)
            matrices = engine.peek(prepared)
            for matrix in matrices.values():
                self._reader.flag(prepared, matrix, read)
            for decided in self._scorer.decide(matrices.values(), remember=False):
                self._count_invalid(decided)
                rows = rows_of[decided.features.batch.source.name]
                for row, record in zip(rows, self._encoder.decisions(decided), strict=True):
                    answers[row] = record.value or b""
        except RiskstreamError as error:
            for rows in rows_of.values():
                for row in rows:
                    answers[row] = error
        finally:
            engine.drop_all()
