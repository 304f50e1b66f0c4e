"""Features and alerts of the common job, computed offline and independently of any worker.

Per entity the events are sorted by key and time; a window is then a range of rows found by binary
search, and every function is taken over that range by itself. Slow and obvious on purpose: no running sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.job.events import Events
from benchmarks.job.spec import AMOUNT, ENTITIES, FEATURES, WINDOWS, feature_name

Floats = NDArray[np.float64]


def _value(function: str, window: Floats) -> float:
    if function == "count":
        return float(len(window))
    if function == "mean":
        return float(window.sum() / len(window))
    if function == "max":
        return float(window.max())
    return float(np.std(window, ddof=1)) if len(window) > 1 else 0.0


def _entity_features(keys: NDArray[np.int64], events: Events, functions: tuple[str, ...]) -> Floats:
    """float64[n, len(functions) * len(WINDOWS)], in the order of FEATURES."""
    out = np.empty((len(keys), len(functions) * len(WINDOWS)))
    amounts = events.amount.astype(np.float64)
    order = np.argsort(keys, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        times, values = events.time[rows], amounts[rows]
        for place, (_, length) in enumerate(WINDOWS):
            starts = np.searchsorted(times, times - length, side="right")
            for at, start in enumerate(starts):
                window = values[start : at + 1]
                for kind, function in enumerate(functions):
                    out[rows[at], kind * len(WINDOWS) + place] = _value(function, window)
    return out


def features(events: Events) -> NDArray[np.float32]:
    """float32[n, 25]: the model's input for every event, columns in the order of FEATURES."""
    columns = {AMOUNT: events.amount.astype(np.float64)}
    for entity, functions in ENTITIES.items():
        block = _entity_features(getattr(events, entity), events, functions)
        names = [feature_name(entity, function, window) for function in functions for window, _ in WINDOWS]
        columns.update(zip(names, block.T, strict=True))
    return np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)
