"""What a share computed, on disk; and the shares put together again in the order of the events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from features.core.batch import FeatureMatrix, Floats, Ints, MicroBatch, SourceBatch
from features.core.errors import FatalError
from stream.replay.backtest.parts import KnownScores, PartReader, PartWriter
from stream.replay.backtest.request import Span
from stream.replay.backtest.scoring import Scored, SettingGroup, reported


class Shared(msgspec.Struct, frozen=True):
    """What became of a share: how many events it went through, whether these are all, what stopped it."""

    events: int
    complete: bool
    error: str | None = None


Ended = Callable[[int], Shared | None]
SPILL_ROWS = 50_000
_FEATURE, _TEXT, _FLAG = "feature:", "text:", "flag:"


class Spill:
    """Where one share keeps one group's scored events; a run that was interrupted finds its scores there."""

    def __init__(self, folder: Path, group: SettingGroup) -> None:
        self._scores = [f"score:{number}" for number in range(len(group.sides))]
        sources = list(group.plan.readers)
        self._writers = {source: PartWriter(folder / source, SPILL_ROWS) for source in sources}
        self._known = {source: KnownScores(folder / source, self._scores) for source in sources}
        self._skip = {source: writer.kept for source, writer in self._writers.items()}

    def known(self, source: str, rows: int) -> list[Floats] | None:
        """See `scoring.Known`."""
        return self._known[source].take(rows)

    def add(self, scored: Scored) -> None:
        """Keep what is not kept yet."""
        source = scored.matrix.batch.source.name
        skip = min(self._skip[source], len(scored.position))
        self._skip[source] -= skip
        if skip < len(scored.position):
            self._writers[source].add(_frame(scored, self._scores).slice(skip))

    def close(self) -> None:
        """Write what is held."""
        for writer in self._writers.values():
            writer.close()


class Rejoin:
    """Scored events of all shares, batch by batch: what one process would have computed.

    `ended` says of a share what became of it, None while it is under way; its scores are read as they come.
    """

    def __init__(self, folders: Sequence[Path], group: SettingGroup, span: Span, ended: Ended) -> None:
        self._sides = len(group.sides)
        self._span = span
        self._ended = ended
        self._shares = range(len(folders))
        self._readers = {
            source: [
                PartReader(folder / source, ended=lambda share=share: ended(share) is not None)  # type: ignore[misc]
                for share, folder in enumerate(folders)
            ]
            for source in group.plan.readers
        }

    def scored(self, batch: MicroBatch, start: int) -> list[Scored] | None:
        """The reported events of a batch; None where a share ended before. FatalError where they are not these."""
        found = []
        for part in batch.source_batches:
            readers = self._readers.get(part.source.name, ())
            rows = reported(part, self._span) if readers else np.zeros(0, np.int64)
            if not len(rows):
                continue
            picked = part if len(rows) == len(part) else part.take(rows)
            position = start + picked.position
            frames = [reader.until("position", int(position[-1]) + 1) for reader in readers]
            if self._short(start + len(batch)):
                return None
            frame = pl.concat([one for one in frames if one.width], how="vertical").sort("position")
            if not np.array_equal(frame["position"].to_numpy(), position):
                raise FatalError("the shares under --work are not of these events; remove the folder")
            found.append(_scored(frame, picked, position, self._sides))
        return found

    def _short(self, events: int) -> bool:
        """Whether a share has ended without all of so many events."""
        outcomes = [self._ended(share) for share in self._shares]
        return any(one is not None and not one.complete and one.events < events for one in outcomes)


def _frame(scored: Scored, scores: list[str]) -> pl.DataFrame:
    matrix = scored.matrix
    columns = {"position": pl.Series(scored.position)}
    columns |= dict(zip(scores, map(pl.Series, scored.scores), strict=True))
    columns |= {"duplicate": pl.Series(matrix.duplicate), "late": pl.Series(matrix.late)}
    columns |= {f"{_FEATURE}{name}": pl.Series(matrix.values[:, at]) for at, name in enumerate(matrix.names)}
    columns |= {f"{_TEXT}{name}": pl.Series(texts, dtype=pl.String) for name, texts in matrix.strings.items()}
    columns |= {f"{_FLAG}{name}": pl.Series(flag) for name, flag in matrix.flags.items()}
    return pl.DataFrame(columns)


def _scored(frame: pl.DataFrame, batch: SourceBatch, position: Ints, sides: int) -> Scored:
    def named(prefix: str) -> list[str]:
        return [name for name in frame.columns if name.startswith(prefix)]

    names = named(_FEATURE)
    values = np.empty((frame.height, len(names)))
    for at, name in enumerate(names):
        values[:, at] = frame[name].to_numpy()
    matrix = FeatureMatrix(
        batch=batch,
        names=tuple(name.removeprefix(_FEATURE) for name in names),
        values=values,
        strings={name.removeprefix(_TEXT): frame[name].to_list() for name in named(_TEXT)},
        flags={name.removeprefix(_FLAG): frame[name].to_numpy().copy() for name in named(_FLAG)},
        duplicate=frame["duplicate"].to_numpy(),
        late=frame["late"].to_numpy(),
    )
    return Scored(matrix, position, [frame[f"score:{number}"].to_numpy() for number in range(sides)])
