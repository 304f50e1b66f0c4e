"""Challengers score beside the answer's path: in a thread of their own, behind a bounded queue.

Their decisions go to the decisions topic with `mode: shadow`, outside of the worker's transactions.
When they cannot keep up, events are dropped and counted: a challenger never slows down or changes
what the champion answers (tests/stream/test_shadow.py).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from features.core.batch import FeatureMatrix
from models.core.base import Model
from models.decision.decisions import Decisions
from models.decision.policy import Policy
from stream.telemetry.logs import logger

_log = logger("shadow")
MOST_WAITING = 50_000


class Challengers:
    """The challengers' models and their own copy of the policy; what a `Swapper` keeps current."""

    def __init__(self, models: Mapping[str, Model], policy: Policy) -> None:
        self._models = dict(models)
        self.policy = policy

    @property
    def routes(self) -> Mapping[str, Model]:
        """The challenger of each source that has one."""
        return self._models

    def swap(self, source: str, model: Model) -> None:
        """Let another model challenge."""
        self.policy.check_model(source, model)
        self._models[source] = model

    def set_policy(self, policy: Policy) -> None:
        """Decide by another policy."""
        for source, model in self._models.items():
            policy.check_model(source, model)
        self.policy = policy

    def decide(self, features: FeatureMatrix) -> Decisions:
        """The decisions of the source's challenger."""
        model = self._models[features.batch.source.name]
        return self.policy.decide(features, model.score(features), model, "shadow")


class Shadow:
    """Runs challengers on what the worker has scored.

    `publish` receives their decisions, `dropped(source, events)` how many events were not scored. `between` is
    called before each batch, so that challengers are swapped like champions.
    """

    def __init__(
        self,
        challengers: Challengers,
        publish: Callable[[Decisions], None],
        dropped: Callable[[str, int], None],
        between: Callable[[], None],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._challengers = challengers
        self._publish = publish
        self._dropped = dropped
        self._between = between
        self._most_waiting = most_waiting
        self._waiting: deque[FeatureMatrix] = deque()
        self._events = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to score."""
        self._thread.start()

    def offer(self, features: FeatureMatrix) -> None:
        """Take a scored matrix, or drop and count it. Never blocks."""
        source = features.batch.source.name
        if source not in self._challengers.routes:
            return
        with self._changed:
            if self._closing or self._events + len(features) > self._most_waiting:
                self._dropped(source, len(features))
                return
            self._waiting.append(features)
            self._events += len(features)
            self._changed.notify()

    def close(self, seconds: float = 5.0) -> None:
        """Score what waits, for at most `seconds`, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while (features := self._next()) is not None:
            try:
                self._between()
                self._publish(self._challengers.decide(features))
            except Exception as error:  # whatever a challenger does, the champion goes on
                _log.error("challenger failed", source=features.batch.source.name, reason=str(error))
                self._dropped(features.batch.source.name, len(features))

    def _next(self) -> FeatureMatrix | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return None
            features = self._waiting.popleft()
            self._events -= len(features)
            return features
