"""The yardstick of the regression check: the common job as a plain Python loop, without servers.

FROZEN: never make it faster or slower. `make bench` compares the worker's CPU per event with this
loop's in the same run, so that the machine's speed and mood cancel out.
"""

from __future__ import annotations

import json
import time

import numpy as np
import onnxruntime

from benchmarks.job.build import Job
from benchmarks.job.events import encode
from benchmarks.job.windows import Ring, card_features, customer_features, merchant_features

EVENTS = 20_000


def cpu_us_per_event(job: Job) -> float:
    """CPU of one event: parse, three dictionaries of rings, one model call a row."""
    session = onnxruntime.InferenceSession(
        str(job.folder / "model.onnx"), _one_thread(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    rings: dict[str, Ring] = {}
    alerts = 0
    values = [value for _, value in encode(job.events, 0, EVENTS)]
    begin = time.process_time()
    for value in values:
        event = json.loads(value)
        moment, amount = event["event_time"], event["amount"]
        row = [amount]
        row += card_features(rings.setdefault(event["card_id"], Ring()), moment, amount)
        row += customer_features(rings.setdefault(event["customer_id"], Ring()), moment, amount)
        row += merchant_features(rings.setdefault(event["merchant_id"], Ring()), moment, amount)
        scores = session.run(None, {name: np.array([row], dtype=np.float32)})[1]
        alerts += int(scores[0, 1] >= job.threshold)
    used = time.process_time() - begin
    if alerts != len(job.expected(EVENTS)):
        raise SystemExit(f"the frozen loop found {alerts} alerts, not {len(job.expected(EVENTS))}")
    return used / EVENTS * 1e6


def _one_thread() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return options
