"""Search of hyper-parameters: every candidate is trained and assessed on the same folds.

Folds in time train on a period, wait for the labels, and assess on the next one, as production does.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from features.core.batch import Floats
from models.training.algorithms import Trained
from models.training.data.dataset import Dataset
from models.training.data.folds import Fold
from models.training.evaluation.metrics import (
    attainable_card_precision,
    average_precision,
    card_precision,
    roc_auc,
)
from models.training.settings import ModelSettings, Parameter, SearchSettings

Progress = Callable[[str, int, int], None]
Fit = Callable[[ModelSettings, Dataset], Trained]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessed:
    """One candidate: its figures on each fold."""

    settings: ModelSettings
    folds: tuple[dict[str, float], ...]

    def mean(self, metric: str) -> float:
        """Mean over folds."""
        return float(np.mean([fold[metric] for fold in self.folds]))

    def spread(self, metric: str) -> float:
        """Standard deviation over folds."""
        return float(np.std([fold[metric] for fold in self.folds]))


def no_progress(_text: str, _done: int, _total: int) -> None:
    """Ignores progress."""


def candidates(settings: ModelSettings, trials: int) -> list[ModelSettings]:
    """The grid's combinations, or a seeded choice of `trials` of them; without a grid, one."""
    names = sorted(settings.grid)
    combinations: list[tuple[Parameter, ...]] = list(itertools.product(*(settings.grid[n] for n in names)))
    if trials and len(combinations) > trials:
        combinations = random.Random(settings.seed).sample(combinations, trials)  # noqa: S311 - no secret
    return [
        msgspec.structs.replace(
            settings, grid={}, parameters={**settings.parameters, **dict(zip(names, values, strict=True))}
        )
        for values in combinations
    ]


def figures(data: Dataset, score: Floats, cards: int) -> dict[str, float]:
    """The figures of one fold's assessment."""
    figures = {
        "roc_auc": roc_auc(data.label, score),
        "average_precision": average_precision(data.label, score),
    }
    if data.card is not None and data.time is not None:
        figures["card_precision"] = card_precision(data.card, data.time, data.label, score, cards)
        figures["card_precision_attainable"] = attainable_card_precision(
            data.card, data.time, data.label, cards
        )
    return figures


def assess(
    settings: ModelSettings,
    data: Dataset,
    folds: Sequence[Fold],
    fit: Fit,
    cards: int,
    step: Callable[[], None] = lambda: None,
) -> Assessed:
    """Train and assess one candidate on every fold."""
    rows = []
    for fold in folds:
        trained = fit(settings, data.take(fold.train))
        assessed = data.take(fold.assess)
        rows.append(figures(assessed, trained.predict(assessed.inputs), cards))
        step()
    return Assessed(settings=settings, folds=tuple(rows))


def search(
    settings: ModelSettings,
    how: SearchSettings,
    data: Dataset,
    folds: Sequence[Fold],
    fit: Fit,
    progress: Progress = no_progress,
) -> list[Assessed]:
    """All candidates, best first by the mean of the chosen metric; ties keep the grid's order."""
    tried = candidates(settings, how.trials)
    total, done = len(tried) * len(folds), itertools.count(1)

    def step() -> None:
        progress("search", next(done), total)

    assessed = [assess(candidate, data, folds, fit, how.cards, step) for candidate in tried]
    return sorted(assessed, key=lambda candidate: -candidate.mean(how.metric))
