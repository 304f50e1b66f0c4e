"""What scored live, found again: models by version and hash, policies by version; and why one cannot be had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from features.core.errors import ConfigurationError, RiskstreamError
from features.definitions.plan import Plan
from models.core.base import Model
from models.decision.policy import Policy, load_policy, policy_version
from stream.codecs.contracts import DecidedBy
from stream.project import build
from stream.replay.certify.report.causes import Cause, Explanation
from stream.settings.config import Config


class Library:
    """The registry, the project's own policy and those given beside it; each thing is read once."""

    def __init__(self, config: Config, plan: Plan, policies: Sequence[Path]) -> None:
        self._config = config
        self._plan = plan
        files = [Path(config.resolve(config.policy.file)), *policies]
        self._files = {policy_version(file): file for file in files}
        self._models: dict[DecidedBy, tuple[Model | None, Explanation | None]] = {}

    def model(self, wanted: DecidedBy) -> tuple[Model | None, Explanation | None]:
        """The model, and why it is not the one that scored; None when it is."""
        if wanted not in self._models:
            self._models[wanted] = self._find(wanted)
        return self._models[wanted]

    def _find(self, wanted: DecidedBy) -> tuple[Model | None, Explanation | None]:
        name = f"{wanted.name}@{wanted.version}"
        try:
            model = build.load_model(self._config, self._plan, name)
        except RiskstreamError as error:
            return None, Explanation(Cause.MODEL_GONE, f"{name} cannot be loaded ({error})")
        if model.version.sha256 != wanted.sha256:
            registered, scored = model.version.sha256[:16], wanted.sha256[:16]
            detail = f"the registry's {name} is {registered}, the one that scored was {scored}"
            return model, Explanation(Cause.MODEL_REPLACED, detail)
        return model, None

    def check_policies(self, versions: Iterable[str]) -> None:
        """ConfigurationError that names the versions which decided and of which no file is given."""
        unknown = sorted(set(versions) - set(self._files))
        if unknown:
            known = ", ".join(f"{file} is {version}" for version, file in self._files.items())
            raise ConfigurationError(
                f"policy {', '.join(unknown)} decided in this range, but no file given has that version ({known}). "
                "Fix: name its file by --policy, or choose a later --from"
            )

    def policy(self, version: str) -> tuple[Policy, Explanation | None]:
        """A fresh policy of that version, or else any with the reason why it is another."""
        file = self._files.get(version)
        if file is not None:
            return load_policy(file, self._plan), None
        other, known = next(iter(self._files.items()))
        detail = f"version {version} decided, {known.name} is {other}; give the old one by --policy"
        return load_policy(known, self._plan), Explanation(Cause.POLICY_CHANGED, detail)
