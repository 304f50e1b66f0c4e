"""Puts a worker together: brokers, topics and Redis are checked first, then clients opened in the order of need.

`wire` makes what worker and Faust face share; `connect` adds the worker's own clients.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from features.core.errors import ConfigurationError
from features.state.flusher import Flusher
from features.state.owned import StateSettings
from features.state.slices import SliceState
from features.store.base import Store, StoreUnavailable
from stream.codecs.decoder import Decoder
from stream.kafka.batches.delivery import AtLeastOnce, Delivery, ExactlyOnce, GroupCommits, OffsetCommits
from stream.kafka.batches.journal import JournalWriter
from stream.kafka.batches.processor import BatchProcessor
from stream.kafka.batches.scoring import ScoringSetup
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.client.preflight import Preflight
from stream.kafka.worker.positions import Positions
from stream.scoring.scorer import Scorer
from stream.scoring.warm_up import warm_up
from stream.settings.config import Config
from stream.telemetry.moments import point


@dataclass(frozen=True, slots=True)
class Connected:
    """Everything that a worker works with; `commits` is None where delivery commits too."""

    scoring: ScoringSetup
    consumer: InputConsumer
    delivery: Delivery
    commits: OffsetCommits | None
    positions: Positions


@contextmanager
def wire(
    config: Config, scorer: Scorer, store: Store, decoders: Mapping[str, Decoder], *, journal: bool
) -> Iterator[ScoringSetup]:
    """State, flusher and processor, ready; ConfigurationError names what is missing. May block on brokers and store.

    At the end the flusher stops; what it has not flushed is rebuilt from the log.
    """
    plan, worker = scorer.plan, config.worker
    preflight = Preflight(config.kafka)
    inputs = {f"sources.{name}.topic": source.topic for name, source in plan.sources.items()}
    counts = preflight.topics(inputs, _output_topics(config))
    preflight.check_retention(plan, counts)
    sources = {source.topic: name for name, source in plan.sources.items()}
    partitions = {sources[topic]: count for topic, count in counts.items()}
    state = SliceState(scorer.engine, store, partitions, _state_settings(config), _now_ms)
    try:
        state.claim(preflight.manifest(plan, config.kafka.group_id, worker.shards, counts))
    except StoreUnavailable as error:
        raise ConfigurationError(f"redis.url: {error}. Start Redis, or correct the setting.") from error
    room = preflight.message_room(config.topics.dead_letters)
    entries = (
        JournalWriter(worker_name(config), scorer, state.cold) if journal and config.topics.journal else None
    )
    processor = BatchProcessor(scorer, decoders, config.topics, room, entries)
    flusher = Flusher(state, store, worker.flush_interval_ms / 1000, worker.shards, point)
    flusher.start()
    try:
        yield ScoringSetup(config, scorer, state, flusher, processor, sources)
    finally:
        flusher.stop()


@contextmanager
def connect(
    config: Config, scorer: Scorer, store: Store, decoders: Mapping[str, Decoder]
) -> Iterator[Connected]:
    """Clients of a worker, ready; at the end it leaves the group. ConfigurationError names what is missing."""
    warm_up(scorer.plan, config.worker.shards)
    with (
        ExitStack() as closing
    ):  # closed in this order, each whatever the others raise: consumer, delivery, flusher
        scoring = closing.enter_context(wire(config, scorer, store, decoders, journal=True))
        consumer = InputConsumer(config.kafka)
        delivery, commits = _delivery(config, consumer)
        closing.callback(delivery.close)
        closing.callback(consumer.close)
        delivery.open()
        positions = Positions(consumer, scoring.state, scoring.sources, config.worker.start)
        yield Connected(scoring, consumer, delivery, commits, positions)


def _output_topics(config: Config) -> dict[str, str]:
    names = ("alerts", "decisions", "dead_letters", "journal")
    return {f"topics.{name}": topic for name in names if (topic := getattr(config.topics, name))}


def _state_settings(config: Config) -> StateSettings:
    worker = config.worker
    return StateSettings(
        memory_limit=worker.memory_limit_mb << 20,
        pending_limit=worker.pending_limit_mb << 20,
        stage_ms=worker.flush_interval_ms,
        # Others look at the time of our marks, so an idle shard renews it twice in the age that they allow.
        idle_probe_ms=min(30_000, worker.foreign_max_age_ms // 2),
        foreign_refresh_ms=min(1_000, worker.foreign_max_age_ms // 2),
        foreign_max_age_ms=worker.foreign_max_age_ms,
    )


def _delivery(config: Config, consumer: InputConsumer) -> tuple[Delivery, OffsetCommits | None]:
    if config.worker.delivery == "at_least_once":
        return AtLeastOnce(config.kafka), GroupCommits(consumer)
    return ExactlyOnce(config.kafka, worker_name(config)), None


def worker_name(config: Config) -> str:
    """Stable over restarts: the transactional id, and the worker's name in the journal."""
    return f"{config.kafka.group_id}-{config.worker.ordinal}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
