"""The closing summary as figures: what `riskstream demo --json` prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.demo.bank.days import APPLICATIONS, TRANSACTIONS
from stream.demo.screen.watch import Hits, Watch


def figures(watch: Watch) -> dict[str, Any]:
    """`precision` and `recall` are of fraud among card transactions; loans have their own."""
    fraud = watch.hits[TRANSACTIONS.topic]
    latency = np.frombuffer(watch.latency_ms, dtype=np.float64)
    return {
        "produced": watch.produced,
        "scored": watch.scored,
        "dead_lettered": watch.dead_lettered,
        "alerts": watch.alerts,
        "precision": rounded(fraud.precision),
        "recall": rounded(fraud.recall),
        "latency_ms": {"p50": percentile(latency, 50), "p99": percentile(latency, 99)},
        "fraud": _details(fraud),
        "loans": _details(watch.hits[APPLICATIONS.topic]),
    }


def _details(hits: Hits) -> dict[str, Any]:
    return {
        "events": hits.events,
        "bad": hits.bad,
        "alerts": hits.alerts,
        "right": hits.caught,
        "precision": rounded(hits.precision),
        "recall": rounded(hits.recall),
        "found_by_kind": {
            kind: f"{hits.caught_by_kind[kind]} of {n}" for kind, n in hits.bad_by_kind.items()
        },
    }


def rounded(share: float | None) -> float | None:
    """Four decimals; none where nothing was counted."""
    return None if share is None else round(share, 4)


def percentile(values: np.ndarray[Any, np.dtype[np.float64]], q: float) -> float | None:
    """One decimal; none where nothing was measured."""
    return round(float(np.percentile(values, q)), 1) if len(values) else None
