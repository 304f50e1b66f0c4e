"""How cost grows: the feature engine alone, one thing varied at a time; and the model by its size.

Each figure is CPU per event of `prepare` and `run` over batches of 4,000 columnar events, after
a warm-up that compiles the kernel and fills the state. Linear where it should be (views,
features), flat where it should be (entities, events beyond the ring's capacity).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from benchmarks.job.build import Job
from benchmarks.job.model import DEPTH, TRAINING_EVENTS
from features.core.batch import MicroBatch, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, Function, Source
from features.engine.engine import FeatureEngine
from models.core.base import ModelInputs
from models.core.manifest import Manifest
from models.formats.onnx_model import OnnxGraph

BATCH = 4_000
MEASURED = 100_000
WINDOWS = ("1h", "1d", "7d", "30d")
WINDOW_US = 30 * 86_400_000_000
FUNCTIONS: tuple[Function, ...] = ("count", "mean", "std", "max", "min", "sum", "first", "last")
START_US = 1_772_323_200_000_000

Row = dict[str, Any]
Score = Callable[[NDArray[np.float32]], object]


def _definitions(views: int, functions: tuple[Function, ...]) -> Definitions:
    keys = [f"key{number}" for number in range(views)]
    fields = [Field(name="event_id", dtype="string"), Field(name="event_time", dtype="timestamp")]
    fields += [Field(name=key, dtype="string") for key in keys]
    fields.append(Field(name="amount", dtype="float64"))
    source = Source(
        name="events", topic="events", event_id="event_id", event_time="event_time", fields=tuple(fields)
    )
    aggregations = tuple(
        Aggregation(function=function, column=None if function == "count" else "amount")
        for function in functions
    )
    return Definitions(
        sources=(source,),
        entities=tuple(Entity(name=f"entity{number}", keys=(key,)) for number, key in enumerate(keys)),
        views=tuple(
            FeatureView(
                name=f"view{number}",
                source="events",
                entity=f"entity{number}",
                windows=WINDOWS,
                aggregations=aggregations,
            )
            for number in range(views)
        ),
        lateness="1h",
    )


def _batches(source: Source, keys: NDArray[np.int64], gap_us: int, first: int = 0) -> Iterator[MicroBatch]:
    """Events one after another, `gap_us` apart; all key columns of an event hold the same number."""
    rng = np.random.default_rng(first + 1)
    names = [item.name for item in source.fields if item.name.startswith("key")]
    for begin in range(0, len(keys), BATCH):
        part = keys[begin : begin + BATCH]
        rows = np.arange(first + begin, first + begin + len(part), dtype=np.int64)
        times = START_US + rows * gap_us
        ids: list[str] = [f"e{row}" for row in rows.tolist()]
        columns: dict[str, Any] = {name: [f"k{key}" for key in part.tolist()] for name in names}
        columns |= {"event_id": ids, "event_time": times.astype(np.float64)}
        columns["amount"] = rng.integers(100, 100_000, len(part)).astype(np.float64)
        yield MicroBatch(
            (
                SourceBatch(
                    source=source,
                    event_ids=ids,
                    event_time=times,
                    received_time=times,
                    partition=np.zeros(len(part), dtype=np.int32),
                    offset=rows,
                    position=np.arange(len(part), dtype=np.int64),
                    columns=columns,
                ),
            )
        )


def _run(engine: FeatureEngine, batches: Iterable[MicroBatch]) -> float:
    """CPU seconds of the engine over the batches; making the batches is not counted."""
    used = 0.0
    for batch in batches:
        begin = time.thread_time()
        engine.run(engine.prepare(batch))
        used += time.thread_time() - begin
        engine.take_dirty()
    return used


def _case(
    entities: int, events_in_window: int, views: int = 1, functions: tuple[Function, ...] = ("count", "mean")
) -> tuple[float, float]:
    """(us per event, bytes of memory per entity and view) with every entity holding that many events."""
    definitions = _definitions(views, functions)
    engine = FeatureEngine(compile_plan(definitions))
    source = definitions.sources[0]
    fill = np.tile(np.arange(entities, dtype=np.int64), events_in_window)
    gap_us = max(1, WINDOW_US // max(1, len(fill)))
    _run(engine, _batches(source, fill, gap_us))
    keys = np.random.default_rng(7).integers(0, entities, MEASURED)
    used = _run(engine, _batches(source, keys, gap_us, first=len(fill)))
    return used / MEASURED * 1e6, engine.memory_bytes() / entities / views


def entities(most: int) -> list[Row]:
    """Number of entities, ten events each."""
    counts = [count for count in (10_000, 100_000, 1_000_000, 10_000_000) if count <= most]
    out = []
    for count in counts:
        cost, memory = _case(count, 10 if count < 1_000_000 else 2)
        out.append({"entities": count, "us_per_event": cost, "memory_bytes_per_entity": memory})
    return out


def window_events() -> list[Row]:
    """Events in the longest window of each entity, below and beyond the ring's capacity of 512."""
    out = []
    for events in (1, 8, 64, 500, 4_000, 32_000):
        cost, memory = _case(max(10, 256_000 // events), events)
        out.append({"events_in_window": events, "us_per_event": cost, "memory_bytes_per_entity": memory})
    return out


def views() -> list[Row]:
    """Views, each of an entity of its own with eight features."""
    return [
        {"views": count, "features": count * 8, "us_per_event": _case(10_000, 16, count)[0]}
        for count in (1, 2, 4, 8)
    ]


def functions() -> list[Row]:
    """Features of one view: functions over four windows."""
    return [
        {"features": count * 4, "us_per_event": _case(10_000, 16, 1, FUNCTIONS[:count])[0]}
        for count in (1, 2, 4, 8)
    ]


def model_sizes(job: Job) -> list[Row]:
    """ONNX Runtime by number of trees: microseconds a row in a batch, and for a single row."""
    matrix = np.load(job.folder / "scores.npz")["matrix"]
    out = []
    for trees in (10, 50, 100, 200, 400):
        forest = RandomForestClassifier(trees, max_depth=DEPTH, min_samples_leaf=20, random_state=0, n_jobs=1)
        forest.fit(matrix[:TRAINING_EVENTS:3], job.events.fraud[:TRAINING_EVENTS:3])
        data = to_onnx(forest, matrix[:1], options={"zipmap": False}, target_opset=17).SerializeToString()
        served, runtime = _served(data, matrix.shape[1]), _runtime(data)
        out.append(
            {
                "trees": trees,
                "us_per_row": _score_us(served, matrix[:4000], 20),
                "us_single_row": _score_us(served, matrix[:1], 2_000),
                "runtime_us_per_row": _score_us(runtime, matrix[:4000], 20),
                "runtime_us_single_row": _score_us(runtime, matrix[:1], 2_000),
            }
        )
    return out


def _served(graph: bytes, width: int) -> Score:
    """As riskstream scores: trees walked."""
    manifest = Manifest(
        name="forest",
        version="1",
        algorithm="random_forest",
        source="events",
        plan="",
        numeric=tuple(f"f{place}" for place in range(width)),
        categorical=(),
        baseline={},
        files={},
        input="X",
        output="probabilities",
    )
    opened = OnnxGraph(graph, manifest, "scaling")
    return lambda rows: opened.run(ModelInputs(rows, {}))


def _runtime(graph: bytes) -> Score:
    """ONNX Runtime alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["probabilities"], {"X": rows})


def _score_us(score: Score, rows: NDArray[np.float32], times: int) -> float:
    score(rows)
    begin = time.thread_time()
    for _ in range(times):
        score(rows)
    return (time.thread_time() - begin) / times / len(rows) * 1e6
