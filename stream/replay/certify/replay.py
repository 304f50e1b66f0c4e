"""The replay itself: unit after unit in the order that the journal allows, each event of the range accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.core.batch import SourceBatch
from features.definitions.plan import Plan
from features.offline.order import arrange
from features.profiles.joins import ProfileTable
from models.decision.decisions import Decisions
from models.decision.memory.memory import PastAlert
from stream.codecs.alerts import AlertEncoder
from stream.codecs.messages import PartitionId, record_text
from stream.kafka.readers.past_alerts import MOST, past_alert
from stream.replay.certify.inputs import Inputs, UnitEvents
from stream.replay.certify.library import Library
from stream.replay.certify.mirror import Mirror
from stream.replay.certify.published import Expected, Published
from stream.replay.certify.report.causes import Cause, Explanation
from stream.replay.certify.report.certificate import Difference
from stream.replay.certify.report.findings import Findings
from stream.replay.certify.slices import Slices
from stream.replay.certify.units import JournalContents, JournaledBatch, Order

_AFTER_LOSS = Explanation(Cause.AFTER_LOSS, "what a lost unit of work had read and published is not known")
_CIRCLE = Explanation(Cause.OUT_OF_ORDER, "units of work wait for each other in a circle")
_AGAIN = Explanation(Cause.REPEATED, "an earlier unit of work has scored this event")
_IN_NO_UNIT = Explanation(Cause.LOST_RECORD, "no unit of work of the journal names this event")
_NOT_IN_LOG = Explanation(Cause.LOST_RECORD, "the journal names this event, the log does not hold it")


@dataclass(frozen=True, kw_only=True)
class ReplayInputs:
    """What a replay works on.

    `spans` are the offsets of the inputs that are looked at, `gone` what may be lacking in the state of a partition
    because its log was deleted.
    """

    plan: Plan
    shards: int
    library: Library
    profiles: ProfileTable | None
    inputs: Inputs
    journal: JournalContents
    spans: Mapping[PartitionId, tuple[int, int]]
    gone: Mapping[PartitionId, Explanation]
    decisions: Published | None
    alerts: Published
    in_range: Callable[[JournaledBatch], bool]


class Replay:
    """Runs once. `letters` are the events of the range that did not decode."""

    def __init__(self, material: ReplayInputs, findings: Findings) -> None:
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
        self.letters: set[tuple[PartitionId, int]] = set()

    def run(self, progress: Callable[[], None]) -> None:
        """Until every unit is replayed and every event of the range is accounted for."""
        while (turn := self._order.next()) is not None:
            unit, begins = turn
            if begins:
                self._begin(unit)
            else:
                self._replay(unit)
                progress()
        for partition, (_, end) in self._material.spans.items():
            self._pass_over(partition, end)
            progress()

    def _begin(self, unit: JournaledBatch) -> None:
        for (
            partition,
            committed,
        ) in unit.holdings.items():  # before the session: its worker's cache is empty yet
            self._pass_over(partition, committed)
        self._order.hold(unit)
        mirror = self._mirrors.get(unit.worker)
        if mirror is None:
            inputs = self._material
            mirror = Mirror(inputs.plan, inputs.shards, self._slices, inputs.library, inputs.profiles)
            self._mirrors[unit.worker] = mirror
        mirror.begin(unit.entry, self._past_alerts)

    def _past_alerts(self) -> Sequence[PastAlert]:
        alerts = [past_alert(value, self._sources) for value in self._alerts]
        return sorted(alerts, key=lambda alert: alert.time)

    def _pass_over(self, partition: PartitionId, upto: int) -> None:
        """Fold what no unit scores: events from before the journal, or events that only a lost record named."""
        first = self._order.clear_until(partition)
        for events in self._inputs.between(partition, upto if first is None else min(upto, first)):
            self._account(events)
            self._fold(events.unclaimed)

    def _fold(self, unclaimed: list[SourceBatch]) -> None:
        for events in unclaimed:
            for number in np.unique(events.partition).tolist():
                own = events.take(np.flatnonzero(events.partition == number))
                holder = self._order.holder((events.source.topic, number))
                owner = self._slices if holder is None else self._mirrors[holder]
                owner.fold(arrange([own]))

    def _replay(self, unit: JournaledBatch) -> None:
        for partition, stamp in unit.needs.items():
            self._pass_over(partition, stamp)
        for partition, (first, _) in unit.spans.items():
            self._pass_over(partition, first)
        mirror, entry = self._mirrors[unit.worker], unit.entry
        events = self._inputs.of_unit(entry, unit.spans)
        self._fold(events.unclaimed)
        wanted = self._material.in_range(unit)
        decisions = mirror.replay(entry, events.batch, score=wanted or mirror.remembers)
        self._account(events)
        if wanted:
            self._count(events)
            self._findings.counts.units += 1
        known, unsure = mirror.causes
        reasons = [*known, *self._gone(unit), *unsure]
        for decided in decisions:
            self._expect(decided, entry.scored, reasons, wanted=wanted, remembers=mirror.remembers)
        for published in (self._material.decisions, self._material.alerts):
            if published is not None and wanted:
                published.catch_up()

    def _expect(
        self, decisions: Decisions, scored: int, reasons: list[Explanation], *, wanted: bool, remembers: bool
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
        if reasons:
            self._expect_no_alert(decisions, reasons[0])
        for published, rows, records in pairs:
            for row, record in zip(rows.tolist(), records, strict=True):
                partition = (batch.source.topic, int(batch.partition[row]))
                expected = Expected(record, batch.event_ids[row], reasons)
                published.expect(partition, int(batch.offset[row]), expected)

    def _expect_no_alert(self, decisions: Decisions, reason: Explanation) -> None:
        batch = decisions.features.batch
        for row in np.flatnonzero(~decisions.alert).tolist():
            partition = (batch.source.topic, int(batch.partition[row]))
            self._material.alerts.expect_nothing(partition, int(batch.offset[row]), reason)

    def _gone(self, unit: JournaledBatch) -> list[Explanation]:
        """Why the state of a unit may be incomplete, for want of the log or of an order."""
        gone = self._material.gone
        reasons = [gone[partition] for partition in (*unit.spans, *unit.needs, *gone) if partition in gone]
        if self._order.forced:
            reasons.append(_CIRCLE)
        return [*reasons, _AFTER_LOSS] if self._lost else reasons

    # -- accounting ----------------------------------------------------------------------------

    def _count(self, events: UnitEvents) -> None:
        counts = self._findings.counts
        for batch in events.batch.source_batches:
            if batch.source.name in self._material.plan.readers:
                counts.scored += len(batch)
            else:
                counts.folded += len(batch)
            counts.events += len(batch)

    def _account(self, events: UnitEvents) -> None:
        """What of the range was not scored: dead letters, events in no unit, events that the log has lost."""
        counts = self._findings.counts
        for partition, offset in events.bad:
            if self._inside(partition, offset):
                self.letters.add((partition, offset))
                counts.events += 1
                counts.dead_letters += 1
        for batch in events.unclaimed:
            for number, offset in zip(batch.partition.tolist(), batch.offset.tolist(), strict=True):
                if self._inside((batch.source.topic, number), offset):
                    counts.events += 1
                    self._missing((batch.source.topic, number), offset, "journal", _IN_NO_UNIT)
        for partition, offset in events.lacking:
            if self._inside(partition, offset):
                reason = self._material.gone.get(partition, _NOT_IN_LOG)
                self._missing(partition, offset, "event", reason)
        for partition, offset in events.again:
            if self._inside(partition, offset):
                place = record_text(*partition, offset)
                self._findings.report(Difference(what="duplicated", record="journal", place=place), _AGAIN)

    def _missing(self, partition: PartitionId, offset: int, record: str, reason: Explanation) -> None:
        self._findings.counts.missing += 1
        self._lost |= record == "journal"
        for published in filter(None, (self._material.decisions, self._material.alerts)):
            published.expect_nothing(partition, offset, None)
        place = record_text(*partition, offset)
        self._findings.report(Difference(what="missing", record=record, place=place), reason)

    def _inside(self, partition: PartitionId, offset: int) -> bool:
        first, end = self._material.spans.get(partition, (0, 0))
        return first <= offset < end
