"""What scored live, found again: models by version and hash, policies by version; and why one cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from features.core.errors import RiskstreamError
from features.definitions.plan import Plan
from models.core.base import Model
from models.decision.policy import Policy, load_policy, policy_version
from stream.codecs.contracts import DecidedBy
from stream.project import build
from stream.settings.config import Config


class Library:
    """The registry, and the policy files given; each thing is read once."""

    def __init__(self, config: Config, plan: Plan, policies: Sequence[Path]) -> None:
        self._config = config
        self._plan = plan
        files = policies or [Path(config.resolve(config.policy.file))]
        self._files = {policy_version(file): file for file in files}
        self._models: dict[DecidedBy, tuple[Model | None, str]] = {}

    def model(self, wanted: DecidedBy) -> tuple[Model | None, str]:
        """The model, and what is wrong with it: empty when it is the very one."""
        if wanted not in self._models:
            self._models[wanted] = self._find(wanted)
        return self._models[wanted]

    def _find(self, wanted: DecidedBy) -> tuple[Model | None, str]:
        name = f"{wanted.name}@{wanted.version}"
        try:
            model = build.load_model(self._config, self._plan, name)
        except RiskstreamError as error:
            return None, f"model gone: {name} cannot be loaded ({error})"
        if model.version.sha256 != wanted.sha256:
            is_, was = model.version.sha256[:16], wanted.sha256[:16]
            return model, f"model replaced: the registry's {name} is {is_}, the one that scored was {was}"
        return model, ""

    def policy(self, version: str) -> tuple[Policy, str]:
        """A fresh policy of that version, or else any, and what is wrong with it."""
        file = self._files.get(version)
        if file is not None:
            return load_policy(file, self._plan), ""
        other, known = next(iter(self._files.items()))
        why = f"policy changed: version {version} decided, {known.name} is {other}; give the old one by --policy"
        return load_policy(known, self._plan), why
