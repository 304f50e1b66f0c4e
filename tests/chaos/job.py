"""The job of the chaos tests: definitions, a model, a policy, events, and the undisturbed reference.

The model sees only features of the card's own transactions: those are promised to be the same whatever fails.
Features of merchants and of labels depend on how far other partitions were; alerts record their stamps.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from features.core.batch import FeatureMatrix, Floats
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, LabelOf
from features.engine.engine import FeatureEngine
from features.offline.order import arrange
from models.core.base import ModelInputs, ModelVersion, Signature
from models.decision.policy import load_policy
from stream.codecs.alerts import AlertEncoder
from stream.codecs.json import JsonDecoder
from stream.codecs.messages import RawBatch, RawMessage
from stream.scoring.scorer import Scorer
from tests.chaos.produced import Produced
from tests.chaos.stamps import Shared
from tests.definitions import CARD, make_source

PARTITIONS = 4
SHARDS = 8
START = 1_700_000_000_000
POLICY = Path(__file__).parent / "policy.toml"
COMPARED = ("count", "sum", "mean", "std", "min", "max", "last", "distinct", "elapsed")


def definitions(prefix: str = "") -> Definitions:
    """Transactions by card and merchant, chargebacks of cards; `prefix` goes before the topics' names."""
    card = tuple(
        Aggregation(function=function, column=None if function in ("count", "elapsed") else "amount")  # type: ignore[arg-type]
        for function in COMPARED
    )
    both = (Aggregation(function="count"), Aggregation(function="sum", column="amount"))
    return Definitions(
        sources=(
            make_source(
                "tx",
                {
                    "id": "string",
                    "at": "timestamp",
                    "card": "string",
                    "merchant": "string",
                    "amount": "float64",
                },
                topic=f"{prefix}tx",
                key="card",
                amount="amount",
            ),
            make_source(
                "labels",
                {
                    "label_id": "string",
                    "id": "string",
                    "at": "timestamp",
                    "known": "timestamp",
                    "card": "string",
                    "fraud": "bool",
                },
                topic=f"{prefix}labels",
                event_time="known",
                key="card",
                labels=LabelOf(event_id="id", value="fraud", event_time="at"),
            ),
        ),
        entities=(CARD, Entity(name="merchant", keys=("merchant",))),
        views=(
            FeatureView(name="spend", source="tx", entity="card", aggregations=card, windows=("1h", "6h")),
            FeatureView(name="sales", source="tx", entity="merchant", aggregations=both, windows=("1h",)),
            FeatureView(
                name="fraud",
                source="labels",
                entity="card",
                aggregations=(Aggregation(function="rate"),),
                windows=("1d",),
            ),
        ),
        capacity=64,
        lateness="1h",
    )


class JobModel:
    """Any numeric function will do that moves when any bit of its inputs moves."""

    def __init__(self, plan: Plan) -> None:
        self.inputs = tuple(name for name in plan.readers["tx"].names if name.endswith("_by_card"))
        self.inputs = tuple(name for name in self.inputs if "rate" not in name)
        self.version = ModelVersion(name="chaos", version="1", sha256="0" * 64)
        # No inputs in the signature, so that the policy computes no reasons: they are not part of this job.
        self.signature = Signature(numeric=(), categorical=(), plan=plan.fingerprint, source="tx")
        self.baseline: dict[str, float | str | None] = {}
        self.thresholds: dict[str, float] = {}

    def score(self, features: FeatureMatrix) -> Floats:
        """In [0, 1): a hash of the inputs' bits."""
        inputs = np.ascontiguousarray(features.matrix(self.inputs))
        return np.array([zlib.crc32(row.tobytes()) / 2**32 for row in inputs], np.float64)

    def score_inputs(self, inputs: ModelInputs) -> Floats:
        """Never asked for: the signature has no inputs."""
        raise NotImplementedError


def scorer(prefix: str = "") -> Scorer:
    """Engine, model and policy of the job."""
    made = compile_plan(definitions(prefix))
    return Scorer(FeatureEngine(made, shards=SHARDS), load_policy(POLICY, made), {"tx": JobModel(made)})


def decoders(prefix: str = "") -> dict[str, JsonDecoder]:
    """By topic."""
    return {source.topic: JsonDecoder(source) for source in definitions(prefix).sources}


def events(count: int, seed: int, cards: int = 1_500, merchants: int = 120) -> Iterator[Produced]:
    """Transactions, some late, some sent twice, some bad; and chargebacks an hour later. Exactly `count`."""
    rng = random.Random(seed)
    labels: list[tuple[int, dict[str, object]]] = []
    sent: list[dict[str, object]] = []
    for number in range(count):
        now = START + number * 500
        if labels and labels[0][0] <= now:
            _, label = labels.pop(0)
            yield _message("labels", str(label["card"]), label)
            continue
        if sent and rng.random() < 0.01:
            event = rng.choice(sent[-200:])
        else:
            event = _transaction(rng, number, now, cards, merchants)
            sent.append(event)
            if rng.random() < 0.03:
                label = {
                    "label_id": f"l{number}",
                    "id": event["id"],
                    "at": event["at"],
                    "card": event["card"],
                }
                labels.append(
                    (now + 3_600_000, label | {"known": now + 3_600_000, "fraud": rng.random() < 0.5})
                )
        if rng.random() < 0.001:
            event = event | {"amount": "bad"}
        yield _message("tx", str(event["card"]), event)


def _transaction(rng: random.Random, number: int, now: int, cards: int, merchants: int) -> dict[str, object]:
    card = min(int(rng.expovariate(8 / cards)), cards - 1)
    late = rng.randrange(600_000) if rng.random() < 0.05 else 0
    return {
        "id": f"t{number}",
        "at": now - late,
        "card": f"c{card}",
        "merchant": f"m{rng.randrange(merchants)}",
        "amount": round(rng.lognormvariate(3, 1), 2),
    }


def _message(topic: str, card: str, value: dict[str, object]) -> Produced:
    key = card.encode()
    return Produced(topic, zlib.crc32(key) % PARTITIONS, key, msgspec.json.encode(value))


@dataclass(slots=True)
class Reference:
    """What an undisturbed pass gives: alerts by event id and place, dead letters, and rows as they must be stored."""

    alerts: dict[tuple[int, int], dict[str, Any]]
    dead: set[tuple[str, int, int]]
    rows: dict[tuple[str, str, str, int], bytes]
    shared: Shared


def reference(messages: list[Produced]) -> Reference:
    """One pass, partition after partition, each in offset order."""
    offsets: dict[tuple[str, int], int] = {}
    raws: dict[tuple[str, int], list[RawMessage]] = {}
    for one in messages:
        place = (one.topic, one.partition)
        offset = offsets.get(place, 0)
        offsets[place] = offset + 1
        raws.setdefault(place, []).append(RawMessage(*place, offset, -1, one.key, one.value))
    job, by_topic = scorer(), decoders()
    encoder = AlertEncoder(job.plan)
    out = Reference({}, set(), {}, Shared(messages))
    for (topic, partition), batch in sorted(raws.items()):
        part, letters = by_topic[topic].decode(RawBatch.of(topic, batch))
        out.dead |= {(topic, partition, letter.offset) for letter in letters}
        for decisions in job.score(arrange([part])):
            for record in encoder.alerts(decisions, 0):
                alert = msgspec.json.decode(record.value or b"")
                out.alerts[partition, alert["source"]["offset"]] = alert
        out.rows |= {
            (run.entity, key, run.source, run.partition): row
            for run in job.engine.take_dirty()
            for key, row in zip(run.keys, run.rows, strict=True)
        }
        job.engine.drop_all()
    return out


def compared(alert: dict[str, Any]) -> dict[str, Any]:
    """What of an alert must be the same in every run."""
    features = alert["features"]
    own = {name: features[name] for name in features if name.endswith("_by_card") and "rate" not in name}
    names = ("alert_id", "event_id", "event_time", "score", "decision", "duplicate", "late", "source")
    return {name: alert[name] for name in names} | {"features": own}
