"""The journal tells of every event once, in scoring order, and of other owners' slices by stamp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stream.kafka.batches import journal
from tests.chaos import job
from tests.chaos.world import World
from tests.servers.process import wait_until


def test_two_workers_journal_every_event_once(
    kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]
) -> None:
    sent = list(job.events(3_000, seed=5))
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        topic = make_topic(f"{world.name}-journal", partitions=2)
        workers = [world.start_thread(ordinal, journal=topic) for ordinal in range(2)]
        wait_until(lambda: all(one.worker.ready for one in workers), 60, "both workers to own partitions")
        for start in range(0, len(sent), 500):
            world.produce(sent[start : start + 500])
            world.wait_until_done(60)
        for worker in workers:
            worker.stop()
        entries = [journal.decode(message.value()) for message in world.read("journal")]
    seen = [event for entry in entries for event in entry.order()]
    dead = job.reference(sent).dead
    assert len(seen) == len(set(seen)) == len(sent) - len(dead)
    for name in {entry.worker for entry in entries}:
        last: dict[tuple[str, int], int] = {}
        for entry in (entry for entry in entries if entry.worker == name):
            for place, partition, offset in entry.order():
                assert offset > last.get((place, partition), -1)
                last[place, partition] = offset
        sessions = set()
        for entry in (entry for entry in entries if entry.worker == name):
            if (entry.process, entry.session) not in sessions:
                held = {(one.topic, one.partition): one.committed for one in entry.holdings}
                assert set(entry.partitions) <= set(held), (
                    "a session's first unit tells what its worker holds"
                )
                assert all(offset >= held[topic, n] for topic, n, offset in entry.order())
            sessions.add((entry.process, entry.session))
            assert entry.recovered < entry.scored
    foreign = [read for entry in entries for read in entry.foreign]
    assert {entity for entity, *_ in foreign} == {"merchant"}
    assert all(stamp > 0 for *_, stamp in foreign)
    assert {model.name for entry in entries for model in entry.models.values()} == {"chaos"}
