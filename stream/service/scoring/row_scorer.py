"""Scores rows of features that callers send: the model, then the policy; nothing is looked up or kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.core.base import Model
from models.decision.decisions import Decisions
from stream.scoring.scorer import Scorer
from stream.service.scoring.bodies import FeatureValue, Prediction
from stream.service.scoring.rows import matrix_from_rows
from stream.service.served import ServedModels, predictions

SHORT_ROWS = 32
"""So many rows are scored in less time than a hop to another thread takes."""


@dataclass(frozen=True, slots=True)
class AskedRows:
    """The checked rows of one request, for one model."""

    model: Model
    rows: Sequence[Mapping[str, FeatureValue]]


class RowScorer:
    """Not thread-safe: runs in the service's lane. `between` takes up promotions before each batch."""

    def __init__(
        self,
        scorer: Scorer,
        models: ServedModels,
        between: Callable[[], None],
        count_invalid: Callable[[Decisions], None],
    ) -> None:
        self._count_invalid = count_invalid
        self._scorer = scorer
        self._models = models
        self._between = between

    def score(self, items: Sequence[AskedRows]) -> Sequence[tuple[Prediction, ...] | Exception]:
        """One prediction a row of each item; rows of one model are scored together.

        Rows do not know of each other; where the policy would, each is decided by itself.
        """
        self._between()
        if self._scorer.policy.remembers:
            return [
                tuple(made for row in item.rows for made in self._predict(item.model, [row]))
                for item in items
            ]
        answers: list[tuple[Prediction, ...]] = [()] * len(items)
        for places in _by_model(items):
            made = self._predict(items[places[0]].model, [row for at in places for row in items[at].rows])
            begin = 0
            for at in places:
                end = begin + len(items[at].rows)
                answers[at] = made[begin:end]
                begin = end
        return answers

    def _predict(self, model: Model, rows: Sequence[Mapping[str, FeatureValue]]) -> tuple[Prediction, ...]:
        source = self._scorer.plan.sources[self._models.source_of(model)]
        matrix = matrix_from_rows(source, model.signature, rows, time.time_ns() // 1000)
        decided = self._scorer.policy.decide(matrix, model.score(matrix), model, "live", remember=False)
        self._count_invalid(decided)
        return predictions(decided)


def _by_model(items: Sequence[AskedRows]) -> list[list[int]]:
    """Places of the items of each model."""
    found: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        found.setdefault(id(item.model), []).append(place)
    return list(found.values())


def is_short(items: Sequence[AskedRows]) -> bool:
    """Whether a batch is scored sooner in the event loop than in another thread."""
    return sum(len(item.rows) for item in items) <= SHORT_ROWS
