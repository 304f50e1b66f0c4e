"""What a Faust agent does with a batch, without Faust: recover, load, score, and keep state after the commit.

Wired as the worker is (stream/kafka/worker/wiring.py). A batch is folded once; its rows go to Redis only when its
offsets are committed, so that state is never ahead of them (docs/guides/faust.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from features.definitions.plan import Plan
from features.state.owned import Position
from features.store.base import Partition
from stream.codecs.messages import PartitionId, RawBatch, RawMessage
from stream.kafka.batches.scored import Outputs
from stream.kafka.batches.scoring import ScoringSetup
from stream.kafka.client.messages import columns
from stream.kafka.readers.bounded import BoundedReader
from stream.kafka.readers.log import TopicLog
from stream.kafka.readers.offsets import GroupOffsets
from stream.kafka.readers.past_alerts import recall
from stream.kafka.worker import recovery
from stream.kafka.worker.positions import log_too_short
from stream.kafka.worker.wiring import wire
from stream.project import build
from stream.scoring.swap import Swapper
from stream.settings.config import Config
from stream.telemetry.logs import logger

_log = logger("faust")
_DRAIN_SECONDS = 10.0


@contextmanager
def open_face(config: Config) -> Iterator[Face]:
    """A face over state, models and policy that are ready; ConfigurationError names what is missing.

    At the end what is committed goes to Redis.
    """
    plan = build.make_plan(config)
    with ExitStack() as closing:
        store = build.make_store(config)
        closing.callback(store.close)
        scorer = build.make_scorer(config, plan, store)
        swapper = Swapper(build.make_watched(config, plan, config.models.routes), scorer)
        scoring = closing.enter_context(
            wire(config, scorer, store, build.make_decoders(config, plan), journal=False)
        )
        closing.callback(swapper.stop)
        swapper.start(config.models.poll_ms)
        face = Face(scoring, plan, swapper)
        closing.callback(face.drain)
        yield face


class Face:
    """Not thread-safe: one thread calls everything."""

    def __init__(self, scoring: ScoringSetup, plan: Plan, swapper: Swapper) -> None:
        self._scoring = scoring
        self._config = scoring.config
        self._plan = plan
        self._swapper = swapper
        self.state = scoring.state
        self._recovered = False
        self._uncommitted = False

    @property
    def topics(self) -> list[str]:
        """The topics of all sources, labels included."""
        return sorted(self._scoring.sources)

    def lose(self) -> None:
        """Partitions go or come: forget all; the next batch recovers."""
        self._flush(2.0)
        self.state.drop()
        self._recovered = self._uncommitted = False

    def drain(self) -> None:
        """Bring what is committed to Redis."""
        self._flush(_DRAIN_SECONDS)

    def _flush(self, seconds: float) -> None:
        """Unless a batch is folded and not committed: its rows must not be in Redis before its offsets are stored."""
        if self._recovered and not self._uncommitted:
            self._scoring.flusher.flush_now(seconds)

    def score(self, messages: Iterable[RawMessage], assigned: Iterable[PartitionId]) -> Outputs:
        """What a batch publishes. Afterwards it is folded: it must be committed, or everything be lost."""
        self._scoring.flusher.check()
        self._swapper.between()
        if not self._recovered:
            self._recover(assigned)
        processor = self._scoring.processor
        decoded = processor.decode(self._fresh(messages))
        if not decoded.count:
            return []
        prepared = processor.prepare(decoded)
        read = recovery.load_patiently(self.state, prepared, _asleep)
        if read is None:
            return []
        self._uncommitted = True
        outputs = processor.score(prepared, decoded, read).outputs
        self.state.stage()
        return outputs

    def committed(self, offsets: Mapping[PartitionId, int]) -> None:
        """The group's offsets are stored: rows up to there may go to Redis."""
        owned = self.state.owned
        named = {self._scoring.in_state(partition): offset for partition, offset in offsets.items()}
        self.state.committed(
            {
                partition: offset
                for partition, offset in named.items()
                if partition in owned and offset > owned[partition].committed
            }
        )
        self._uncommitted = False

    def _fresh(self, messages: Iterable[RawMessage]) -> dict[str, RawBatch]:
        """By topic, events of owned partitions that were not folded already."""
        fresh: dict[str, list[RawMessage]] = {}
        for message in messages:
            owned = self.state.owned.get(self._scoring.in_state((message.topic, message.partition)))
            if owned is not None and message.offset >= owned.committed:
                fresh.setdefault(message.topic, []).append(message)
        return {topic: RawBatch.of(topic, batch) for topic, batch in fresh.items()}

    def _recover(self, assigned: Iterable[PartitionId]) -> None:
        """Read committed offsets and marks, and fold again, muted, what lies between them."""
        recall(self._config, self._plan, self._scoring.scorer)
        partitions = [partition for partition in assigned if partition[0] in self._scoring.sources]
        with GroupOffsets(self._config, self._plan) as group:
            offsets, log_starts = group.committed_by_source(), group.log_starts()
        positions = {}
        for partition in map(self._scoring.in_state, partitions):
            origin = log_starts.get(partition, 0)
            positions[partition] = Position(max(offsets.get(partition, 0), origin), 0)
        starts = self.state.recover(positions)
        for partition, start in starts.items():
            self._check_log(partition, start, log_starts.get(partition, 0))
        topics = {name: topic for topic, name in self._scoring.sources.items()}
        ranges = {
            (topics[partition.source], partition.number): (
                max(start, log_starts.get(partition, 0)),
                positions[partition].committed,
            )
            for partition, start in starts.items()
        }
        events = self._replay(ranges)
        self.state.advance({partition: position.committed for partition, position in positions.items()})
        self._recovered = True
        _log.info("recovered", partitions=len(partitions), replayed=events)

    def _check_log(self, partition: Partition, start: int, begins: int) -> None:
        """Where there is no mark at all the group may have begun at the start of the log."""
        if start < begins and self.state.owned[partition].base.any():
            raise log_too_short(f"{partition.source}[{partition.number}]", start, begins)

    def _replay(self, ranges: Mapping[PartitionId, tuple[int, int]]) -> int:
        """Fold messages of these ranges, muted; returns how many there were."""
        events = 0
        with TopicLog(self._config.kafka, recovering=True) as log:
            for messages in BoundedReader(log, ranges).all(most=4000, wait_s=0.5):
                events += len(messages)
                raw = columns(messages)
                cursors: dict[Partition, int] = {}
                for topic, batch in raw.items():
                    for number, offset in zip(batch.partitions, batch.offsets, strict=True):
                        cursors[self._scoring.in_state((topic, number))] = offset + 1
                recovery.fold(self._scoring, raw, cursors)
        return events


def _asleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True
