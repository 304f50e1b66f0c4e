"""Tables on disk in parts of a fixed number of rows: what a run keeps, and what a killed one goes on from.

Part k holds rows [k * size, (k + 1) * size) whatever the frames were that came in, and appears as a whole or not
at all. So the parts of two runs over the same events are the same, however often either was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from features.core.batch import Floats

PART_ROWS = 200_000
_LOOK_S = 0.05
_GROUP_ROWS = 50_000


def parts_of(folder: Path) -> list[Path]:
    """The parts there are, in order."""
    return sorted(folder.glob("part-*.parquet"))


class PartWriter:
    """Appends rows to a folder's parts. `kept` are the rows that an earlier run left there."""

    def __init__(self, folder: Path, size: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.tmp"):
            left.unlink()
        self._folder = folder
        self._size = size = size or PART_ROWS
        parts = parts_of(folder)
        self._held = [pl.read_parquet(parts[-1])] if parts else []
        self._whole = max(0, len(parts) - 1)
        self.kept = self._whole * size + self._held_rows
        self._spill()

    @property
    def _held_rows(self) -> int:
        return sum(frame.height for frame in self._held)

    def add(self, frame: pl.DataFrame) -> None:
        """Rows to come after all before."""
        if frame.height:
            self._held.append(frame)
            self._spill()

    def close(self) -> None:
        """Write what is left as a short last part; rows added by a later run fill it up."""
        if self._held_rows:
            self._write(pl.concat(self._held))

    def _spill(self) -> None:
        if self._held_rows < self._size:
            return
        held = pl.concat(self._held)
        while held.height >= self._size:
            self._write(held.head(self._size))
            self._whole += 1
            held = held.slice(self._size)
        self._held = [held.rechunk()] if held.height else []

    def _write(self, frame: pl.DataFrame) -> None:
        final = _part(self._folder, self._whole)
        temporary = final.with_suffix(".tmp")
        frame.rechunk().write_parquet(temporary, compression="lz4", row_group_size=_GROUP_ROWS)
        temporary.replace(final)


class PartReader:
    """Reads a folder's rows in order, holding one part.

    With `ended` the folder is still being written, and the reader waits: a part is taken once the next one is there,
    or `ended` says that nothing more will come.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str] | None = None, ended: Callable[[], bool] | None = None
    ) -> None:
        self._folder = folder
        self._columns = columns
        self._ended = ended
        self._next_part = 0
        self._held = pl.DataFrame()

    def head(self, rows: int) -> pl.DataFrame:
        """The next rows, fewer where the parts end."""
        return pl.concat(list(self._next(rows)) or [self._held])

    def until(self, column: str, bound: int) -> pl.DataFrame:
        """The next rows whose value in an ascending integer column is below `bound`."""
        taken = []
        while self._refill():
            count = int(np.searchsorted(self._held[column].to_numpy(), bound))
            taken.append(self._held.head(count))
            self._held = self._held.slice(count)
            if self._held.height:
                break
        return pl.concat(taken) if taken else self._held

    def _next(self, rows: int) -> Iterator[pl.DataFrame]:
        while rows and self._refill():
            taken = self._held.head(rows)
            self._held = self._held.slice(rows)
            rows -= taken.height
            yield taken

    def _refill(self) -> bool:
        while not self._held.height:
            self._wait()
            part = _part(self._folder, self._next_part)
            if not part.exists():
                return False
            columns = None if self._columns is None else list(self._columns)
            self._held = pl.read_parquet(part, columns=columns)
            self._next_part += 1
        return True

    def _wait(self) -> None:
        if self._ended is not None:
            while not _part(self._folder, self._next_part + 1).exists() and not self._ended():
                time.sleep(_LOOK_S)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06}.parquet"


class KnownScores:
    """Scores that an interrupted run left, handed out in the order in which they were kept."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._reader = PartReader(folder, columns)
        self._left = sum(pl.scan_parquet(one).select(pl.len()).collect().item() for one in parts_of(folder))

    def take(self, rows: int) -> list[Floats] | None:
        """The next scores, one array a column; None from the first batch on that is not wholly known."""
        if rows > self._left:
            self._left = 0
            return None
        self._left -= rows
        frame = self._reader.head(rows)
        return [frame[name].to_numpy() for name in frame.columns]
