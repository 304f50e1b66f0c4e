"""Certificates over runs in which Redis is lost, workers degrade, hang and die, policies change; and over cut logs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from benchmarks.certified import Bank, made_up
from stream.kafka.batches import journal
from stream.kafka.batches.journal import JournalEntry
from stream.replay.certify.certify import CertifyRequest, certify
from stream.replay.certify.report.certificate import Certificate
from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer

pytestmark = pytest.mark.long
STEPS = 6
ROWS = 6_000


class Storm:
    """A bank of two workers to which something happens between steps."""

    def __init__(self, bank: Bank, redis: RedisServer) -> None:
        self.bank = bank
        self.redis = redis
        self.policies: list[Path] = []

    def run(self, happens: Callable[[int], None]) -> tuple[Certificate, list[JournalEntry]]:
        """Produce step by step; `happens` is called when a step was sent, and may still be under way."""
        bank, events = self.bank, made_up(ROWS)
        size = ROWS // STEPS
        try:
            for ordinal in (0, 1):
                bank.start(ordinal)
                bank.wait_until_assigned(ordinal)
            for step in range(STEPS):
                bank.produce(events[step * size : (step + 1) * size], bad_every=300)
                happens(step)
            bank.wait_for(bank.sent)
        finally:
            bank.stop()
        entries = [journal.decode(one.value or b"") for one in bank.records("journal")]
        return self.certified(), entries

    def certified(self) -> Certificate:
        """With every policy that there was."""
        policies = [bank_policy(self.bank), *self.policies] if self.policies else []
        return certify(CertifyRequest(config=self.bank.config, policies=policies))


def bank_policy(bank: Bank) -> Path:
    return bank.folder / "policy.toml"


@pytest.fixture
def storm(
    kafka_server: KafkaServer, redis_server: Callable[..., RedisServer], tmp_path: Path
) -> Iterator[Storm]:
    redis = redis_server()
    name = f"storm{os.getpid()}-{time.monotonic_ns()}"
    more = 'on_redis_loss = "degrade"'
    yield Storm(
        Bank(kafka_server.bootstrap, redis.url, tmp_path, kafka_server.make_topic, name, 200, more), redis
    )


def agrees(found: Certificate) -> bool:
    counts = found.counts
    assert (found.causes, found.different) == ({}, 0), found.differences
    return (
        found.verdict == "agrees" and counts.events == 2 * ROWS and counts.decisions_compared == counts.scored
    )


def test_redis_is_away_and_comes_back_empty(storm: Storm) -> None:
    def happens(step: int) -> None:
        if step == 2:
            storm.redis.kill()
        if step == 3:
            storm.bank.wait_for(storm.bank.sent - ROWS // STEPS)
            storm.redis.start()
            storm.bank.wait_for(storm.bank.sent)

    found, entries = storm.run(happens)
    assert any(entry.missing for entry in entries), "nothing was scored while Redis was away"
    assert agrees(found)


def test_redis_forgets_and_a_worker_hangs(storm: Storm) -> None:
    def happens(step: int) -> None:
        if step % 2:
            with storm.redis.client() as client:
                client.flushall()
        if step == 2:
            hanging = storm.bank.workers[0]
            hanging.send_signal(signal.SIGSTOP)
            storm.bank.wait_for(storm.bank.sent, 60)
            hanging.send_signal(signal.SIGCONT)

    found, entries = storm.run(happens)
    assert len({(entry.worker, entry.session) for entry in entries}) > 3
    assert agrees(found)


def test_policies_change_and_workers_die(storm: Storm) -> None:
    def happens(step: int) -> None:
        policy = bank_policy(storm.bank)
        if step in (1, 3):
            storm.policies.append(policy.with_name(f"old{step}.toml"))
            storm.policies[-1].write_text(policy.read_text())
            policy.write_text(policy.read_text().replace("review = 0.5", f"review = 0.{step}"))
        if step in (2, 4):
            storm.bank.kill(step // 2 - 1)
            storm.bank.start(step)
            storm.bank.wait_until_assigned(step)

    found, _ = storm.run(happens)
    assert len(found.policies) > 1
    assert agrees(found)


def test_cut_logs_are_named(storm: Storm, kafka_server: KafkaServer) -> None:
    found, entries = storm.run(lambda _: None)
    assert agrees(found)
    middle = sorted(entry.scored for entry in entries)[len(entries) // 2]
    place = TopicPartition(f"{storm.bank.name}-transactions", 0)
    upto = max(
        sum(run[1:])
        for entry in entries
        if entry.scored < middle
        for run in zip(entry.runs[::3], entry.runs[1::3], entry.runs[2::3], strict=True)
        if entry.partitions[run[0]] == (place.topic, 0)
    )
    place.offset = upto
    kafka_server.admin().delete_records([place])[place].result(30)
    found = storm.certified()
    assert found.verdict == "differs"
    assert set(found.causes) == {"retention gone"}
