"""Hot swap: a promotion or an edited policy takes effect between two batches, without a restart.

A thread polls the registry's aliases and the policy file, then loads and verifies what is new. The thread that
scores takes it before its next unit of work (`between`). A model or policy that fails a check is logged and
counted as refused, and the worker keeps the one it has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from models.bundles import bundle
from models.bundles.registry import Registry
from models.bundles.signing import Trust
from models.core.base import Model
from models.decision.policy import Policy, file_marks, load_policy, policy_version
from stream.telemetry.logs import logger

_log = logger("swap")
_RETRY_AFTER = 30


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What to look at: the registry, routes (source to `NAME@ALIAS`), and the policy file."""

    registry: Registry
    routes: dict[str, str]
    trust: Trust
    plan: Plan
    policy_file: str | None = None


@dataclass
class _Ready:
    models: dict[str, Model] = field(default_factory=dict)
    policy: Policy | None = None


class Swappable(Protocol):
    """What holds models and a policy: a Scorer, or the challengers in the shadow."""

    @property
    def routes(self) -> Mapping[str, Model]:
        """The model of each source."""
        ...

    @property
    def policy(self) -> Policy:
        """The policy that decides now."""
        ...

    def swap(self, source: str, model: Model) -> None:
        """Score a source with another model; ConfigurationError where it does not fit."""
        ...

    def set_policy(self, policy: Policy) -> None:
        """Decide by another policy; ConfigurationError where it does not fit."""
        ...


class Swapper:
    """Keeps a scorer's models and policy current. `start` it, call `between` from the scoring thread.

    `report(source, outcome)` is called for each swap: outcome `swapped` or `refused`; the source is
    `policy` for the policy.
    """

    def __init__(
        self, watched: Watched, scorer: Swappable, report: Callable[[str, str], None] | None = None
    ) -> None:
        self._watched = watched
        self._scorer = scorer
        self._report = report or (lambda _source, _outcome: None)
        self._models: dict[str, Model] = dict(scorer.routes)
        self._policy = scorer.policy
        self._marks: tuple[tuple[int, int], ...] = ()
        self._refused: dict[str, tuple[str, int]] = {}
        self._ready = _Ready()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, poll_ms: int) -> None:
        """Look every `poll_ms` until `stop`; never with 0."""
        if poll_ms > 0 and self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(poll_ms / 1000,), name="model-swap", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop polling. A model that is loaded already can still be taken by `between`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def between(self) -> None:
        """Give loaded models and the loaded policy to the scorer. Does not block; called by the thread that scores."""
        if not self._ready.models and self._ready.policy is None:
            return
        with self._lock:
            ready, self._ready = self._ready, _Ready()
        for source, model in ready.models.items():
            if self._apply(source, partial(self._scorer.swap, source, model)):
                version = model.version
                _log.info("model swapped", source=source, model=version.name, version=version.version)
        if ready.policy is not None and self._apply("policy", partial(self._set_policy, ready.policy)):
            _log.info("policy swapped", version=ready.policy.version)

    def look(self) -> None:
        """Look at every alias and at the policy file once."""
        for source, reference in self._watched.routes.items():
            self._attempt(source, partial(self._look_at, source, reference))
        if self._watched.policy_file is not None:
            self._attempt("policy", self._look_at_policy)

    def _set_policy(self, policy: Policy) -> None:
        before = self._scorer.policy
        self._scorer.set_policy(policy)
        policy.adopt(before)

    def _apply(self, what: str, swap: Callable[[], None]) -> bool:
        try:
            swap()
        except ConfigurationError as error:
            _log.error("swap refused", what=what, reason=str(error))
            self._report(what, "refused")
            return False
        self._report(what, "swapped")
        return True

    def _run(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.look()

    def _attempt(self, what: str, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as error:  # whatever a file holds, the next one must still be looked at
            known, waits = self._refused.get(what, ("", 0))
            if known == str(error) and waits > 0:
                self._refused[what] = (known, waits - 1)
                return
            self._refused[what] = (str(error), _RETRY_AFTER)
            _log.error("swap refused", what=what, reason=str(error), error=type(error).__name__)
            self._report(what, "refused")
        else:
            self._refused.pop(what, None)

    def _look_at(self, source: str, reference: str) -> None:
        watched = self._watched
        named = watched.registry.resolve(reference)
        current = self._models.get(source)
        if current is not None and (current.version.name, current.version.version) == (
            named.name,
            named.version,
        ):
            return
        identity = bundle.Identity(name=named.name, version=named.version)
        model = bundle.load(named.path, watched.trust, watched.plan, identity=identity)
        self._policy.check_model(source, model)
        self._models[source] = model
        with self._lock:
            self._ready.models[source] = model

    def _policy_unchanged(self, file: str) -> bool:
        marks = file_marks(self._policy.files)
        if marks != self._marks:
            if policy_version(file) != self._policy.version:
                return False
            self._marks = marks
        return True

    def _look_at_policy(self) -> None:
        file = self._watched.policy_file
        if file is None or self._policy_unchanged(file):
            return
        policy = load_policy(file, self._watched.plan)
        for source, model in self._models.items():
            policy.check_model(source, model)
        self._policy = policy
        with self._lock:
            self._ready.policy = policy
