"""Units of work as the journal tells them, and an order in which they can be replayed.

Units of one worker stay in its order, units of one partition in order of offset. A unit that read another owner's
slice at some stamp comes after the events below that stamp; a session begins when all that its partitions had committed
is done, and no other session works on them until it ends. What is left free is ordered by time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stream.codecs.messages import PartitionId, RawMessage, record_text
from stream.kafka.batches import journal
from stream.kafka.batches.journal import JournalEntry
from stream.replay.certify.slices import SliceName


@dataclass(slots=True)
class JournaledBatch:
    """One entry of the journal; the entry itself is decoded anew when it is needed, for it may be large.

    `spans` are the first offset and the end of its events in each partition, `needs` how far other partitions must
    have come before it.
    """

    value: bytes
    at: str
    worker: str
    session: tuple[int, int]
    scored: int
    recovered: int
    spans: dict[PartitionId, tuple[int, int]]
    needs: dict[PartitionId, int]
    holdings: dict[PartitionId, int]
    opens: bool = False

    @property
    def entry(self) -> JournalEntry:
        """All that the journal says of it."""
        return journal.decode(self.value)


@dataclass
class JournalContents:
    """The units by worker, and what replay must know before it begins.

    `wanted` counts, for each slice, who will ask for it at which stamp. `origins` say where the group began in each
    partition. `orphans` are units whose session began before the journal does, `headless` those whose session's first
    unit is not there although earlier ones of the worker are: neither can be replayed.
    """

    units: dict[str, deque[JournaledBatch]] = field(default_factory=dict)
    wanted: dict[SliceName, Counter[int]] = field(default_factory=dict)
    origins: dict[PartitionId, int] = field(default_factory=dict)
    orphans: list[JournaledBatch] = field(default_factory=list)
    headless: list[JournaledBatch] = field(default_factory=list)

    def all(self) -> Iterable[JournaledBatch]:
        """Every unit that can be replayed."""
        return (unit for queue in self.units.values() for unit in queue)


def read(
    messages: Iterable[RawMessage], topics: Mapping[str, str], until: int | None = None
) -> JournalContents:
    """The journal's records, in the order of each partition; `topics` by source. Later than `until` is left out."""
    out = JournalContents()
    sessions: dict[str, tuple[int, int]] = {}
    for message in messages:
        entry = journal.decode(message.value or b"")
        if until is not None and entry.scored >= until:
            continue
        unit = _unit(message, entry, topics)
        if sessions.get(unit.worker) != unit.session:
            if not unit.holdings:
                (out.headless if unit.worker in out.units else out.orphans).append(unit)
                continue
            unit.opens = True
            sessions[unit.worker] = unit.session
        for held in entry.holdings:
            out.origins[held.topic, held.partition] = held.origin
        for entity, key, source, partition, stamp in entry.foreign:
            out.wanted.setdefault((entity, key, source, partition), Counter())[stamp] += 1
        out.units.setdefault(unit.worker, deque()).append(unit)
    return out


def _unit(message: RawMessage, entry: JournalEntry, topics: Mapping[str, str]) -> JournaledBatch:
    spans: dict[PartitionId, tuple[int, int]] = {}
    for number, first, count in zip(entry.runs[::3], entry.runs[1::3], entry.runs[2::3], strict=True):
        partition = entry.partitions[number]
        begin, end = spans.get(partition, (first, first))
        spans[partition] = (min(begin, first), max(end, first + count))
    needs: dict[PartitionId, int] = {}
    for _, _, source, number, stamp in entry.foreign:
        partition = (topics.get(source, source), number)
        needs[partition] = max(needs.get(partition, 0), stamp)
    return JournaledBatch(
        value=message.value or b"",
        at=record_text(message.topic, message.partition, message.offset),
        worker=entry.worker,
        session=(entry.process, entry.session),
        scored=entry.scored,
        recovered=entry.recovered,
        spans=spans,
        needs=needs,
        holdings={(held.topic, held.partition): held.committed for held in entry.holdings},
    )


class Order:
    """Hands out one unit after the other."""

    def __init__(self, contents: JournalContents) -> None:
        self._queues = {worker: deque(units) for worker, units in contents.units.items()}
        by_partition: dict[PartitionId, list[tuple[int, JournaledBatch]]] = {}
        for unit in contents.all():
            for partition, (first, _) in unit.spans.items():
                by_partition.setdefault(partition, []).append((first, unit))
        self._turns = {
            partition: deque(sorted(units, key=lambda turn: (turn[0], turn[1].scored)))
            for partition, units in by_partition.items()
        }
        self._held: dict[PartitionId, str] = {}
        self._open: dict[str, tuple[int, int]] = {}
        self.forced = 0

    def next(self) -> tuple[JournaledBatch, bool] | None:
        """The next unit, and whether its session begins now: then the same unit comes once more, to be scored.

        An order that the journal makes impossible is broken where its clock says so, and counted in `forced`.
        """
        heads = sorted((queue[0] for queue in self._queues.values() if queue), key=self._time)
        if not heads:
            return None
        chosen = next((unit for unit in heads if self._ready(unit)), None)
        if chosen is None:
            chosen = heads[0]
            self.forced += 1
        if self._begins(chosen):
            self._open[chosen.worker] = chosen.session
            return chosen, True
        self._pass(chosen)
        return chosen, False

    def hold(self, unit: JournaledBatch) -> None:
        """The session that begins with a unit holds its partitions from now on."""
        self._held.update(dict.fromkeys(unit.holdings, unit.worker))

    def clear_until(self, partition: PartitionId) -> int | None:
        """The first offset of a partition that a unit still to come scores; None when none does."""
        turns = self._turns.get(partition)
        return turns[0][0] if turns else None

    def holder(self, partition: PartitionId) -> str | None:
        """The worker whose session holds a partition now."""
        return self._held.get(partition)

    def _time(self, unit: JournaledBatch) -> int:
        return unit.recovered if self._begins(unit) else unit.scored

    def _begins(self, unit: JournaledBatch) -> bool:
        return unit.opens and self._open.get(unit.worker) != unit.session

    def _ready(self, unit: JournaledBatch) -> bool:
        if self._begins(unit):
            return all(
                self._held.get(partition) in (None, unit.worker) and self._came_to(partition, committed)
                for partition, committed in unit.holdings.items()
            )
        first_everywhere = all(self._turns[partition][0][1] is unit for partition in unit.spans)
        return first_everywhere and all(
            self._came_to(partition, stamp) for partition, stamp in unit.needs.items()
        )

    def _came_to(self, partition: PartitionId, offset: int) -> bool:
        first = self.clear_until(partition)
        return first is None or first >= offset

    def _pass(self, unit: JournaledBatch) -> None:
        queue = self._queues[unit.worker]
        queue.popleft()
        for partition in unit.spans:
            turns = self._turns[partition]
            if turns[0][1] is unit:
                turns.popleft()
            else:
                self._turns[partition] = deque(turn for turn in turns if turn[1] is not unit)
        if not queue or queue[0].session != unit.session:
            self._held = {
                partition: worker for partition, worker in self._held.items() if worker != unit.worker
            }
