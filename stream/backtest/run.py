"""Runs recorded events through one or two settings, and keeps what each decided.

Nothing live is touched: the engine is in memory, no consumer group, no topic and no Redis key is written. The
decisions go to Parquet parts under a working folder, so that an interrupted run can go on: on the next run the parts
that are there are not written again, and their scores are taken from them instead of from the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from features.batch import FeatureMatrix, Floats, MicroBatch
from models.base import Model
from models.decision.decisions import Decisions
from stream.backtest.figures import Setting
from stream.backtest.recorded import decision_frame, label_frame
from stream.kafka.merge import take
from stream.scorer import Scorer

Progress = Callable[[int, int], None]
PART_ROWS = 200_000


@dataclass
class Side:
    """One setting: its scorer and where its decisions go."""

    setting: Setting
    scorer: Scorer
    folder: Path
    done: int = 0
    scores: Floats = field(default_factory=lambda: np.zeros(0))
    held: list[pl.DataFrame] = field(default_factory=list)
    seen: int = 0


@dataclass(frozen=True)
class Span:
    """Which events are reported; microseconds since 1970. Events of the warm-up before are folded only."""

    start: int | None = None
    end: int | None = None
    warm_up: int = 0


@dataclass
class Ran:
    """What came of a run; `complete` is false after an interruption."""

    labels: pl.DataFrame
    events: int
    complete: bool


def run(
    batches: Iterable[MicroBatch],
    sides: Sequence[Side],
    span: Span,
    *,
    total: int,
    progress: Progress | None = None,
    with_features: bool = False,
) -> Ran:
    """Score the events of `span` with every side. KeyboardInterrupt ends the run early, with what is done."""
    for side in sides:
        _resume(side)
    labels: list[pl.DataFrame] = []
    events, complete = 0, True
    try:
        for batch in batches:
            labels.append(label_frame(batch.parts))
            for side in sides:
                _score(side, batch, span, with_features)
            events += len(batch)
            if progress is not None:
                progress(events, total)
    except KeyboardInterrupt:
        complete = False
    for side in sides:
        _write(side, everything=True)
    return Ran(pl.concat(labels) if labels else label_frame(()), events, complete)


def decisions_of(side: Side) -> pl.DataFrame:
    """All decisions that a side has kept, in scoring order."""
    parts = _parts(side.folder)
    return pl.concat([pl.read_parquet(part) for part in parts]) if parts else pl.DataFrame()


def _score(side: Side, batch: MicroBatch, span: Span, with_features: bool) -> None:
    prepared = side.scorer.engine.prepare(batch)
    times = np.concatenate([part.event_time for part in batch.parts])
    if span.start is not None and int(times.max()) < span.start:
        if int(times.max()) >= span.start - span.warm_up:
            side.scorer.engine.fold(prepared)
        return
    for matrix in side.scorer.engine.run(prepared).values():
        for decisions, new in _decide(side, matrix, span):
            reader = side.scorer.plan.readers[decisions.features.batch.source.name]
            key = reader.entity_keys[reader.primary] if reader.primary is not None else ()
            frame = decision_frame(decisions, primary_key=key, with_features=with_features)
            side.held.append(frame.tail(new))
    _write(side, everything=False)


def _decide(side: Side, matrix: FeatureMatrix, span: Span) -> Iterator[tuple[Decisions, int]]:
    """Decisions on the rows inside the span, and how many of the last ones are not kept yet."""
    chosen = _rows(matrix, span)
    if not len(chosen):
        return
    complete = _pick(side.scorer.complete(matrix), chosen)
    source = matrix.batch.source.name
    model = side.scorer.model(source)
    score = _known_scores(side, complete, model)
    side.seen += len(complete)
    decisions = side.scorer.policy.decide(complete, score, model, "replay")
    new = min(side.seen - side.done, len(complete))
    if new > 0:
        yield decisions, new


def _known_scores(side: Side, matrix: FeatureMatrix, model: Model) -> Floats:
    end = side.seen + len(matrix)
    if end <= side.done:
        return side.scores[side.seen : end]
    return model.score(matrix)


def _rows(matrix: FeatureMatrix, span: Span) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    times = matrix.batch.event_time
    inside = np.ones(len(times), np.bool_)
    if span.start is not None:
        inside &= times >= span.start
    if span.end is not None:
        inside &= times < span.end
    return np.flatnonzero(inside)


def _pick(matrix: FeatureMatrix, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FeatureMatrix:
    if len(rows) == len(matrix):
        return matrix
    return FeatureMatrix(
        batch=take(matrix.batch, rows, matrix.batch.position),
        names=matrix.names,
        values=matrix.values[rows],
        strings={name: [texts[row] for row in rows.tolist()] for name, texts in matrix.strings.items()},
        flags={name: flag[rows] for name, flag in matrix.flags.items()},
        duplicate=matrix.duplicate[rows],
        late=matrix.late[rows],
    )


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _resume(side: Side) -> None:
    side.folder.mkdir(parents=True, exist_ok=True)
    for left in side.folder.glob("*.tmp"):
        left.unlink()
    parts = _parts(side.folder)
    if parts:
        side.scores = pl.concat([pl.read_parquet(part, columns=["score"]) for part in parts])[
            "score"
        ].to_numpy()
        side.done = len(side.scores)


def _write(side: Side, *, everything: bool) -> None:
    """A part at a time, each there as a whole or not at all."""
    rows = sum(frame.height for frame in side.held)
    if not rows or (rows < PART_ROWS and not everything):
        return
    final = side.folder / f"part-{len(_parts(side.folder)):06}.parquet"
    temporary = final.with_suffix(".tmp")
    pl.concat(side.held).write_parquet(temporary)
    temporary.replace(final)
    side.held = []
