"""Small real models and matrices for the tests: scikit-learn in, bundles out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from features.core.batch import FeatureMatrix, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.spec import Aggregation, Definitions, Derived, FeatureView
from models.bundles.bundle import Contents, LoadedModel, load, write
from models.bundles.signing import Trust
from models.core.manifest import Manifest
from tests.definitions import CARD, make_source

SOURCE = make_source(
    "payments",
    {
        "id": "string",
        "time": "timestamp",
        "card": "string",
        "amount": "float64",
        "age": "float64",
        "channel": "string",
    },
    key="card",
    amount="amount",
    time_format="us",
)
DEFINITIONS = Definitions(
    sources=(SOURCE,),
    entities=(CARD,),
    views=(
        FeatureView(
            name="card_activity",
            source="payments",
            entity="card",
            windows=("1d",),
            aggregations=(
                Aggregation(function="count", name="n"),
                Aggregation(function="mean", column="age"),
            ),
        ),
    ),
    derived=(Derived(name="ratio", sql="amount / 100", source="payments"),),
    protected=("age",),
)
FEATURES = ("amount", "n", "ratio")
TRUST = Trust(allow_unsigned=frozenset({"fraud"}))


@cache
def plan() -> Plan:
    return compile_plan(DEFINITIONS)


def training_set(rows: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 3)).astype(np.float32)
    bad = inputs[:, 0] + 0.7 * inputs[:, 1] + rng.normal(scale=0.5, size=rows) > 1.0
    return inputs, bad.astype(int)


@cache
def estimator(kind: str = "forest") -> Any:
    inputs, bad = training_set(2000)
    made = (
        RandomForestClassifier(30, max_depth=6, random_state=1) if kind == "forest" else LogisticRegression()
    )
    return made.fit(inputs, bad)


@cache
def graph(kind: str = "forest") -> bytes:
    types = [("features", FloatTensorType([None, 3]))]
    return to_onnx(estimator(kind), initial_types=types, options={"zipmap": False}).SerializeToString()


def contents(kind: str = "forest", **changes: Any) -> Contents:
    inputs, _ = training_set(20, seed=7)
    fields = {
        "name": "fraud", "version": "1", "algorithm": kind, "source": "payments", "files": {},
        "plan": plan().fingerprint, "numeric": FEATURES, "categorical": (),
        "baseline": dict.fromkeys(FEATURES, 0.0), "thresholds": {"cheapest": 0.6},
    }  # fmt: skip
    return Contents(
        manifest=Manifest(**{**fields, **changes}),
        model=graph(kind),
        golden={name: inputs[:, place].tolist() for place, name in enumerate(FEATURES)},
        golden_scores=estimator(kind).predict_proba(inputs)[:, 1].tolist(),
        card="# fraud\n",
    )


def model(directory: Path, kind: str = "forest", **changes: Any) -> LoadedModel:
    place = str(directory / kind)
    write(place, contents(kind, **changes))
    return load(place, TRUST, plan())


@dataclass
class Rows:
    """Makes feature matrices of `n` payments a minute apart."""

    n: int
    seed: int = 3
    start: int = 0
    minutes: float = 1.0
    cards: int = 50

    def matrix(self) -> FeatureMatrix:
        inputs, _ = training_set(self.n, self.seed)
        rng = np.random.default_rng(self.seed)
        time = np.arange(self.start, self.start + self.n, dtype=np.int64) * int(60_000_000 * self.minutes)
        ids = [f"e{number}" for number in range(self.start, self.start + self.n)]
        batch = SourceBatch(
            source=SOURCE,
            event_ids=ids,
            event_time=time,
            received_time=time,
            partition=np.zeros(self.n, dtype=np.int32),
            offset=np.arange(self.start, self.start + self.n, dtype=np.int64),
            position=np.arange(self.n, dtype=np.int64),
            columns={
                "id": list(ids),
                "time": time.astype(np.float64),
                "card": [f"c{number}" for number in rng.integers(self.cards, size=self.n)],
                "amount": inputs[:, 0].astype(np.float64),
                "age": rng.integers(18, 90, self.n).astype(np.float64),
                "channel": [("web", "shop", None)[number] for number in rng.integers(3, size=self.n)],
            },
        )
        values = np.column_stack([inputs[:, 1], np.full(self.n, 40.0), inputs[:, 2]]).astype(np.float64)
        return FeatureMatrix(
            batch=batch,
            names=("n", "age_mean_1d_by_card", "ratio"),
            values=values,
            strings={},
            flags={},
            duplicate=np.zeros(self.n, dtype=np.bool_),
            late=np.zeros(self.n, dtype=np.bool_),
        )
