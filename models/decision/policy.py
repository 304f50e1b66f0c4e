"""The decision policy: scores in, approve / review / decline with reasons out.

A policy is read from a TOML file (docs/reference/policy.md) with the reason catalogue and list files
that it names. Conditions run as vectorised SQL; only alerts are looked at one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from features.core.batch import FeatureMatrix, Floats
from features.definitions.plan import Plan
from models.bundles.plan_check import protected_features
from models.core.base import Model
from models.core.errors import PolicyError
from models.decision import settings
from models.decision.decisions import Decisions, Mode
from models.decision.memory.memory import PastAlert, SourceMemory
from models.decision.reasons import catalogue
from models.decision.reasons.catalogue import Catalogue
from models.decision.reasons.reasons import Limits
from models.decision.rules import thresholds
from models.decision.rules.rules import compile_rules
from models.decision.settings import PolicyFile, SourcePolicy
from models.decision.source_decider import SourceDecider

_MAX_FILE_BYTES = 64 << 20


class Policy:
    """A loaded policy. Not thread-safe: the thread that scores decides.

    `version` is the SHA-256 (16 hex digits) of the policy file and of every file that it names, `files`.
    """

    def __init__(
        self, version: str, deciders: Mapping[str, SourceDecider], files: tuple[Path, ...] = ()
    ) -> None:
        self.version = version
        self.files = files
        self._deciders = dict(deciders)

    def decide(
        self,
        features: FeatureMatrix,
        score: Floats,
        model: Model,
        mode: Mode = "live",
        remember: bool = True,
    ) -> Decisions:
        """One decision a row, alerts with reasons.

        Without `remember` the events leave no trace in suppression and budget (questions, not events).
        """
        decider = self._deciders[features.batch.source.name]
        decisions = decider.decide(features, score, model, mode, remember)
        decisions.policy = self.version
        return decisions

    def check_model(self, source: str, model: Model) -> None:
        """Raise PolicyError when the policy needs a threshold that the model's bundle does not have."""
        thresholds.check_names(self._deciders[source].policy, model, f"sources.{source}")

    def adopt(self, old: Policy) -> None:
        """Go on with what another version of this policy remembers (hot reload)."""
        for source, decider in self._deciders.items():
            before = old._deciders.get(source)
            if before is not None:
                decider.memory.adopt(before.memory, decider.policy, before.policy)

    @property
    def remembers(self) -> bool:
        """Whether decisions depend on earlier ones: suppression or a budget."""
        policies = [decider.policy for decider in self._deciders.values()]
        return any(policy.suppress is not None or policy.budget is not None for policy in policies)

    def recall(self, alerts: Sequence[PastAlert]) -> None:
        """Remember published alerts, in the order in which they were, in place of what is remembered."""
        for name, decider in self._deciders.items():
            decider.memory.recall(decider.policy, [alert for alert in alerts if alert.source == name])

    def source(self, name: str) -> SourcePolicy:
        """The settings of one source."""
        return self._deciders[name].policy


def load_policy(path: str | Path, plan: Plan) -> Policy:
    """Read a policy and check it against the plan; PolicyError or DefinitionError names the place."""
    file = Path(path)
    content = read_policy(file)
    parsed = settings.parse(content[file], file)
    known = _catalogue(parsed, file, content)
    deciders = {
        name: _decider(name, policy, parsed, known, plan, content) for name, policy in parsed.sources.items()
    }
    unsaid = sorted(set(plan.readers) - set(deciders))
    if unsaid:
        raise PolicyError(f"{file}: sources", f"says nothing about `{unsaid[0]}`, which is scored")
    return Policy(_version(content), deciders, tuple(content))


def read_policy(file: Path) -> dict[Path, bytes]:
    """The policy file and every file that it names, by path."""
    content = {file: _read(file, str(file))}
    parsed = settings.parse(content[file], file)
    if parsed.reasons.catalogue is not None:
        path = file.parent / parsed.reasons.catalogue
        content[path] = _read_named(path, file.parent, f"{file}: reasons.catalogue")
    for source, policy in parsed.sources.items():
        for number, listed in enumerate(policy.lists):
            if listed.file is not None:
                path = file.parent / listed.file
                content[path] = _read_named(
                    path, file.parent, f"{file}: sources.{source}.lists[{number}].file"
                )
    return content


def file_marks(files: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """Time of change and size of files: equal marks need no second look."""
    return tuple((status.st_mtime_ns, status.st_size) for status in map(Path.stat, files))


def policy_version(path: str | Path) -> str:
    """What `Policy.version` would be if the file were loaded now."""
    return _version(read_policy(Path(path)))


def _version(content: Mapping[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for data in content.values():
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _read_named(path: Path, root: Path, where: str) -> bytes:
    """A file that a policy names. It stands below the policy's folder: a policy reads nothing else of the machine."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise PolicyError(where, f"{path} is outside the folder of the policy; move it below {root}")
    return _read(path, where)


def _read(file: Path, where: str) -> bytes:
    try:
        if not file.is_file() and file.exists():
            raise PolicyError(where, f"{file}: not a regular file")
        size = file.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise PolicyError(where, f"{file}: {size:,} bytes; at most {_MAX_FILE_BYTES:,} are read")
        return file.read_bytes()
    except OSError as error:
        raise PolicyError(where, f"{file}: {error.strerror}") from error


def _catalogue(parsed: PolicyFile, file: Path, content: Mapping[Path, bytes]) -> Catalogue:
    if parsed.reasons.catalogue is None:
        return Catalogue({})
    path = file.parent / parsed.reasons.catalogue
    return catalogue.parse(content[path], path)


def _decider(
    name: str,
    policy: SourcePolicy,
    parsed: PolicyFile,
    known: Catalogue,
    plan: Plan,
    content: Mapping[Path, bytes],
) -> SourceDecider:
    where = f"{next(iter(content))}: sources.{name}"
    if name not in plan.readers:
        scored = ", ".join(sorted(plan.readers))
        raise PolicyError(where, f"no such scored source; known: {scored}")
    reasons = parsed.reasons
    return SourceDecider(
        policy=policy,
        rules=compile_rules(policy, name, plan, content, where),
        catalogue=known,
        limits=Limits(
            most=reasons.most,
            least=reasons.least,
            forbidden=protected_features(plan, name, frozenset(reasons.allow_protected)),
        ),
        suppress_keys=_suppress_keys(name, policy, plan, where),
        memory=SourceMemory.fresh(policy),
    )


def _suppress_keys(name: str, policy: SourcePolicy, plan: Plan, where: str) -> tuple[str, ...]:
    """The key columns of the entity whose alerts are suppressed; none where nothing is."""
    if policy.suppress is None:
        return ()
    keys = plan.readers[name].entity_keys.get(policy.suppress.entity, ())
    if not keys:
        raise PolicyError(f"{where}.suppress.entity", f"`{name}` has no entity `{policy.suppress.entity}`")
    return keys
