"""Decides what was scored, in the order of the events, and keeps each decision.

Suppression and alert budgets depend on earlier decisions, so this part of a run is one process whatever scored. The
decisions go to parts under a working folder, so that a run that was interrupted or killed can go on: events whose
decision is there are decided again only where later decisions depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from features.core.batch import Floats, MicroBatch
from stream.replay.backtest.inputs import Feed
from stream.replay.backtest.interrupts import interrupts
from stream.replay.backtest.parts import KnownScores, PartWriter
from stream.replay.backtest.recorded import decision_frame, label_frame
from stream.replay.backtest.report.verdicts import Verdicts
from stream.replay.backtest.request import Span
from stream.replay.backtest.scoring import GroupScorer, Scored, SettingGroup, SettingScorer

Progress = Callable[[int, int], None]


class Scoring(Protocol):
    """Scores of a group's batches, computed here or put together from shares."""

    def __call__(self, batch: MicroBatch, start: int) -> Iterable[Scored] | None:
        """The reported events of the next batch, which begins with event `start`; None: there are no more."""
        ...


@dataclass(frozen=True)
class Ran:
    """What came of a run; `complete` is false after an interruption. `rejected` messages were no events."""

    events: int
    complete: bool
    rejected: int


class Keeper:
    """Decisions of one setting, a folder a scored source."""

    def __init__(self, side: SettingScorer, folder: Path, with_features: bool) -> None:
        self._side = side
        self._with_features = with_features
        self._folder = folder
        self._writers: dict[str, PartWriter] = {}
        self._known: dict[str, KnownScores] = {}
        self._skip: dict[str, int] = {}
        for source in side.scorer.plan.readers:
            self._writers[source] = PartWriter(self.place(source))
            self._known[source] = KnownScores(self.place(source), ["score"])
            self._skip[source] = self._writers[source].kept

    def place(self, source: str) -> Path:
        """Where the decisions of a source are."""
        return self._folder / source

    def known(self, source: str, rows: int) -> Floats | None:
        """Scores of the next events, where an earlier run decided all of them."""
        found = self._known[source].take(rows)
        return None if found is None else found[0]

    def decide(self, scored: Scored, score: Floats) -> None:
        """Decide the next events of a source and keep what is not kept yet."""
        source = scored.matrix.batch.source.name
        skip = min(self._skip[source], len(score))
        self._skip[source] -= skip
        if skip == len(score) and not self._side.policy.remembers:
            return
        decisions = self._side.policy.decide(scored.matrix, score, self._side.scorer.model(source), "replay")
        if skip < len(score):
            reader = self._side.scorer.plan.readers[source]
            key = reader.entity_keys[reader.primary] if reader.primary is not None else ()
            frame = decision_frame(decisions, primary_key=key, with_features=self._with_features)
            self._writers[source].add(frame.slice(skip))

    def close(self) -> None:
        """Write what is held."""
        for writer in self._writers.values():
            writer.close()


def scoring_here(group: SettingGroup, keepers: Sequence[Keeper], span: Span) -> Scoring:
    """Features and models in this process; scores that the keepers have are not computed again."""

    def known(source: str, rows: int) -> list[Floats] | None:
        found = [keeper.known(source, rows) for keeper in keepers]
        return [one for one in found if one is not None] if all(one is not None for one in found) else None

    return GroupScorer(group, span, known).score


def run(
    feed: Feed,
    groups: Sequence[tuple[Scoring, Sequence[Keeper]]],
    verdicts: Verdicts,
    progress: Progress | None = None,
) -> Ran:
    """Decide the events of a feed. An interrupt, or a share's early end, ends it with what is done."""
    events, complete = 0, False
    with interrupts() as stopped, suppress(KeyboardInterrupt):
        for start, batch in feed.batches:
            found = [scoring(batch, start) for scoring, _ in groups]
            if stopped() or any(one is None for one in found):
                break
            verdicts.add(label_frame(batch.source_batches))
            for one, (_, keepers) in zip(found, groups, strict=True):
                for scored in one or ():
                    for keeper, score in zip(keepers, scored.scores, strict=True):
                        keeper.decide(scored, score)
            events += len(batch)
            if progress is not None:
                progress(events, feed.total)
        else:
            complete = True
    for _, keepers in groups:
        for keeper in keepers:
            keeper.close()
    return Ran(events, complete, feed.rejected())
