"""From decisions to the figures of a report, of which only some parts of the decisions are in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from stream.replay.backtest.report.compare import Overlaps, Segments, sweep, texts_of
from stream.replay.backtest.report.outcomes import outcome_of
from stream.replay.backtest.report.results import Day, ExampleEvent, Figures, SegmentFigures, SettingFigures
from stream.replay.backtest.report.tally import COLUMNS, DecisionCounts
from stream.replay.backtest.request import Setting

Judged = Callable[[Sequence[str]], Iterator[pl.DataFrame]]
EXAMPLE = ("event_id", "event_time", "score", "decision", "exposure", "label", "reasons")


def figures(
    source: str,
    settings: Sequence[Setting],
    judged: Sequence[Judged],
    *,
    segment_by: tuple[str, ...] = (),
    complete: bool = True,
    review_cost: float = 0.0,
) -> Figures:
    """Figures of one setting, or of two on the same events, of which only some parts are in memory at a time.

    `judged` gives for each setting, whenever it is called, its decisions with labels (`Verdicts.judged`), part by part.
    """
    sides = [_Counting(setting) for setting in settings]
    both, overlaps = len(sides) > 1, Overlaps()
    frequency: dict[str, Counter[str]] = {column: Counter() for column in segment_by}
    for frames in _together(judged, segment_by):
        for side, frame in zip(sides, frames, strict=True):
            side.add(frame)
        for column, seen in frequency.items():
            seen.update(dict(texts_of(frames[0], column).value_counts().iter_rows()))
        if both:
            overlaps.add(*frames)
    return Figures(
        source=source,
        complete=complete,
        events=sides[0].tally.counts["events"],
        first=None if sides[0].first is None else str(sides[0].first),
        last=None if sides[0].last is None else str(sides[0].last),
        a=sides[0].side(review_cost),
        b=sides[1].side(review_cost) if both else None,
        overlap=overlaps.overlap() if both else None,
        segments={column: _segments(column, seen, judged) for column, seen in frequency.items()},
    )


def _together(judged: Sequence[Judged], segment_by: tuple[str, ...]) -> Iterator[tuple[pl.DataFrame, ...]]:
    """The same rows of every setting at a time, with the columns that figures need."""
    needed = tuple(dict.fromkeys((*COLUMNS, "event_id", "reasons", *segment_by)))
    return zip(*(frames(needed) for frames in judged), strict=True)


def _segments(column: str, frequency: Counter[str], judged: Sequence[Judged]) -> list[SegmentFigures]:
    found = Segments(column, frequency)
    for side, frames in enumerate(judged):
        for part in frames((*COLUMNS, column)):
            found.add(side, part)
    return found.segments(len(judged) > 1)


class _Counting:
    """One setting under way."""

    def __init__(self, setting: Setting) -> None:
        self.tally = DecisionCounts()
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._setting = setting
        self._examples: dict[str, pl.DataFrame] = {}

    def add(self, part: pl.DataFrame) -> None:
        self.tally.add(part)
        first, last = part["event_time"].min(), part["event_time"].max()
        if isinstance(first, datetime) and isinstance(last, datetime):
            self.first = first if self.first is None else min(self.first, first)
            self.last = last if self.last is None else max(self.last, last)
        bad, stopped = pl.col("label").fill_null(0) > 0, pl.col("decision") != "approve"
        self._keep("best", part.filter(bad & stopped), "exposure")
        self._keep("missed", part.filter(bad & ~stopped), "exposure")
        self._keep("false_alarms", part.filter((pl.col("label") <= 0) & pl.col("alert")), "score")

    def side(self, review_cost: float) -> SettingFigures:
        return SettingFigures(
            setting=self._setting,
            outcome=outcome_of(self.tally),
            days=[
                Day(str(np.datetime64(day, "D")), *counts.tolist())
                for day, counts in sorted(self.tally.days.items())
            ],
            histogram=self.tally.histogram.tolist(),
            histogram_bad=self.tally.histogram_bad.tolist(),
            sweep=sweep(self.tally, review_cost=review_cost),
            **{name: _examples(self._examples.get(name)) for name in ("best", "missed", "false_alarms")},
        )

    def _keep(self, name: str, frame: pl.DataFrame, by: str, most: int = 10) -> None:
        known = [self._examples[name]] if name in self._examples else []
        rows = pl.concat([*known, frame.select(*EXAMPLE)])
        self._examples[name] = rows.sort([by, "event_id"], descending=[True, False], nulls_last=True).head(
            most
        )


def _examples(frame: pl.DataFrame | None) -> list[ExampleEvent]:
    if frame is None:
        return []
    return [
        ExampleEvent(**{**row, "event_time": str(row["event_time"])}) for row in frame.iter_rows(named=True)
    ]
