"""Compiles the engine before a worker joins its group or a service listens: on a new machine that takes a minute,
later milliseconds.

Inside a unit of work the compilation would stall the whole consumer group, inside a request its caller.
"""

from __future__ import annotations

import gc

import numpy as np

from features.core.batch import Column, MicroBatch, SourceBatch
from features.definitions.plan import Plan
from features.definitions.spec import Source
from features.engine.engine import FeatureEngine


def warm_up(plan: Plan, shards: int) -> None:
    """One event of each source through an engine that is thrown away: read, fold, encode, decode."""
    batches = tuple(_one_event(source, position) for position, source in enumerate(plan.sources.values()))
    engine = FeatureEngine(plan, shards=shards)
    prepared = engine.prepare(MicroBatch(batches))
    engine.run(prepared)
    dirty = engine.take_dirty()
    engine.drop_all()
    prepared = engine.prepare(MicroBatch(batches))
    for keys in engine.entity_keys(prepared):
        if len(keys.indices):
            key = int(keys.indices[0])
            own = [
                (key, run.source, run.partition, row)
                for run in dirty
                for row in run.rows
                if run.entity == keys.entity
            ]
            engine.load(keys.entity, keys.indices, own, set(), 0)
    engine.fold(prepared)
    # Compiled code and modules stay: looking through them again would take tens of milliseconds each time.
    gc.collect()
    gc.freeze()


def _one_event(source: Source, position: int) -> SourceBatch:
    """An event whose fields are all empty or zero."""
    columns: dict[str, Column] = {
        field.name: ["x"] if field.dtype == "string" else np.zeros(1) for field in source.fields
    }
    return SourceBatch(
        source=source,
        event_ids=["x"],
        event_time=np.zeros(1, np.int64),
        received_time=np.zeros(1, np.int64),
        partition=np.zeros(1, np.int32),
        offset=np.zeros(1, np.int64),
        position=np.full(1, position, np.int64),
        columns=columns,
        keys=[b"x"],
        headers=[None],
    )
