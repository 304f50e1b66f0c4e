"""Recorded sources as micro-batches, merged by time: what materializing, backtests and dry runs read.

Files and frames are read ahead as far as merging needs, so that only a part of them is in memory. The order is that of
live scoring (features/offline/order.py): the k-th row depends only on rows that were known by its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from features.core.batch import MicroBatch, SourceBatch
from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.definitions.spec import Source
from features.offline.order import arrange
from features.offline.reader import FrameReader, concatenated
from features.offline.recorded import chunks

BATCH_SIZE = 32_768


def batches(plan: Plan, inputs: Mapping[str, pl.LazyFrame], size: int = BATCH_SIZE) -> Iterator[MicroBatch]:
    """Events of all inputs merged by time, in micro-batches of about `size` a source."""
    unknown = [name for name in inputs if name not in plan.sources]
    if unknown:
        raise ConfigurationError(f"input `{unknown[0]}` is no source; known: {', '.join(plan.sources)}")
    queues = [_SourceQueue(plan.sources[name], frame, size) for name, frame in inputs.items()]
    queues.sort(key=lambda queue: queue.source.name)
    while True:
        for queue in queues:
            queue.fill()
        open_ends = [queue.last for queue in queues if not queue.exhausted]
        bound = min(open_ends) if open_ends else None
        source_batches = [batch for queue in queues if (batch := queue.take(bound)) is not None]
        if source_batches:
            yield arrange(source_batches)
        elif bound is None:
            return
        else:
            for queue in queues:
                if not queue.exhausted and queue.last == bound:
                    queue.more()


class _SourceQueue:
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
