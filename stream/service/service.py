"""What the routes work with: models, policy, event scoring, the decisions that were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol, TypeVar, cast

from fastapi import Request

from features.core.times import now_us
from features.definitions.spec import Source
from models.core.base import Model
from stream.scoring.scorer import Scorer
from stream.service.scoring.batching import Batcher, SerialExecutor
from stream.service.scoring.bodies import Prediction
from stream.service.scoring.entity_reader import EntityReader
from stream.service.scoring.event_scorer import EventScorer
from stream.service.scoring.row_scorer import AskedRows
from stream.service.scoring.served_models import ServedModels
from stream.telemetry.metrics import Metrics

Result = TypeVar("Result")


class DecisionLookup(Protocol):
    """Finds published decisions."""

    def find(self, event_id: str) -> bytes | None:
        """The decision as JSON, or None."""
        ...


@dataclass(kw_only=True)
class Service:
    """One running service. `event_batcher` and `row_batcher` gather what is scored in the `executor`.

    The executor takes up promoted models and edited policies before each piece of work; `look` looks for them at
    once, in any thread.
    """

    scorer: Scorer
    models: ServedModels
    events: EventScorer
    entities: EntityReader
    executor: SerialExecutor
    event_batcher: Batcher[tuple[str, bytes], bytes]
    row_batcher: Batcher[AskedRows, tuple[Prediction, ...]]
    decisions: DecisionLookup | None
    metrics: Metrics
    look: Callable[[], None]

    def source_of(self, model: Model) -> Source:
        """The source that a model scores."""
        return self.scorer.plan.sources[self.models.source_of(model)]

    def check_ready(self) -> None:
        """Raises RetriableError while the service cannot answer as it should. May block on Redis."""
        self.events.check_ready()

    async def compute(self, work: Callable[[], Result], *, short: bool = False) -> Result:
        """Run `work` in the executor, with the models and the policy of this moment."""
        return await self.executor.run(work, short=short)

    @staticmethod
    def now_us() -> int:
        """The wall clock in microseconds, for requests that carry no time of their own."""
        return now_us()

    @staticmethod
    def version() -> str:
        """The version of riskstream."""
        return version("riskstream")


def service(request: Request) -> Service:
    """The service that a request came to."""
    return cast(Service, request.app.state.service)
