"""Batches to features and scores: the part of a run that is divided among processes.

Nothing live is touched: the engine is in memory, no consumer group, no topic and no Redis key is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from features.core.batch import FeatureMatrix, Floats, Ints, MicroBatch, SourceBatch
from features.definitions.plan import Plan
from features.engine.engine import FeatureEngine
from features.engine.prepared import Prepared
from models.decision.policy import Policy
from stream.replay.backtest.request import Setting, Span
from stream.replay.backtest.shares.shares import Share
from stream.scoring.scorer import Scorer

Known = Callable[[str, int], list[Floats] | None]
"""Scores of the next rows of a source that an earlier run left, one array a side; None where it left none."""


@dataclass(frozen=True)
class SettingScorer:
    """One setting and its policy; its model is that of `scorer.model(source)`."""

    setting: Setting
    scorer: Scorer
    policy: Policy


@dataclass(frozen=True)
class SettingGroup:
    """Settings that read the same features, so that these are computed once. `number` names it on disk."""

    number: int
    engine: FeatureEngine
    sides: list[SettingScorer] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """The plan of all its settings."""
        return self.engine.plan


@dataclass(frozen=True, slots=True)
class Scored:
    """Reported events of one source in a batch, and the score that each side of the group gives them.

    `position` is the event's place among all events of the run.
    """

    matrix: FeatureMatrix
    position: Ints
    scores: list[Floats]


class GroupScorer:
    """Scores a group's batches in order; of one share only, where given."""

    def __init__(self, group: SettingGroup, span: Span, known: Known, share: Share | None = None) -> None:
        self._group = group
        self._span = span
        self._known = known
        self._share = share

    def score(self, batch: MicroBatch, start: int) -> Iterator[Scored]:
        """Fold a batch, whose first event is event `start` of the run, and give what is to be reported."""
        newest = max(int(part.event_time.max()) for part in batch.source_batches)
        span, engine = self._span, self._group.engine
        if span.start is not None and newest < span.start - span.warm_up:
            return
        if (
            span.end is not None
            and min(int(part.event_time.min()) for part in batch.source_batches) >= span.end
        ):
            return
        prepared = engine.prepare(batch if self._share is None else self._share.needed(engine.plan, batch))
        owned = self._restricted(prepared)
        if span.start is not None and newest < span.start:
            engine.fold(prepared)
            return
        for name, matrix in engine.run(prepared).items():
            rows = reported(matrix.batch, span)
            if self._share is not None:
                rows = rows[owned[name][rows]]
            if len(rows):
                yield self._scored(matrix if len(rows) == len(matrix) else matrix.take(rows), start)

    def _restricted(self, prepared: Prepared) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
        if self._share is None:
            return {}
        owned = self._share.owned(self._group.engine, prepared)
        self._share.restrict(self._group.engine, prepared, owned)
        return owned

    def _scored(self, picked: FeatureMatrix, start: int) -> Scored:
        source = picked.batch.source.name
        known = self._known(source, len(picked))
        complete = self._group.sides[0].scorer.complete(picked)
        if known is None:
            by_model: dict[str, Floats] = {}
            known = []
            for side in self._group.sides:
                model = side.scorer.model(source)
                if model.version.sha256 not in by_model:
                    by_model[model.version.sha256] = model.score(complete)
                known.append(by_model[model.version.sha256])
        return Scored(complete, start + picked.batch.position, known)


def reported(batch: SourceBatch, span: Span) -> Ints:
    """Rows of a batch that lie in the span."""
    times = batch.event_time
    inside = np.ones(len(times), np.bool_)
    if span.start is not None:
        inside &= times >= span.start
    if span.end is not None:
        inside &= times < span.end
    return np.flatnonzero(inside)
