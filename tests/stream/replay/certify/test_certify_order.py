"""Replay follows offsets, stamps and sessions, whatever the workers' clocks say."""

from __future__ import annotations

import msgspec

from features.state.cold_reads import ForeignSlice
from stream.codecs.messages import PartitionId, RawMessage
from stream.kafka.batches.journal import Holding, JournalEntry
from stream.replay.certify import units
from stream.replay.certify.units import Order

TOPICS = {"tx": "tx"}


class Written:
    """Makes journal records one after the other."""

    def __init__(self) -> None:
        self.records: list[RawMessage] = []

    def unit(
        self,
        worker: str,
        scored: int,
        place: PartitionId,
        offsets: range,
        *,
        session: int = 1,
        holdings: dict[PartitionId, int] | None = None,
        foreign: tuple[ForeignSlice, ...] = (),
    ) -> None:
        entry = JournalEntry(
            schema_version=1, worker=worker, software="0", scored=scored, process=1, session=session,
            recovered=scored - 5, plan="p", policy="p", models={}, partitions=(place,),
            runs=(0, offsets.start, len(offsets)), foreign=foreign,
            holdings=tuple(Holding(*one, 0, at) for one, at in (holdings or {}).items()),
        )  # fmt: skip
        self.records.append(RawMessage("journal", 0, len(self.records), 0, None, msgspec.json.encode(entry)))

    def replayed(self) -> list[tuple[str, PartitionId, int]]:
        """Worker, place and first offset of each unit in the order of the replay."""
        order = Order(units.read(self.records, TOPICS))
        out = []
        while (found := order.next()) is not None:
            unit, begins = found
            if begins:
                order.hold(unit)
            else:
                out += [(unit.worker, place, first) for place, (first, _) in unit.spans.items()]
        self.forced = order.forced
        return out


A0, A1 = ("tx", 0), ("tx", 1)


def test_a_reader_of_a_stamp_comes_after_what_it_has_seen() -> None:
    written = Written()
    written.unit("a", 1_000, A0, range(10), holdings={A0: 0})
    written.unit("a", 2_000, A0, range(10, 20))
    written.unit("b", 50, A1, range(5), holdings={A1: 0}, foreign=(("m", "x", "tx", 0, 12),))
    written.unit("b", 60, A1, range(5, 9))
    assert written.replayed() == [("a", A0, 0), ("a", A0, 10), ("b", A1, 0), ("b", A1, 5)]
    assert written.forced == 0


def test_a_session_begins_when_the_last_owner_has_ended_its_own() -> None:
    written = Written()
    written.unit("a", 1_000, A0, range(10), holdings={A0: 0, A1: 0})
    written.unit("a", 1_100, A1, range(3))
    written.unit("a", 1_200, A0, range(10, 12))
    written.unit("b", 40, A1, range(3, 9), holdings={A1: 3})
    written.unit("a", 1_300, A0, range(12, 13), session=2, holdings={A0: 12})
    assert written.replayed() == [("a", A0, 0), ("a", A1, 0), ("a", A0, 10), ("b", A1, 3), ("a", A0, 12)]
    assert written.forced == 0


def test_what_is_free_is_ordered_by_time() -> None:
    written = Written()
    written.unit("a", 100, A0, range(10), holdings={A0: 0})
    written.unit("a", 300, A0, range(10, 20))
    written.unit("b", 200, A1, range(5), holdings={A1: 0})
    assert [first for _, _, first in written.replayed()] == [0, 0, 10]


def test_a_circle_is_broken_and_counted() -> None:
    written = Written()
    written.unit("a", 100, A0, range(10), holdings={A0: 0}, foreign=(("m", "x", "tx", 1, 5),))
    written.unit("b", 200, A1, range(5), holdings={A1: 0}, foreign=(("m", "x", "tx", 0, 5),))
    assert len(written.replayed()) == 2
    assert written.forced == 1


def test_units_without_the_beginning_of_their_session_are_set_apart() -> None:
    written = Written()
    written.unit("a", 100, A0, range(10))
    written.unit("a", 200, A0, range(10, 20), session=2, holdings={A0: 10})
    written.unit("a", 300, A0, range(20, 30), session=3)
    told = units.read(written.records, TOPICS)
    assert [unit.at for unit in told.orphans] == ["journal[0]@0"]
    assert [unit.at for unit in told.headless] == ["journal[0]@2"]
    assert [unit.at for unit in told.all()] == ["journal[0]@1"]
