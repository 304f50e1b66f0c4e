"""Runs a plan over recorded events: the engine of live scoring, fed from files or frames.

Sources are merged by event time, labels first where times are equal, then by topic and row. So the
k-th row depends only on rows that were known by its time: point-in-time by construction. Files are
read and written in pieces; only the state of the entities stays in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import polars as pl

from features.core.batch import FeatureMatrix, MicroBatch, SourceBatch
from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.derived import DerivedFeatures
from features.definitions.plan import Plan
from features.definitions.spec import Definitions, Source
from features.engine.engine import FeatureEngine
from features.offline.reader import FrameReader, concatenated, typed_series
from features.offline.recorded import chunks, reading, scan

F = TypeVar("F")

BATCH_SIZE = 32_768
PIECE_ROWS = 262_144
Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


class Join(Protocol):
    """Adds profile fields and flags to a matrix (features/profiles/joins.py)."""

    def join(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """The matrix with the fields of all profiles that its source carries; may block on a store."""
        ...


@dataclass(frozen=True)
class Written:
    """What `run` wrote: rows of the scored source, rows read of all sources."""

    rows: int
    read: int
    path: Path


def materialize(
    frames: Mapping[str, F],
    definitions: Definitions,
    *,
    source: str | None = None,
    profiles: Join | None = None,
) -> F:
    """Features of every event of one scored source, as of its time; for notebooks.

    `frames` maps source names to Polars or pandas frames, each sorted by event time; the result is a
    frame of the same kind, one row an event in order of time: `event_id`, `event_time`, the event's
    own columns, features, `duplicate`, `late`, flags. `source` chooses among several scored ones.
    """
    plan = compile_plan(definitions)
    pandas = any(not isinstance(frame, pl.DataFrame) for frame in frames.values())
    inputs = {name: _as_polars(frame).lazy() for name, frame in frames.items()}
    target = _scored(plan, inputs, source)
    parts = [output_frame(plan, matrix) for matrix in matrices(plan, inputs, target, profiles)]
    result = pl.concat(parts) if parts else _empty(plan, target)
    answer: Any = result.to_pandas() if pandas else result
    return cast(F, answer)


def run(
    definitions: Definitions,
    inputs: Mapping[str, str | Path],
    output: str | Path,
    progress: Progress | None = None,
    *,
    source: str | None = None,
    profiles: Join | None = None,
) -> Written:
    """Materialize files (Parquet or CSV, source name -> path) into a Parquet file, out of core.

    Output as in `materialize`. Raises ConfigurationError naming file and row where an input is not
    sorted by time or a value does not fit. The output appears only when it is complete.
    """
    plan = compile_plan(definitions)
    scans = {name: scan(str(path)) for name, path in inputs.items()}
    target = _scored(plan, scans, source)
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        reading(*map(str, inputs.values())),
        tempfile.TemporaryDirectory(prefix=".materialize-", dir=path.parent) as folder,
    ):
        counted = _Counted(progress, sum(int(f.select(pl.len()).collect().item()) for f in scans.values()))
        pieces = _Pieces(Path(folder))
        for matrix in matrices(plan, scans, target, profiles, counted):
            pieces.add(output_frame(plan, matrix))
        pieces.join(_empty(plan, target)).replace(path)
    return Written(pieces.rows, counted.done, path)


def matrices(
    plan: Plan,
    inputs: Mapping[str, pl.LazyFrame],
    target: str,
    profiles: Join | None = None,
    counted: Callable[[int], None] | None = None,
) -> Iterator[FeatureMatrix]:
    """Complete feature matrices of the target source, batch after batch; all sources are folded."""
    engine = FeatureEngine(plan)
    derived = DerivedFeatures(plan)
    if plan.readers[target].profiles and profiles is None:
        names = ", ".join(one.name for one in plan.readers[target].profiles)
        raise ConfigurationError(f"source `{target}` has profiles ({names}); give them too")
    for batch in batches(plan, inputs):
        matrix = engine.run(engine.prepare(batch)).get(target)
        if counted is not None:
            counted(len(batch))
        if matrix is not None and len(matrix):
            joined = matrix if profiles is None else profiles.join(matrix)
            yield derived.add(joined)


def batches(plan: Plan, inputs: Mapping[str, pl.LazyFrame], size: int = BATCH_SIZE) -> Iterator[MicroBatch]:
    """Events of all inputs merged by time, in micro-batches of about `size` a source."""
    unknown = [name for name in inputs if name not in plan.sources]
    if unknown:
        raise ConfigurationError(f"input `{unknown[0]}` is no source; known: {', '.join(plan.sources)}")
    queues = [_Queue(plan.sources[name], frame, size) for name, frame in inputs.items()]
    queues.sort(key=lambda queue: (queue.source.scored, queue.source.topic, queue.source.name))
    while True:
        for queue in queues:
            queue.fill()
        open_ends = [queue.last for queue in queues if not queue.exhausted]
        bound = min(open_ends) if open_ends else None
        parts = [part for queue in queues if (part := queue.take(bound)) is not None]
        if parts:
            yield _merged(parts)
        elif bound is None:
            return
        else:
            for queue in queues:
                if not queue.exhausted and queue.last == bound:
                    queue.more()


def output_frame(plan: Plan, matrix: FeatureMatrix) -> pl.DataFrame:
    """One row an event: id, time, the event's columns, features, `duplicate`, `late`, flags."""
    batch = matrix.batch
    source = batch.source
    own = [typed_series(field.name, batch.columns[field.name], field.dtype) for field in source.fields]
    by_name = {series.name: series for series in own}
    reader = plan.readers[source.name]
    columns = [
        by_name[source.event_id].alias("event_id"),
        pl.Series("event_time", batch.event_time).cast(pl.Datetime("us")),
        *(series for series in own if series.name not in ("event_id", "event_time")),
    ]
    places = {name: place for place, name in enumerate(matrix.names)}
    columns += [pl.Series(name, matrix.values[:, places[name]], nan_to_null=True) for name in reader.names]
    columns += [pl.Series(name, matrix.strings[name], dtype=pl.String) for name in reader.text_names]
    columns += [pl.Series("duplicate", matrix.duplicate), pl.Series("late", matrix.late)]
    for profile in reader.profiles:
        for flag in (f"profile_missing:{profile.name}", f"profile_stale:{profile.name}"):
            values = matrix.flags.get(flag, np.zeros(len(matrix), dtype=np.bool_))
            columns.append(pl.Series(flag, values))
    return pl.DataFrame(columns)


class _Queue:
    """One source's events, read ahead as far as merging needs."""

    def __init__(self, source: Source, frame: pl.LazyFrame, size: int) -> None:
        self.source = source
        self.exhausted = False
        self._size = size
        self._reader = FrameReader(source, f"input {source.name}")
        self._chunks = chunks(frame, size)
        self._held: list[SourceBatch] = []

    @property
    def last(self) -> int:
        """The newest time read so far and not yet taken."""
        return int(self._held[-1].event_time[-1])

    def fill(self) -> None:
        """Hold at least one row unless the input has ended."""
        while not self.exhausted and not self._held:
            self.more()

    def more(self) -> None:
        """Read another piece."""
        frame = next(self._chunks, None)
        if frame is None:
            self.exhausted = True
        elif len(frame):
            self._held.append(self._reader.batch(frame))

    def take(self, bound: int | None) -> SourceBatch | None:
        """All held rows before `bound` (without a bound: at most `size`), None when there are none."""
        if not self._held:
            return None
        held = concatenated(self._held)
        count = len(held) if bound is None else int(np.searchsorted(held.event_time, bound))
        self._held = [held.take(slice(count, None))] if count < len(held) else []
        return held.take(slice(0, count)) if count else None


class _Pieces:
    """Output on its way: files of PIECE_ROWS rows in a folder, joined at the end."""

    def __init__(self, folder: Path) -> None:
        self.rows = 0
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._files: list[Path] = []

    def add(self, frame: pl.DataFrame) -> None:
        self.rows += len(frame)
        self._held.append(frame)
        if sum(len(one) for one in self._held) >= PIECE_ROWS:
            self._write()

    def join(self, empty: pl.DataFrame) -> Path:
        if self._held or not self._files:
            self._held.append(empty)
            self._write()
        whole = self._folder / "whole.parquet"
        pl.scan_parquet(self._files).sink_parquet(whole, compression="zstd", maintain_order=True)
        return whole

    def _write(self) -> None:
        self._files.append(self._folder / f"{len(self._files):08}.parquet")
        pl.concat(self._held).write_parquet(self._files[-1], compression="lz4")
        self._held = []


class _Counted:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self.done = 0

    def __call__(self, rows: int) -> None:
        self.done += rows
        if self._progress is not None:
            self._progress(self.done, self._total)


def _merged(parts: list[SourceBatch]) -> MicroBatch:
    """Positions by time; among equal times the order of `parts`, then of rows."""
    times = np.concatenate([part.event_time for part in parts])
    position = np.empty(len(times), dtype=np.int64)
    position[np.argsort(times, kind="stable")] = np.arange(len(times))
    ends = np.cumsum([len(part) for part in parts])
    split = np.split(position, ends[:-1])
    return MicroBatch(tuple(replace(part, position=at) for part, at in zip(parts, split, strict=True)))


def _scored(plan: Plan, inputs: Mapping[str, object], source: str | None) -> str:
    scored = [name for name in inputs if name in plan.readers]
    if source is not None:
        if source not in scored:
            names = ", ".join(scored) or "none"
            raise ConfigurationError(f"source `{source}` is not among the scored inputs: {names}")
        return source
    if len(scored) != 1:
        names = ", ".join(scored) or "none"
        raise ConfigurationError(f"{len(scored)} inputs are scored ({names}); choose one with `source`")
    return scored[0]


def _as_polars(frame: Any) -> pl.DataFrame:
    return frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)


def _empty(plan: Plan, target: str) -> pl.DataFrame:
    source = plan.sources[target]
    reader = plan.readers[target]
    none = np.zeros(0, dtype=np.int64)
    texts = {field.name: field.dtype == "string" for field in source.fields}
    batch = SourceBatch(
        source=source,
        event_ids=[],
        event_time=none,
        received_time=none,
        partition=none.astype(np.int32),
        offset=none,
        position=none,
        columns={name: [] if text else none.astype(np.float64) for name, text in texts.items()},
    )
    matrix = FeatureMatrix(
        batch=batch,
        names=reader.names,
        values=np.empty((0, len(reader.names))),
        strings={name: [] for name in reader.text_names},
        flags={},
        duplicate=none.astype(np.bool_),
        late=none.astype(np.bool_),
    )
    return output_frame(plan, matrix)
