"""SliceState against the log: any order of commits, flushes, crashes, losses, evictions and takeovers.

A worker that was taken over may flush on for long: it waits for a unit of work that does not end, or was stopped.

The oracle is the protocol's: every slice in the store is the fold of the log below its mark, and no mark is above
the committed offset.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, integers, lists, sampled_from, tuples

from features.state.cold_reads import LostWrites, NotOurs
from features.state.owned import Position, StateSettings
from features.state.schedule import FlushSchedule
from features.state.slices import SliceState
from features.store.base import LOST, Flush, Partition, ShardRead
from features.store.layout import slice_name
from features.store.memory import MemoryStore
from tests.features.offset_engine import SHARDS, Event, OffsetEngine, decode, encode, shard_of

PARTITIONS = 2
CARDS = "abc"
MERCHANTS = "xy"
TIGHT = StateSettings(stage_ms=12, memory_limit=2, empty_flush_ms=0, idle_probe_ms=0, foreign_refresh_ms=0)


class World(RuleBasedStateMachine):
    """One worker over two partitions; another takes one partition over and gives it back. Others flush on."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[list[Event]] = [[] for _ in range(PARTITIONS)]
        self.committed = [0] * PARTITIONS
        self.store = MemoryStore(SHARDS)
        self.clock = 1_000_000
        self.late: list[list[Flush]] = []
        self.snapshots: list[Any] = []
        self.zombies: list[SliceState] = []
        self.meanwhile: Iterator[str] = cycle(["nothing"])

    @initialize(
        meanwhile=lists(sampled_from(["nothing", "flush", "zombie"]), min_size=1, max_size=7),
        events=lists(
            tuples(integers(0, PARTITIONS - 1), sampled_from(CARDS), sampled_from(MERCHANTS)),
            min_size=1,
            max_size=25,
        ),
    )
    def begin(self, events: list[tuple[int, str, str]], meanwhile: list[str]) -> None:
        self.meanwhile = cycle(meanwhile)
        for partition, card, merchant in events:
            log = self.log[partition]
            log.append(Event(partition, len(log), f"{card}{partition}", merchant))
        self.owned = list(range(PARTITIONS))
        self.restart()

    def now(self) -> int:
        self.clock += 1
        return self.clock

    def restart(self) -> None:
        self.engine = OffsetEngine(before_fold=self.others_go_on)
        self.state = SliceState(self.engine, self.store, {"pay": PARTITIONS}, TIGHT, self.now)
        self.recover()

    def recover(self) -> None:
        positions = {Partition("pay", one): Position(self.committed[one], 0) for one in self.owned}
        self.starts = self.state.recover(positions)
        self.replay_batch = 3
        self.replay()

    def replay(self) -> None:
        cursors = dict(self.starts)
        while self.state.replaying:
            for one, state in self.state.owned.items():
                if not state.replays:
                    continue
                ahead = self.log[one.number][cursors[one] : state.committed][: self.replay_batch]
                cursors[one] = ahead[-1].offset + 1
                try:
                    self.state.replay(self.engine.prepare(ahead), {one: cursors[one]})
                except LostWrites:
                    return self.recover()
                self.others_go_on()
        return None

    def others_go_on(self) -> None:
        """What happens between what a batch reads and what it folds, and between two batches of a replay."""
        what = next(self.meanwhile)
        if what == "flush":
            flushed(self.store, self.state)
        elif what == "zombie" and self.zombies:
            flushed(self.store, self.zombies[-1])

    @rule(size=integers(1, 4), fails=booleans())
    def work(self, size: int, fails: bool) -> None:
        """A unit of work; one that fails is dropped with the cache."""
        batch = [event for one in self.owned for event in self.log[one][self.committed[one] :][:size]]
        if not batch:
            return None
        prepared = self.engine.prepare(batch)
        try:
            self.state.check()
            self.state.load(prepared)
        except LostWrites:
            return self.recover()
        self.engine.fold(prepared)
        for event in batch:
            own = self.engine.rows["card", event.card, "pay", event.partition]
            assert own == [
                one.offset for one in self.slice_of("card", event.card, event.partition, own[-1] + 1)
            ]
        self.state.stage()
        if fails:
            return self.recover()
        reached = {Partition("pay", event.partition): event.offset + 1 for event in batch}
        for partition, offset in reached.items():
            self.committed[partition.number] = offset
        return self.state.committed(reached)

    @rule(now=booleans())
    def rest(self, now: bool) -> None:
        """What several units of work left in the cache is staged at once."""
        self.state.rest(now=now)

    @rule(how=sampled_from(["answered", "unanswered", "later", "twice"]))
    def flush(self, how: str) -> None:
        epoch, flushes = self.state.take_flushes(everything=True)
        if how == "later":
            self.late.append(copy.deepcopy(flushes))
        if how in ("unanswered", "later"):
            if how == "unanswered":
                self.store.flush(flushes)
            self.state.not_flushed(epoch, flushes)
            return
        answers = self.store.flush(flushes)
        if how == "twice":
            self.store.flush(flushes)
        self.state.flushed(epoch, flushes, answers)

    @precondition(lambda self: self.late)
    @rule()
    def late_script_lands(self) -> None:
        self.store.flush(self.late.pop(0))

    @rule()
    def crash(self) -> None:
        self.restart()

    @rule()
    def taken_over(self) -> None:
        """Another worker goes on, and does not know that this one still flushes what is committed."""
        self.zombies.append(self.state)
        self.restart()

    @precondition(lambda self: self.zombies)
    @rule(which=integers(0, 9))
    def zombie_flushes(self, which: int) -> None:
        flushed(self.store, self.zombies[which % len(self.zombies)])

    @rule()
    def snapshot(self) -> None:
        self.snapshots.append(copy.deepcopy((self.store._marks, self.store._slices)))

    @rule(place=integers(0, 9))
    def fall_back(self, place: int) -> None:
        """A failover to an older state, or to nothing."""
        empty: tuple[list[Any], list[Any]] = ([{} for _ in range(SHARDS)], [{} for _ in range(SHARDS)])
        chosen = self.snapshots[place] if place < len(self.snapshots) else empty
        self.store._marks, self.store._slices = copy.deepcopy(chosen)

    @rule(owned=sampled_from([[0], [1], [0, 1]]))
    def rebalance(self, owned: list[int]) -> None:
        self.owned = owned
        self.recover()

    def slice_of(self, entity: str, key: str, partition: int, below: int) -> list[Event]:
        return [event for event in self.log[partition][:below] if event.key(entity) == key]

    @invariant()
    def marks_are_sound(self) -> None:
        for shard, marks in enumerate(self.store._marks):
            for partition, mark in marks.items():
                assert mark.offset <= self.committed[partition.number]
                self.slices_hold(shard, partition, mark.offset)

    def slices_hold(self, shard: int, partition: Partition, below: int) -> None:
        events = self.log[partition.number]
        names = {(entity, event.key(entity)) for event in events[:below] for entity in ("card", "merchant")}
        for entity, key in names:
            if shard_of(entity, key) == shard:
                stored = decode(self.store._slices[shard][slice_name(entity, key)][partition.field])
                wanted = [event.offset for event in self.slice_of(entity, key, partition.number, len(events))]
                assert stored == wanted[: len(stored)]
                assert len(stored) >= sum(offset < below for offset in wanted)

    def teardown(self) -> None:
        """In the end all is in the store."""
        if not hasattr(self, "owned"):
            return
        self.owned = list(range(PARTITIONS))
        self.restart()
        flushed(self.store, self.state)
        assert self.state.settled
        for one, log in enumerate(self.log):
            for event in log[: self.committed[one]]:
                for entity in ("card", "merchant"):
                    key = event.key(entity)
                    name = slice_name(entity, key)
                    wanted = encode(e.offset for e in self.slice_of(entity, key, one, self.committed[one]))
                    (answer,) = self.store.read([ShardRead(shard_of(entity, key), [name])])
                    assert answer.slices[0][Partition("pay", one).field] == wanted


World.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestStateProtocol = World.TestCase


def test_a_mark_above_the_committed_offset_is_not_ours() -> None:
    store = MemoryStore(SHARDS)
    store.flush([Flush(Partition("pay", 0), 1, 0, 5, 0, 0)])
    state = SliceState(OffsetEngine(), store, {"pay": 1}, TIGHT, lambda: 0)
    with pytest.raises(NotOurs) as found:
        state.recover({Partition("pay", 0): Position(4, 0)})
    assert (found.value.partition, found.value.mark) == (Partition("pay", 0), 5)
    assert state.recover({Partition("pay", 0): Position(5, 0)}) == {Partition("pay", 0): 0}


def test_answers_from_before_recover_are_ignored() -> None:
    store = MemoryStore(SHARDS)
    state = SliceState(OffsetEngine(), store, {"pay": 1}, TIGHT, lambda: 0)
    pay = Partition("pay", 0)
    state.recover({pay: Position(0, 0)})
    state.stage()
    state.committed({pay: 7})
    epoch, flushes = state.take_flushes(everything=True)
    assert [flush.next for flush in flushes] == [7] * SHARDS
    state.recover({pay: Position(7, 0)})
    state.flushed(epoch, flushes, [7] * SHARDS)
    assert state.owned[pay].base.tolist() == [0] * SHARDS


PAY = Partition("pay", 0)
ONE_SHARD = [name for name in CARDS + "defghi" if shard_of("card", name) == shard_of("card", "a")]


def worker(store: MemoryStore, committed: int) -> tuple[OffsetEngine, SliceState]:
    """One that has just taken over."""
    engine = OffsetEngine()
    state = SliceState(engine, store, {"pay": 1}, TIGHT, lambda: 0)
    state.recover({PAY: Position(committed, 0)})
    return engine, state


def scored(engine: OffsetEngine, state: SliceState, *events: Event) -> None:
    """A unit of work, committed."""
    prepared = engine.prepare(list(events))
    state.load(prepared)
    engine.fold(prepared)
    state.stage()
    state.committed({PAY: events[-1].offset + 1})
    state.rest(now=True)


def replayed(engine: OffsetEngine, state: SliceState, event: Event) -> None:
    state.replay(engine.prepare([event]), {PAY: event.offset + 1})


def flushed(store: MemoryStore, state: SliceState) -> list[int]:
    """All that there is to flush, and the answers."""
    epoch, flushes = state.take_flushes(everything=True)
    answers = store.flush(flushes)
    state.flushed(epoch, flushes, answers)
    return answers


def stored(store: MemoryStore, card: str) -> list[int]:
    name = slice_name("card", card)
    (answer,) = store.read([ShardRead(shard_of("card", card), [name])])
    return decode(answer.slices[0][PAY.field])


def test_after_a_refused_flush_nothing_is_flushed_until_recover() -> None:
    """Its rows went with the refusal. Sent again without them, it would be accepted once another worker's replay has
    brought the mark to where it builds on."""
    log = [Event(0, offset, "a", "m") for offset in range(4)]
    store = MemoryStore(SHARDS)
    engine, waits = worker(store, 0)
    scored(engine, waits, *log[:2])
    flushed(store, waits)
    scored(engine, waits, *log[2:])
    store.drop()
    assert flushed(store, waits) == [LOST] * SHARDS
    with pytest.raises(LostWrites):
        waits.check()
    engine, other = worker(store, 4)
    for event in log[:3]:
        replayed(engine, other, event)
    flushed(store, other)
    assert flushed(store, waits) == []
    assert store.marks()[0][PAY].offset == 3
    assert stored(store, "a") == [0, 1, 2]


def test_a_row_is_not_evicted_while_an_older_one_of_its_key_is_pending() -> None:
    """A mark that another worker raised says that Redis holds the row, not that we have no older one to send."""
    a, b, c = ONE_SHARD[:3]
    log = [Event(0, offset, card, "m") for offset, card in enumerate((a, b, a, c))]
    store = MemoryStore(SHARDS)
    engine, stopped = worker(store, 0)
    scored(engine, stopped, *log[:3])
    engine, other = worker(store, 3)
    replayed(engine, other, log[0])
    flushed(store, stopped)
    replayed(engine, other, log[1])
    assert other.owned[PAY].base[shard_of("card", a)] == 3, "the mark was read with the row"
    replayed(engine, other, log[2])
    scored(engine, other, log[3])
    flushed(store, other)
    assert stored(store, a) == [0, 2]


def test_an_idle_probe_acknowledges_no_row() -> None:
    """Base and staged may be the same because another worker's flush came as far; our rows still wait then."""
    a, b, c = ONE_SHARD[:3]
    log = [Event(0, offset, card, "m") for offset, card in enumerate((a, b, a, c))]
    store = MemoryStore(SHARDS)
    engine, stopped = worker(store, 0)
    scored(engine, stopped, log[0])
    _, late = stopped.take_flushes(everything=True)
    engine, other = worker(store, 3)
    replayed(engine, other, log[0])
    store.flush(late)

    def flush_other() -> None:
        flushed(store, other)

    engine.before_fold = flush_other
    replayed(engine, other, log[1])
    assert other.owned[PAY].base[shard_of("card", a)] == 1
    assert engine.rows["card", a, "pay", 0] == [0], "pending, so not evicted"


def test_no_flush_goes_between_ownership_without_redis_and_degraded() -> None:
    """Blind, all is staged by name only: a flush of that would raise marks over nothing."""
    store = MemoryStore(SHARDS)
    state = SliceState(OffsetEngine(), store, {"pay": 1}, TIGHT, lambda: 0)
    sent: list[list[Flush]] = []
    own = state.cold.own

    def flusher_has_its_turn(owned: Any) -> None:
        sent.append(state.take_flushes(everything=True)[1])
        own(owned)

    state.cold.own = flusher_has_its_turn  # type: ignore[method-assign]
    state.recover_blind({PAY: Position(50, 0)})
    assert sent == [[], []]


def test_pending_rows_have_a_limit() -> None:
    settings = StateSettings(pending_limit=500)
    engine = OffsetEngine()
    state = SliceState(engine, MemoryStore(SHARDS), {"pay": 1}, settings, lambda: 0)
    state.recover({Partition("pay", 0): Position(0, 0)})
    for offset in range(3):
        prepared = engine.prepare([Event(0, offset, f"c{offset}", "m")])
        state.load(prepared)
        engine.fold(prepared)
        state.stage()
        state.committed({Partition("pay", 0): offset + 1})
    limited = {"rows pending": state.over_limit}
    epoch, flushes = state.take_flushes(everything=True)
    limited["rows under way"] = state.over_limit
    state.flushed(epoch, flushes, [flush.next for flush in flushes])
    limited["all acknowledged"] = state.over_limit
    assert limited == {"rows pending": True, "rows under way": True, "all acknowledged": False}
    assert state.pending_bytes == 0


def test_rows_stay_in_the_cache_until_it_is_time_and_marks_behind_them() -> None:
    clock = [10_000]
    pay = Partition("pay", 0)
    engine = OffsetEngine()
    settings = StateSettings(stage_ms=500, empty_flush_ms=0)
    state = SliceState(engine, MemoryStore(SHARDS), {"pay": 1}, settings, lambda: clock[0])
    state.recover({pay: Position(0, 0)})
    for offset in range(3):
        prepared = engine.prepare([Event(0, offset, "c", "m")])
        state.load(prepared)
        engine.fold(prepared)
        state.stage()
        state.committed({pay: offset + 1})
        clock[0] += 100
    _, flushes = state.take_flushes(everything=True)
    assert [flush.next for flush in flushes] == [3, 1, 1], "the first batch, and the first shard's turn since"
    state.rest()
    assert state.owned[pay].staged.tolist() == [3, 1, 1]
    clock[0] += 200
    state.rest()
    assert state.owned[pay].staged.tolist() == [3] * SHARDS


def test_each_shard_has_its_turn_once_an_interval() -> None:
    schedule = FlushSchedule(5, 100)
    turns = [
        schedule.due(now).nonzero()[0].tolist() for now in (1_000, 1_010, 1_040, 1_070, 1_089, 1_099, 1_120)
    ]
    assert turns == [[0, 1, 2, 3, 4], [], [0, 1], [2], [3], [], [0, 4]]
    assert schedule.due(1_220).all()


@pytest.mark.parametrize(("max_age_ms", "stale"), [(5_000, True), (7_000, False)])
def test_stale_slices_of_others_are_known_by_the_time_of_their_mark(max_age_ms: int, stale: bool) -> None:
    store = MemoryStore(SHARDS)
    other = Partition("pay", 1)
    now = 100_000
    shard = shard_of("merchant", "x")
    store.flush([Flush(other, shard, 0, 1, 0, now - 6_000, {b"merchant:x": encode([0])})])
    engine = OffsetEngine()
    settings = StateSettings(foreign_max_age_ms=max_age_ms)
    state = SliceState(engine, store, {"pay": 2}, settings, lambda: now)
    state.recover({Partition("pay", 0): Position(0, 0)})
    read = state.load(engine.prepare([Event(0, 0, "a", "x")]))
    assert engine.rows["merchant", "x", "pay", 1] == [0]
    assert [of[:4] for of in read.foreign] == [("merchant", "x", "pay", 1)]
    assert read.stale == ({"merchant": (shard,)} if stale else {})
    assert [(name, flags.tolist()) for name, _, flags in read.raised] == [("stale:merchant", [True])] * stale
