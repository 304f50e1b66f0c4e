"""The replay itself: unit after unit in the order that the journal allows, each event of the range accounted for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.core.batch import SourceBatch
from features.definitions.plan import Plan
from features.offline.order import arrange
from features.profiles.joins import ProfileTable
from models.decision.decisions import Decisions
from models.decision.memory.memory import PastAlert
from stream.codecs.alerts import AlertEncoder
from stream.codecs.messages import PartitionId as Place
from stream.kafka.readers.past_alerts import MOST, past_alert
from stream.replay.certify.certificate import SHOWN, Counts, Difference
from stream.replay.certify.comparing import name_of
from stream.replay.certify.inputs import Inputs, Taken
from stream.replay.certify.library import Library
from stream.replay.certify.mirror import Mirror
from stream.replay.certify.published import Expected, Published
from stream.replay.certify.slices import Slices
from stream.replay.certify.units import Journal, Order, Unit


@dataclass
class Findings:
    """Counts, and the first differences."""

    counts: Counts = field(default_factory=Counts)
    different: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    shown: list[Difference] = field(default_factory=list)

    def report(self, difference: Difference) -> None:
        """Take one more."""
        self.different += 1
        self.causes[difference.cause.partition(":")[0]] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(difference)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a replay works on.

    `spans` are the offsets of the inputs that are looked at, `gone` what may be lacking in the state of a partition
    because its log was deleted.
    """

    plan: Plan
    shards: int
    library: Library
    profiles: ProfileTable | None
    inputs: Inputs
    journal: Journal
    spans: Mapping[Place, tuple[int, int]]
    gone: Mapping[Place, str]
    decisions: Published | None
    alerts: Published
    in_range: Callable[[Unit], bool]


class Replay:
    """Runs once. `letters` are the events of the range that did not decode."""

    def __init__(self, material: Material, findings: Findings) -> None:
        self._material = material
        self._findings = findings
        self._inputs = material.inputs
        self._order = Order(material.journal)
        self._slices = Slices(material.plan, material.shards, material.journal.wanted)
        self._mirrors: dict[str, Mirror] = {}
        self._encoder = AlertEncoder(material.plan)
        self._sources = {source.topic: name for name, source in material.plan.sources.items()}
        self._topics = {name: source.topic for name, source in material.plan.sources.items()}
        self._alerts: deque[bytes] = deque(maxlen=MOST)
        self._lost = False
        self.letters: set[tuple[Place, int]] = set()

    def run(self, progress: Callable[[], None]) -> None:
        """Until every unit is replayed and every event of the range is accounted for."""
        while (found := self._order.next()) is not None:
            unit, begins = found
            if begins:
                self._begin(unit)
            else:
                self._replay(unit)
                progress()
        for place, (_, end) in self._material.spans.items():
            self._pass_over(place, end)
            progress()

    def _begin(self, unit: Unit) -> None:
        for place, committed in unit.holdings.items():  # before the session: its worker's cache is empty yet
            self._pass_over(place, committed)
        self._order.hold(unit)
        mirror = self._mirrors.get(unit.worker)
        if mirror is None:
            one = self._material
            mirror = Mirror(one.plan, one.shards, self._slices, one.library, one.profiles)
            self._mirrors[unit.worker] = mirror
        mirror.begin(unit, self._past_alerts)

    def _past_alerts(self) -> Sequence[PastAlert]:
        found = [past_alert(value, self._sources) for value in self._alerts]
        return sorted(found, key=lambda alert: alert.time)

    def _pass_over(self, place: Place, upto: int) -> None:
        """Fold what no unit scores: events from before the journal, or such as a lost record would have told of."""
        first = self._order.clear_until(place)
        for taken in self._inputs.between(place, upto if first is None else min(upto, first)):
            self._account(taken)
            self._fold(taken.strays)

    def _fold(self, strays: list[SourceBatch]) -> None:
        for part in strays:
            for number in np.unique(part.partition).tolist():
                mine = part.take(np.flatnonzero(part.partition == number))
                holder = self._order.holder((part.source.topic, number))
                owner = self._slices if holder is None else self._mirrors[holder]
                owner.fold(arrange([mine]))

    def _replay(self, unit: Unit) -> None:
        for place, stamp in unit.needs.items():
            self._pass_over(place, stamp)
        for place, (first, _) in unit.spans.items():
            self._pass_over(place, first)
        mirror, entry = self._mirrors[unit.worker], unit.entry
        taken = self._inputs.of_unit(entry, unit.spans)
        self._fold(taken.strays)
        wanted = self._material.in_range(unit)
        decisions = mirror.replay(entry, taken.batch, score=wanted or mirror.remembers)
        self._account(taken)
        if wanted:
            self._count(taken)
            self._findings.counts.units += 1
        known, unsure = mirror.causes
        causes = [*known, *self._gone(unit), *unsure]
        for one in decisions:
            self._expect(one, entry.scored, causes, wanted=wanted, remembers=mirror.remembers)
        for published in (self._material.decisions, self._material.alerts):
            if published is not None and wanted:
                published.catch_up()

    def _expect(
        self, decisions: Decisions, scored: int, causes: list[str], *, wanted: bool, remembers: bool
    ) -> None:
        alerts = self._encoder.alerts(decisions, scored)
        if remembers:
            self._alerts.extend(record.value or b"" for record in alerts)
        if not wanted:
            return
        batch = decisions.features.batch
        everything = np.arange(len(decisions))
        pairs = [(self._material.alerts, np.flatnonzero(decisions.alert), alerts)]
        if self._material.decisions is not None:
            pairs.append((self._material.decisions, everything, self._encoder.decisions(decisions, scored)))
        if causes:
            self._excuse(decisions, causes[0])
        for published, rows, records in pairs:
            for row, record in zip(rows.tolist(), records, strict=True):
                place = (batch.source.topic, int(batch.partition[row]))
                published.expect(
                    place, int(batch.offset[row]), Expected(record, batch.event_ids[row], causes)
                )

    def _excuse(self, decisions: Decisions, cause: str) -> None:
        batch = decisions.features.batch
        for row in np.flatnonzero(~decisions.alert).tolist():
            place = (batch.source.topic, int(batch.partition[row]))
            self._material.alerts.excuse(place, int(batch.offset[row]), cause)

    def _gone(self, unit: Unit) -> list[str]:
        """Why the state of a unit may be incomplete, for want of the log or of an order."""
        gone = self._material.gone
        found = [gone[place] for place in (*unit.spans, *unit.needs, *gone) if place in gone]
        if self._order.forced:
            found.append(_CIRCLE)
        return [*found, _AFTER_LOSS] if self._lost else found

    # -- accounting ----------------------------------------------------------------------------

    def _count(self, taken: Taken) -> None:
        counts = self._findings.counts
        for part in taken.batch.source_batches:
            if part.source.name in self._material.plan.readers:
                counts.scored += len(part)
            else:
                counts.folded += len(part)
            counts.events += len(part)

    def _account(self, taken: Taken) -> None:
        """What of the range was not scored: dead letters, events in no unit, events that the log has lost."""
        counts = self._findings.counts
        for place, offset in taken.bad:
            if self._inside(place, offset):
                self.letters.add((place, offset))
                counts.events += 1
                counts.dead_letters += 1
        for part in taken.strays:
            for number, offset in zip(part.partition.tolist(), part.offset.tolist(), strict=True):
                if self._inside((part.source.topic, number), offset):
                    counts.events += 1
                    self._missing((part.source.topic, number), offset, "journal", _IN_NO_UNIT)
        for place, offset in taken.lacking:
            if self._inside(place, offset):
                self._missing(place, offset, "event", self._material.gone.get(place, _NOT_IN_LOG))

        for place, offset in taken.again:
            if self._inside(place, offset):
                where = name_of(place, offset)
                self._findings.report(
                    Difference(what="duplicated", record="journal", place=where, cause=_AGAIN)
                )

    def _missing(self, place: Place, offset: int, record: str, cause: str) -> None:
        self._findings.counts.missing += 1
        self._lost |= record == "journal"
        for published in filter(None, (self._material.decisions, self._material.alerts)):
            published.excuse(place, offset, "")
        self._findings.report(
            Difference(what="missing", record=record, place=name_of(place, offset), cause=cause)
        )

    def _inside(self, place: Place, offset: int) -> bool:
        first, end = self._material.spans.get(place, (0, 0))
        return first <= offset < end


_AFTER_LOSS = "after a lost record: what a lost unit of work had read and said is not known"
_CIRCLE = "journal out of order: units of work wait for each other in a circle"
_AGAIN = "repeated: an earlier unit of work has scored this event"
_IN_NO_UNIT = "lost record: no unit of work of the journal names this event"
_NOT_IN_LOG = "lost record: the journal names this event, the log does not hold it"
