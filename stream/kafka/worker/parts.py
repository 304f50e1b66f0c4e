"""Connects a worker: brokers, topics and Redis looked at first, then clients in the order of need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from features.core.errors import ConfigurationError
from features.state.flusher import Flusher
from features.state.slices import SliceState, StateSettings
from features.store.base import Store, StoreUnavailable
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.client.preflight import Preflight
from stream.kafka.worker.assignment import Positions
from stream.kafka.worker.delivery import AtLeastOnce, Delivery, ExactlyOnce
from stream.kafka.worker.journal import Journal
from stream.kafka.worker.unit import Decoder, Desk
from stream.scoring.scorer import Scorer
from stream.settings.config import Config
from stream.telemetry.moments import point


@dataclass(frozen=True, slots=True)
class Clients:
    """Everything that a worker works with."""

    state: SliceState
    desk: Desk
    flusher: Flusher
    consumer: InputConsumer
    delivery: Delivery
    positions: Positions


@contextmanager
def connect(
    config: Config, scorer: Scorer, store: Store, decoders: Mapping[str, Decoder]
) -> Iterator[Clients]:
    """Clients of a worker, ready; ConfigurationError names what is missing. Left: the group is left too."""
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
    consumer, delivery = _clients(config)
    flusher = Flusher(state, store, worker.flush_interval_ms / 1000, worker.shards, point)
    with ExitStack() as closing:  # in this order: consumer, flusher, delivery; each whatever the others raise
        closing.callback(delivery.close)
        closing.callback(flusher.stop)
        closing.callback(consumer.close)
        delivery.open()
        flusher.start()
        room = preflight.message_room(config.topics.dead_letters)
        journal = Journal(worker_name(config), scorer, state.cold) if config.topics.journal else None
        desk = Desk(scorer, state, decoders, config.topics, room, journal)
        positions = Positions(consumer, state, sources, worker.start)
        yield Clients(state, desk, flusher, consumer, delivery, positions)


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


def _clients(config: Config) -> tuple[InputConsumer, Delivery]:
    kafka, worker = config.kafka, config.worker
    consumer = InputConsumer(kafka)
    if worker.delivery == "at_least_once":
        return consumer, AtLeastOnce(kafka, consumer)
    return consumer, ExactlyOnce(kafka, worker_name(config))


def worker_name(config: Config) -> str:
    """Stable over restarts: the transactional id, and the worker's name in the journal."""
    return f"{config.kafka.group_id}-{config.worker.ordinal}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
