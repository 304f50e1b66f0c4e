"""Scores rows of features that callers send: the model, then the policy; nothing is looked up or kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from features.core.times import now_us
from models.core.base import Model
from models.decision.decisions import Decisions
from stream.scoring.scorer import Scorer
from stream.service.scoring.bodies import FeatureValue, Prediction
from stream.service.scoring.rows import matrix_from_rows
from stream.service.scoring.served_models import ServedModels, predictions

SHORT_ROWS = 32
"""So many rows are scored in less time than a hop to another thread takes."""


@dataclass(frozen=True, slots=True)
class AskedRows:
    """The checked rows of one request, for one model."""

    model: Model
    rows: Sequence[Mapping[str, FeatureValue]]


class RowScorer:
    """Not thread-safe: runs in the service's executor."""

    def __init__(
        self, scorer: Scorer, models: ServedModels, count_invalid: Callable[[Decisions], None]
    ) -> None:
        self._count_invalid = count_invalid
        self._scorer = scorer
        self._models = models

    def score(self, items: Sequence[AskedRows]) -> Sequence[tuple[Prediction, ...] | Exception]:
        """One prediction a row of each item; rows of one model are scored together.

        Rows do not know of each other; where the policy would, each is decided by itself.
        """
        if self._scorer.policy.remembers:
            return [
                tuple(prediction for row in item.rows for prediction in self._predict(item.model, [row]))
                for item in items
            ]
        answers: list[tuple[Prediction, ...]] = [()] * len(items)
        for same_model in _by_model(items):
            rows = [row for index in same_model for row in items[index].rows]
            predicted = self._predict(items[same_model[0]].model, rows)
            begin = 0
            for index in same_model:
                end = begin + len(items[index].rows)
                answers[index] = predicted[begin:end]
                begin = end
        return answers

    def _predict(self, model: Model, rows: Sequence[Mapping[str, FeatureValue]]) -> tuple[Prediction, ...]:
        source = self._scorer.plan.sources[self._models.source_of(model)]
        matrix = matrix_from_rows(source, model.signature, rows, now_us())
        decided = self._scorer.policy.decide(matrix, model.score(matrix), model, "live", remember=False)
        self._count_invalid(decided)
        return predictions(decided)


def _by_model(items: Sequence[AskedRows]) -> list[list[int]]:
    """Indices of the items of each model."""
    indices: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        indices.setdefault(id(item.model), []).append(index)
    return list(indices.values())


def is_short(items: Sequence[AskedRows]) -> bool:
    """Whether a batch is scored sooner in the event loop than in another thread."""
    return sum(len(item.rows) for item in items) <= SHORT_ROWS
