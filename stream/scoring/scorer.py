"""Joins what we know with what we conclude: a micro-batch goes in, decisions come out.

The one object that every face (Kafka worker, Faust, HTTP, backtest, demo) is a shell around. It has no side
effect but the fold of the events into the engine's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from features.core.batch import FeatureMatrix, MicroBatch
from features.core.errors import ConfigurationError
from features.definitions.derived import DerivedFeatures
from features.engine.engine import FeatureEngine
from features.engine.prepared import Prepared
from features.profiles.joins import ProfileTable
from models.core.base import Model, Signature
from models.core.rules_only import RulesOnly
from models.decision.decisions import Decisions, Mode
from models.decision.policy import Policy


class Scorer:
    """Scores with the routes, policy and profiles that it holds at that moment.

    `routes` maps sources to models; a source without one is decided by rules alone. `swap` and `set_policy`
    are called between two batches by the thread that scores. Each of `observers` is shown every scored matrix
    (challengers in the shadow, say); it must not block.
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
        self.observers: list[Callable[[FeatureMatrix], None]] = []
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
        """The model that scores a source now."""
        model = self._routes.get(source)
        if model is None:
            signature = Signature(numeric=(), categorical=(), plan=self.plan.fingerprint, source=source)
            return RulesOnly(signature)
        return model

    def swap(self, source: str, model: Model) -> None:
        """Score a source with another model from the next batch on."""
        scored = sorted(self.plan.readers)
        if source not in self.plan.readers:
            known = ", ".join(scored) or "none"
            raise ConfigurationError(f"models.routes.{source}: no such scored source; known: {known}")
        if model.signature.source and model.signature.source != source:
            raise ConfigurationError(
                f"models.routes.{source}: model `{model.version.name}` was made for source"
                f" `{model.signature.source}`; route it there"
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

    def decide(self, matrices: Iterable[FeatureMatrix], *, remember: bool = True) -> list[Decisions]:
        """Decisions on matrices that the engine has read; without `remember` they leave no trace."""
        return [self._decide(self.complete(matrix), remember) for matrix in matrices if len(matrix)]

    def complete(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """The matrix with profiles joined and derived features computed: all that a model may ask for."""
        return self._derived.add(matrix if self._profiles is None else self._profiles.join(matrix))

    def _decide(self, matrix: FeatureMatrix, remember: bool) -> Decisions:
        model = self.model(matrix.batch.source.name)
        decisions = self.policy.decide(matrix, model.score(matrix), model, self.mode, remember)
        if remember:
            for observe in self.observers:
                observe(matrix)
        return decisions

    def _refuse_missing_profiles(self) -> None:
        for reader in self.plan.readers.values():
            if reader.profiles:
                name = reader.profiles[0].name
                raise ConfigurationError(
                    f"source `{reader.source}` joins profile `{name}`, but no profiles are given"
                )
