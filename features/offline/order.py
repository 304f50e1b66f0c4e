"""The scoring order: a function of what a micro-batch holds, not of how it arrived, live and in files alike.

Partitions are merged by event time; inside one partition offset order always holds, so an event that is late in
its partition stays where it is there. Ties: labels before scored events, then topic, partition, offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Ints, MicroBatch, SourceBatch

Floors = Mapping[tuple[str, int], int]
_NONE: Floors = {}


def arrange(source_batches: Sequence[SourceBatch], floors: Floors = _NONE) -> MicroBatch:
    """A micro-batch whose positions are the scoring order; each source's rows come in that order.

    Rows of one partition are expected in offset order. `floors` say how far (topic, partition) had come before.
    """
    filled = [batch for batch in source_batches if len(batch)]
    if len(filled) == 1 and _one_partition(filled[0].partition):
        filled[0].position = np.arange(len(filled[0]), dtype=np.int64)
        return MicroBatch((filled[0],))
    order = _order(filled, floors)
    positions = np.empty(len(order), dtype=np.int64)
    positions[order] = np.arange(len(order))
    arranged, start = [], 0
    for batch in filled:
        own = positions[start : start + len(batch)]
        placed = replace(batch, position=own)
        arranged.append(placed if _ascends(own) else placed.take(np.argsort(own, kind="stable")))
        start += len(batch)
    return MicroBatch(tuple(arranged))


def _one_partition(partition: NDArray[np.int32]) -> bool:
    return bool(partition[0] == partition[-1] and (partition == partition[0]).all())


def _ascends(positions: Ints) -> bool:
    return bool((positions[1:] > positions[:-1]).all())


def _order(batches: Sequence[SourceBatch], floors: Floors) -> Ints:
    if not batches:
        return np.zeros(0, dtype=np.int64)
    ranks = {topic: rank for rank, topic in enumerate(sorted(batch.source.topic for batch in batches))}
    columns = (
        np.concatenate([batch.offset for batch in batches]),
        np.concatenate([batch.partition for batch in batches]),
        np.concatenate([np.full(len(batch), ranks[batch.source.topic]) for batch in batches]),
        np.concatenate([np.full(len(batch), batch.source.scored) for batch in batches]),
        np.concatenate([reached(batch, floors) for batch in batches]),
    )
    return np.lexsort(columns)


def reached(batch: SourceBatch, floors: Floors = _NONE) -> Ints:
    """The newest event time in an event's partition up to it: never falls, so offset order holds."""
    out = np.empty(len(batch), dtype=np.int64)
    for partition in batch.partitions:
        own = batch.partition == partition
        out[own] = np.maximum.accumulate(batch.event_time[own])
        floor = floors.get((batch.source.topic, partition))
        if floor is not None:
            np.maximum(out, floor, out=out, where=own)
    return out
