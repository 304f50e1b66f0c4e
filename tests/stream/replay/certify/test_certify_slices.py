"""Any version of a slice can be had again, also one that lies inside of a batch."""

from __future__ import annotations

from collections import Counter

import pytest

from features.core.batch import MicroBatch
from features.definitions.plan import Plan
from features.engine.engine import FeatureEngine
from features.kernel.row_format import stamp_of
from features.offline.order import arrange
from stream.codecs.messages import RawBatch, RawMessage
from stream.replay.certify.slices import SliceName, Slices
from tests.chaos import job

SHARDS = 8


@pytest.fixture(scope="module")
def messages() -> list[RawMessage]:
    """Transactions of few merchants in one partition."""
    sent = [one for one in job.events(900, seed=3, cards=60, merchants=5) if one.topic == "tx"]
    return [RawMessage("tx", 0, offset, -1, one.key, one.value) for offset, one in enumerate(sent)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return job.scorer().plan


def batch_of(messages: list[RawMessage]) -> MicroBatch:
    return arrange([job.decoders()["tx"].decode(RawBatch.of("tx", messages))[0]])


def versions(plan: Plan, messages: list[RawMessage]) -> dict[tuple[SliceName, int], bytes]:
    """Every version of every row: one event at a time, by an engine that is never emptied."""
    engine = FeatureEngine(plan, shards=SHARDS)
    out = {}
    for message in messages:
        engine.fold(engine.prepare(batch_of([message])))
        for run in engine.take_dirty():
            for key, row in zip(run.keys, run.rows, strict=True):
                out[(run.entity, key, run.source, run.partition), stamp_of(row)] = row
    return out


def test_versions_at_and_inside_of_batches_are_the_same_bytes(plan: Plan, messages: list[RawMessage]) -> None:
    all_of_them = versions(plan, messages)
    wanted: dict[SliceName, Counter[int]] = {}
    for number, (name, stamp) in enumerate(all_of_them):
        if name[0] == "merchant" and number % 7 == 0:
            wanted.setdefault(name, Counter())[stamp] += 2
    slices = Slices(plan, SHARDS, wanted)
    asked = [(name, stamp) for name, counts in wanted.items() for stamp in counts]
    assert len(asked) > 50
    for start in range(0, len(messages), 100):
        slices.fold(batch_of(messages[start : start + 100]))
    for _ in range(2):
        assert [slices.at(*one) for one in asked] == [all_of_them[one] for one in asked]
    assert slices.at(*asked[0]) is None, "kept until the last reader has had it"


def test_the_newest_rows_are_those_of_one_pass(plan: Plan, messages: list[RawMessage]) -> None:
    slices = Slices(plan, SHARDS, {})
    for start in range(0, len(messages), 150):
        slices.fold(batch_of(messages[start : start + 150]))
    newest: dict[SliceName, bytes] = {}
    for (name, _), row in versions(plan, messages).items():
        newest[name] = row
    for (entity, key, source, number), row in newest.items():
        assert slices.newest(entity, key, lambda *_: True) == [(source, number, row)]
        assert slices.newest(entity, key, lambda *_: False) == []
