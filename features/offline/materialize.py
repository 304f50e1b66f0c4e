"""Runs a plan over recorded events: the engine of live scoring, fed from files or frames.

Files are read and written in pieces; only the state of the entities stays in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import polars as pl

from features.core.batch import FeatureMatrix
from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.derived import DerivedFeatures
from features.definitions.plan import Plan
from features.definitions.spec import Definitions
from features.engine.engine import FeatureEngine
from features.offline.merge import batches
from features.offline.output import PieceWriter, empty_frame, output_frame
from features.offline.recorded import reading, scan

F = TypeVar("F")

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
    tables = [output_frame(plan, matrix) for matrix in matrices(plan, inputs, target, profiles)]
    result = pl.concat(tables) if tables else empty_frame(plan, target)
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
        pieces = PieceWriter(Path(folder))
        for matrix in matrices(plan, scans, target, profiles, counted):
            pieces.add(output_frame(plan, matrix))
        pieces.join(empty_frame(plan, target)).replace(path)
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
        names = ", ".join(profile.name for profile in plan.readers[target].profiles)
        raise ConfigurationError(f"source `{target}` has profiles ({names}); give them too")
    for batch in batches(plan, inputs):
        matrix = engine.run(engine.prepare(batch)).get(target)
        if counted is not None:
            counted(len(batch))
        if matrix is not None and len(matrix):
            joined = matrix if profiles is None else profiles.join(matrix)
            yield derived.add(joined)


class _Counted:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self.done = 0

    def __call__(self, rows: int) -> None:
        self.done += rows
        if self._progress is not None:
            self._progress(self.done, self._total)


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
