"""The models that the service answers for, by name, with the policy that decides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

from models.core.base import Model
from models.decision.decisions import Decisions
from stream.codecs.alerts import ranked_reason
from stream.codecs.contracts import DecidedBy, DecisionWord, SeverityWord
from stream.service.problems import Problem
from stream.service.schemas import ModelOut
from stream.service.scoring.bodies import Prediction

_DECISIONS: tuple[DecisionWord, ...] = get_args(DecisionWord)
_SEVERITIES: tuple[SeverityWord, ...] = get_args(SeverityWord)


class ServedModels:
    """Models by name, each with the source that it scores. `replace` swaps them all in one step."""

    def __init__(self, routes: Mapping[str, Model]) -> None:
        self.replace(routes)

    def replace(self, routes: Mapping[str, Model]) -> None:
        """Serve the models of these routes (source to model) from the next request on."""
        self._sources = {model.version.name: source for source, model in sorted(routes.items())}
        self._models = {model.version.name: model for _, model in sorted(routes.items())}

    def source_of(self, model: Model) -> str:
        """The source that a served model scores."""
        return self._sources[model.version.name]

    def all(self) -> Sequence[Model]:
        """Every served model, by name."""
        return [self._models[name] for name in sorted(self._models)]

    def find(self, name: str | None, version: str | None = None) -> Model:
        """A model by name, and version where given; the only one for no name. Raises Problem 404 or 422."""
        if name is None:
            if len(self._models) != 1:
                known = ", ".join(sorted(self._models)) or "none is served"
                raise Problem(422, "invalid-request", f"$.model: expected one of: {known}")
            return next(iter(self._models.values()))
        model = self._models.get(name)
        if model is None:
            raise Problem(
                404,
                "unknown-model",
                f"no model of that name is served; there are: {', '.join(sorted(self._models))}",
            )
        if version is not None and version != model.version.version:
            raise Problem(
                404, "unknown-version", f"version {model.version.version} of {name} is served, no other"
            )
        return model


def reference(model: Model) -> DecidedBy:
    """A model's identity as the answers give it."""
    by = model.version
    return DecidedBy(name=by.name, version=by.version, sha256=by.sha256)


def description(model: Model) -> ModelOut:
    """A model as GET /v1/models lists it."""
    signature = model.signature
    return ModelOut(
        name=model.version.name,
        version=model.version.version,
        sha256=model.version.sha256,
        source=signature.source,
        plan=signature.plan,
        numeric=list(signature.numeric),
        categorical=list(signature.categorical),
    )


def predictions(decisions: Decisions) -> tuple[Prediction, ...]:
    """One answer a row."""
    columns = zip(
        decisions.score.tolist(),
        decisions.threshold.tolist(),
        decisions.decision.tolist(),
        decisions.severity.tolist(),
        strict=True,
    )
    return tuple(
        Prediction(
            score=score if math.isfinite(score) else None,
            threshold=threshold if math.isfinite(threshold) else None,
            decision=_DECISIONS[decision],
            severity=_SEVERITIES[severity],
            reasons=tuple(map(ranked_reason, decisions.reasons.get(row, ()))),
            rules=tuple(decisions.rules_hit.get(row, ())),
            flags=tuple(name for name, raised in decisions.features.flags.items() if raised[row]),
        )
        for row, (score, threshold, decision, severity) in enumerate(columns)
    )
