"""The models that the service answers for, by name, with the policy that decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import msgspec
import numpy as np

from models.base import Model
from models.decision.decisions import SEVERITIES, Decisions
from stream.api.problems import Problem
from stream.api.schemas import ModelOut, ModelRef, Prediction, ReasonOut
from stream.contracts import DecisionWord

_DECISIONS: tuple[DecisionWord, ...] = get_args(DecisionWord)


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


def reference(model: Model) -> ModelRef:
    """A model's identity as the answers give it."""
    return ModelRef(**msgspec.to_builtins(model.version))


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


def predictions(decisions: Decisions) -> list[Prediction]:
    """One answer a row."""
    return [
        Prediction(
            score=float(decisions.score[row]),
            threshold=float(decisions.threshold[row]) if np.isfinite(decisions.threshold[row]) else None,
            decision=_DECISIONS[decisions.decision[row]],
            severity=SEVERITIES[decisions.severity[row]],
            reasons=[ReasonOut(**msgspec.to_builtins(reason)) for reason in decisions.reasons.get(row, ())],
            rules=list(decisions.rules_hit.get(row, ())),
        )
        for row in range(len(decisions))
    ]
