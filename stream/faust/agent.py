"""What a Faust agent does with a batch, without Faust: recover, load, score, and keep state after the commit.

The same Scorer, Desk, SliceState and Flusher as the worker's. A batch is folded once; its rows go to Redis only
when its offsets are committed, so that state is never ahead of them (docs/guides/faust.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from features.offline.order import arrange
from features.state.flusher import Flusher
from features.state.slices import Position, SliceState, StateSettings
from features.store.base import Partition, StoreUnavailable
from stream.codecs.messages import PartitionId as Place
from stream.codecs.messages import RawBatch, RawMessage
from stream.kafka.client.messages import columns
from stream.kafka.client.preflight import Preflight
from stream.kafka.readers.bounded import BoundedReader
from stream.kafka.readers.log import TopicLog
from stream.kafka.readers.offsets import GroupOffsets
from stream.kafka.readers.past_alerts import recall
from stream.kafka.worker.assignment import log_too_short
from stream.kafka.worker.delivery import Outputs
from stream.kafka.worker.unit import Decoded, Desk
from stream.project import build
from stream.scoring.swap import Swapper
from stream.settings.config import Config
from stream.telemetry.logs import logger

_log = logger("faust")
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_DRAIN_SECONDS = 10.0


class Face:
    """Not thread-safe: one thread calls everything."""

    def __init__(self, config: Config) -> None:
        self._config = config
        plan = build.make_plan(config)
        self._plan = plan
        self._store = build.make_store(config)
        self._scorer = build.make_scorer(config, plan, self._store)
        self._swapper = Swapper(build.make_watched(config, plan, config.models.routes), self._scorer)
        self._decoders = build.make_decoders(config, plan)
        self._sources = {source.topic: name for name, source in plan.sources.items()}
        preflight = Preflight(config.kafka)
        inputs = {f"sources.{name}.topic": source.topic for name, source in plan.sources.items()}
        outputs = {"topics.alerts": config.topics.alerts, "topics.dead_letters": config.topics.dead_letters}
        counts = preflight.topics(inputs, outputs)
        worker = config.worker
        self._state = SliceState(
            self._scorer.engine,
            self._store,
            {self._sources[topic]: count for topic, count in counts.items()},
            StateSettings(
                memory_limit=worker.memory_limit_mb << 20,
                pending_limit=worker.pending_limit_mb << 20,
                stage_ms=worker.flush_interval_ms,
                idle_probe_ms=worker.foreign_max_age_ms // 2,
                foreign_refresh_ms=min(1_000, worker.foreign_max_age_ms // 2),
                foreign_max_age_ms=worker.foreign_max_age_ms,
            ),
            lambda: time.time_ns() // 1_000_000,
        )
        self._state.claim(preflight.manifest(plan, config.kafka.group_id, worker.shards, counts))
        self._flusher = Flusher(self._state, self._store, worker.flush_interval_ms / 1000, worker.shards)
        room = preflight.message_room(config.topics.dead_letters)
        self._desk = Desk(self._scorer, self._state, self._decoders, config.topics, room)
        self._flusher.start()
        self._swapper.start(config.models.poll_ms)
        self._recovered = False
        self._open = False

    @property
    def topics(self) -> list[str]:
        """The topics of all sources, labels included."""
        return sorted(self._decoders)

    def lose(self) -> None:
        """Partitions go or come: forget all; the next batch recovers."""
        self._flush(2.0)
        self._state.drop()
        self._recovered = self._open = False

    def close(self) -> None:
        """Bring what is committed to Redis, and let go."""
        self._flush(_DRAIN_SECONDS)
        self._flusher.stop()
        self._swapper.stop()
        self._store.close()

    def _flush(self, seconds: float) -> None:
        """Unless a batch is folded and not committed: its rows must not be in Redis before its offsets are stored."""
        if self._recovered and not self._open:
            self._flusher.flush_now(seconds)

    def score(self, messages: Iterable[RawMessage], assigned: Iterable[Place]) -> Outputs:
        """What a batch publishes. Afterwards it is folded: it must be committed, or everything be lost."""
        self._flusher.check()
        self._swapper.between()
        if not self._recovered:
            self._recover(assigned)
        parts, letters = [], []
        for topic, raw in self._fresh(messages).items():
            part, bad = self._decoders[topic].decode(raw)
            parts.append(part)
            letters += bad
        decoded = Decoded(arrange(parts), letters)
        if not decoded.count:
            return []
        prepared = self._desk.prepare(decoded)
        self._load(lambda: self._state.load(prepared))
        self._open = True
        outputs = self._desk.score(prepared, decoded).outputs
        self._state.stage()
        return outputs

    def committed(self, offsets: Mapping[Place, int]) -> None:
        """The group's offsets are stored: rows up to there may go to Redis."""
        named = {Partition(self._sources[topic], number): at for (topic, number), at in offsets.items()}
        owned = self._state.owned
        self._state.committed(
            {one: at for one, at in named.items() if one in owned and at > owned[one].committed}
        )
        self._open = False

    def _fresh(self, messages: Iterable[RawMessage]) -> dict[str, RawBatch]:
        """By topic, events of owned partitions that were not folded already."""
        found: dict[str, list[RawMessage]] = {}
        owned = self._state.owned
        for message in messages:
            one = owned.get(Partition(self._sources[message.topic], message.partition))
            if one is not None and message.offset >= one.committed:
                found.setdefault(message.topic, []).append(message)
        return {topic: RawBatch.of(topic, batch) for topic, batch in found.items()}

    def _recover(self, assigned: Iterable[Place]) -> None:
        """Read committed offsets and marks, and fold again, muted, what lies between them."""
        recall(self._config, self._plan, self._scorer)
        places = [place for place in assigned if place[0] in self._sources]
        with GroupOffsets(self._config, self._plan) as group:
            offsets, starts_of_log = group.committed_by_source(), group.log_starts()
        positions = {}
        for topic, number in places:
            one = Partition(self._sources[topic], number)
            origin = starts_of_log.get(one, 0)
            positions[one] = Position(max(offsets.get(one, 0), origin), 0)
        starts = self._state.recover(positions)
        for one, start in starts.items():
            self._check_log(one, start, starts_of_log.get(one, 0))
        topics = {name: topic for topic, name in self._sources.items()}
        ranges = {
            (topics[one.source], one.number): (
                max(start, starts_of_log.get(one, 0)),
                positions[one].committed,
            )
            for one, start in starts.items()
        }
        events = 0
        with TopicLog(self._config.kafka, recovering=True) as log:
            for messages in BoundedReader(log, ranges).all(most=4000, wait_s=0.5):
                events += len(messages)
                self._replay(columns(messages))
        self._state.advance({one: position.committed for one, position in positions.items()})
        self._recovered = True
        _log.info("recovered", partitions=len(places), replayed=events)

    def _check_log(self, one: Partition, start: int, begins: int) -> None:
        """Where there is no mark at all the group may have begun at the start of the log."""
        if start < begins and self._state.owned[one].base.any():
            raise log_too_short(f"{one.source}[{one.number}]", start, begins)

    def _replay(self, raw: Mapping[str, RawBatch]) -> None:
        parts = [self._decoders[topic].decode(batch)[0] for topic, batch in raw.items()]
        cursors: dict[Partition, int] = {}
        for topic, batch in raw.items():
            for number, offset in zip(batch.partitions, batch.offsets, strict=True):
                cursors[Partition(self._sources[topic], number)] = offset + 1
        batch_of_all = arrange(parts)
        if len(batch_of_all):
            self._state.replay(self._scorer.engine.prepare(batch_of_all), cursors)
        else:
            self._state.advance(cursors)

    @staticmethod
    def _load(load: Callable[[], None]) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                load()
                return
            except StoreUnavailable as error:
                _log.warning("waiting for redis", reason=str(error))
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
