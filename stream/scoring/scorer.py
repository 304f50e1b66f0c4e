"""Joins what we know with what we conclude: a micro-batch goes in, decisions come out.

The one object that every face (Kafka worker, Faust, HTTP, backtest, demo) is a shell around. It has no side
effect but the fold of the events into the engine's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from features.core.batch import FeatureMatrix, Floats, MicroBatch
from features.core.errors import ConfigurationError
from features.definitions.derived import DerivedFeatures
from features.engine.engine import FeatureEngine
from features.engine.prepared import Prepared
from features.profiles.joins import ProfileTable
from models.core.base import Model, ModelInputs, ModelVersion, Signature
from models.decision.decisions import Decisions, Mode


class Policy(Protocol):
    """Turns scores into decisions; never blocks."""

    def decide(
        self, features: FeatureMatrix, score: Floats, model: Model, mode: Mode, remember: bool = True
    ) -> Decisions:
        """One decision a row, reasons of the alerts included; without `remember` a mere question."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether a decision depends on others: by suppression or a budget."""
        ...

    def check_model(self, source: str, model: Model) -> None:
        """Raise PolicyError when the policy needs what the model does not have."""
        ...


@dataclass(frozen=True)
class RulesOnly:
    """Stands in where a source has no model: score 0 for all, so that only the policy's rules decide."""

    signature: Signature
    version: ModelVersion = field(default=ModelVersion(name="none", version="0", sha256=""))

    @property
    def baseline(self) -> Mapping[str, float | str | None]:
        """No inputs, no baselines."""
        return {}

    @property
    def thresholds(self) -> Mapping[str, float]:
        """No operating points."""
        return {}

    def score(self, features: FeatureMatrix) -> Floats:
        """Zeros."""
        return np.zeros(len(features), dtype=np.float64)

    def score_inputs(self, inputs: ModelInputs) -> Floats:
        """Zeros."""
        return np.zeros(len(inputs), dtype=np.float64)


class Scorer:
    """Scores with the routes, policy and profiles that it holds at that moment.

    `routes` maps sources to models; a source without one is decided by rules alone. `swap` and `set_policy`
    are called between two batches by the thread that scores. `watch`, where set, is shown every scored matrix
    (challengers in the shadow); it must not block.
    """

    def __init__(
        self,
        engine: FeatureEngine,
        policy: Policy,
        routes: Mapping[str, Model] | None = None,
        profiles: ProfileTable | None = None,
        mode: Mode = "live",
    ) -> None:
        self.engine = engine
        self.plan = engine.plan
        self.policy = policy
        self.mode: Mode = mode
        self.watch: Callable[[FeatureMatrix], None] | None = None
        self._profiles = profiles
        self._derived = DerivedFeatures(engine.plan)
        self._routes: dict[str, Model] = {}
        for source, model in (routes or {}).items():
            self.swap(source, model)
        if profiles is None:
            self._refuse_missing_profiles()

    @property
    def routes(self) -> Mapping[str, Model]:
        """The model of each source that has one."""
        return self._routes

    def model(self, source: str) -> Model:
        """What scores a source now."""
        found = self._routes.get(source)
        if found is None:
            signature = Signature(numeric=(), categorical=(), plan=self.plan.fingerprint, source=source)
            return RulesOnly(signature)
        return found

    def swap(self, source: str, model: Model) -> None:
        """Score a source with another model from the next batch on."""
        scored = sorted(self.plan.readers)
        if source not in self.plan.readers:
            known = ", ".join(scored) or "none"
            raise ConfigurationError(f"models.routes.{source}: no such scored source; known: {known}")
        if model.signature.source and model.signature.source != source:
            made = f"was made for source `{model.signature.source}`"
            raise ConfigurationError(
                f"models.routes.{source}: model `{model.version.name}` {made}; route it there"
            )
        self.policy.check_model(source, model)
        self._routes[source] = model

    def set_policy(self, policy: Policy) -> None:
        """Decide by another policy from the next batch on."""
        for source, model in self._routes.items():
            policy.check_model(source, model)
        self.policy = policy

    def score(self, events: MicroBatch | Prepared) -> list[Decisions]:
        """Read features, fold the events, score and decide; one `Decisions` a scored source."""
        prepared = self.engine.prepare(events) if isinstance(events, MicroBatch) else events
        return self.decide(self.engine.run(prepared).values())

    def peek(self, events: MicroBatch | Prepared) -> list[Decisions]:
        """What `score` would say, were the events next; changes nothing."""
        prepared = self.engine.prepare(events) if isinstance(events, MicroBatch) else events
        return self.decide(self.engine.peek(prepared).values(), remember=False)

    def decide(self, matrices: Iterable[FeatureMatrix], *, remember: bool = True) -> list[Decisions]:
        """Decisions on matrices that the engine has read; without `remember` they leave no trace."""
        return [self._decide(self.complete(matrix), remember) for matrix in matrices if len(matrix)]

    def complete(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """The matrix with profiles joined and derived features computed: all that a model may ask for."""
        return self._derived.add(matrix if self._profiles is None else self._profiles.join(matrix))

    def _decide(self, matrix: FeatureMatrix, remember: bool) -> Decisions:
        model = self.model(matrix.batch.source.name)
        decisions = self.policy.decide(matrix, model.score(matrix), model, self.mode, remember)
        if remember and self.watch is not None:
            self.watch(matrix)
        return decisions

    def _refuse_missing_profiles(self) -> None:
        for reader in self.plan.readers.values():
            if reader.profiles:
                name = reader.profiles[0].name
                raise ConfigurationError(
                    f"source `{reader.source}` joins profile `{name}`, but no profiles are given"
                )
