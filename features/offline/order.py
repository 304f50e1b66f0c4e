"""Scoring order inside a micro-batch: a function of what the batch holds, not of how it arrived.

Partitions are merged by event time; inside one partition offset order always holds, so an event that is late in
its partition keeps its place there. Ties: labels before scored events, then topic, partition, offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from features.core.batch import Ints, MicroBatch, SourceBatch

Floors = Mapping[tuple[str, int], int]
_NONE: Floors = {}


def arrange(parts: Sequence[SourceBatch], floors: Floors = _NONE) -> MicroBatch:
    """A micro-batch whose positions are the scoring order; each part's rows come in that order.

    Rows of one partition are expected in offset order. `floors` say how far (topic, partition) had come before.
    """
    held = [part for part in parts if len(part)]
    if len(held) == 1 and held[0].partition[0] == held[0].partition[-1] and _one_partition(held[0]):
        held[0].position = np.arange(len(held[0]), dtype=np.int64)
        return MicroBatch((held[0],))
    order = _order(held, floors)
    positions = np.empty(len(order), dtype=np.int64)
    positions[order] = np.arange(len(order))
    out, start = [], 0
    for part in held:
        own = positions[start : start + len(part)]
        out.append(replace(part, position=own).take(np.argsort(own, kind="stable")))
        start += len(part)
    return MicroBatch(tuple(out))


def _one_partition(part: SourceBatch) -> bool:
    return bool((part.partition == part.partition[0]).all())


def _order(parts: Sequence[SourceBatch], floors: Floors) -> Ints:
    if not parts:
        return np.zeros(0, dtype=np.int64)
    ranks = {topic: rank for rank, topic in enumerate(sorted(part.source.topic for part in parts))}
    columns = (
        np.concatenate([part.offset for part in parts]),
        np.concatenate([part.partition for part in parts]),
        np.concatenate([np.full(len(part), ranks[part.source.topic]) for part in parts]),
        np.concatenate([np.full(len(part), part.source.scored) for part in parts]),
        np.concatenate([reached(part, floors) for part in parts]),
    )
    return np.lexsort(columns)


def reached(part: SourceBatch, floors: Floors = _NONE) -> Ints:
    """The newest event time in an event's partition up to it: never falls, so offset order holds."""
    out = np.empty(len(part), dtype=np.int64)
    for partition in part.partitions:
        own = part.partition == partition
        out[own] = np.maximum.accumulate(part.event_time[own])
        floor = floors.get((part.source.topic, partition))
        if floor is not None:
            np.maximum(out, floor, out=out, where=own)
    return out
