"""What `riskstream state show` and `verify` say of good and of damaged state."""

from __future__ import annotations

import pytest

from features.definitions.compile import compile_plan
from features.engine.engine import FeatureEngine
from features.engine.hashing import hash_strings, shard_of
from features.kernel.row_format import STATE_FORMAT, stamp_of
from features.offline.order import arrange
from features.state.check import slices_of, verify
from features.store.base import Flush, Mark, Partition, StateManifest
from features.store.memory import MemoryStore
from stream.codecs.messages import RawBatch, RawMessage
from tests.chaos import job

SHARDS = 4
PAY = Partition("pay", 0)
MANIFEST = StateManifest("p", STATE_FORMAT, SHARDS, "g", "c", ())


def row(stamp: int) -> bytes:
    return bytes([STATE_FORMAT, stamp])


def shard(key: str) -> int:
    return int(shard_of(hash_strings([key]), SHARDS)[0])


def store_with(key: str, stamp: int, mark: int, where: int | None = None) -> MemoryStore:
    store = MemoryStore(SHARDS)
    store.open(MANIFEST)
    place = shard(key) if where is None else where
    store.flush([Flush(PAY, place, 0, mark, 0, 1_000, {f"card:{key}".encode(): row(stamp)})])
    return store


def test_good_state_has_no_problems() -> None:
    report = verify(store_with("a", 5, 7), {PAY: 7})
    assert (report.entities, report.slices, report.bytes, report.problems) == (1, 1, 2, [])


@pytest.mark.parametrize(
    ("stamp", "mark", "committed", "where", "said"),
    [
        (9, 7, 7, None, "ahead of its mark"),
        (5, 7, 6, None, "above the committed offset 6"),
        (5, 7, 7, (shard("a") + 1) % SHARDS, "belongs to another shard"),
    ],
)
def test_damage_is_named_without_keys(
    stamp: int, mark: int, committed: int, where: int | None, said: str
) -> None:
    report = verify(store_with("a", stamp, mark, where), {PAY: committed})
    assert len(report.problems) == 1
    assert said in report.problems[0]


def test_an_empty_namespace_is_a_problem() -> None:
    assert verify(MemoryStore(SHARDS), {}).problems == ["there is no state in this namespace"]


def test_show_tells_slices_with_their_marks() -> None:
    place, found = slices_of(store_with("a", 5, 7), SHARDS, "card", "a")
    assert place == shard("a")
    assert [(one.partition, one.stamp, one.size, one.mark) for one in found] == [(PAY, 5, 2, Mark(7, 1_000))]
    assert slices_of(store_with("a", 5, 7), SHARDS, "card", "none")[1] == []


def test_the_stamp_is_read_from_rows_as_the_engine_writes_them() -> None:
    engine = FeatureEngine(compile_plan(job.definitions()), shards=SHARDS)
    raws = [
        RawMessage("tx", 0, 300 + number, -1, one.key, one.value)
        for number, one in enumerate(one for one in job.events(40, seed=1) if one.topic == "tx")
    ]
    part, _ = job.decoders()["tx"].decode(RawBatch.of("tx", raws))
    engine.run(engine.prepare(arrange([part])))
    dirty = engine.take_dirty()
    rows = [row for run in dirty for row in run.rows]
    last = {key: int(offset) + 1 for key, offset in zip(part.columns["card"], part.offset, strict=True)}
    cards = {
        key: row for run in dirty if run.entity == "card" for key, row in zip(run.keys, run.rows, strict=True)
    }
    assert {key: stamp_of(row) for key, row in cards.items()} == last
    assert {row[0] for row in rows} == {STATE_FORMAT}
