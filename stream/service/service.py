"""What the routes work with: models, policy, event scoring, the decisions that were made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol, TypeVar, cast

from fastapi import Request

from features.definitions.spec import Source
from models.core.base import Model
from stream.scoring.scorer import Scorer
from stream.service.scoring.batching import Batcher, Lane
from stream.service.scoring.bodies import Prediction
from stream.service.scoring.event_scorer import EventScorer
from stream.service.scoring.row_scorer import AskedRows
from stream.service.served import ServedModels
from stream.telemetry.metrics import Metrics

Result = TypeVar("Result")


class Decisions(Protocol):
    """Finds published decisions."""

    def find(self, event_id: str) -> bytes | None:
        """The decision as JSON, or None."""
        ...


@dataclass(kw_only=True)
class Service:
    """One running service. `event_batcher` and `row_batcher` gather what is scored in the `lane`.

    `between` takes up promoted models and edited policies; called in the lane before each piece of work.
    `look` looks for them at once, in any thread.
    """

    scorer: Scorer
    models: ServedModels
    events: EventScorer
    lane: Lane
    event_batcher: Batcher[tuple[str, bytes], bytes]
    row_batcher: Batcher[AskedRows, tuple[Prediction, ...]]
    decisions: Decisions | None
    metrics: Metrics
    between: Callable[[], None]
    look: Callable[[], None]

    def source_of(self, model: Model) -> Source:
        """The source that a model scores."""
        return self.scorer.plan.sources[self.models.source_of(model)]

    def check_ready(self) -> None:
        """Raises RetriableError while the service cannot answer as it should. May block on Redis."""
        self.events.check_ready()

    async def compute(self, work: Callable[[], Result], *, short: bool = False) -> Result:
        """Run `work` in the lane, with the models and the policy of this moment."""

        def current() -> Result:
            self.between()
            return work()

        return await self.lane.run(current, short=short)

    @staticmethod
    def now_us() -> int:
        """The wall clock in microseconds, for requests that carry no time of their own."""
        return time.time_ns() // 1000

    @staticmethod
    def version() -> str:
        """The version of riskstream."""
        return version("riskstream")


def service(request: Request) -> Service:
    """The service that a request came to."""
    return cast(Service, request.app.state.service)
