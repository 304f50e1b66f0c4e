"""Folds: in time for streams (train, delay, assess), repeated and stratified for loan tables.

A stream learns a label only after the delay; a fold that ignores it looks better than production.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from sklearn.model_selection import RepeatedStratifiedKFold

from features.core.batch import Bools, Ints
from features.core.durations import parse_duration
from features.core.errors import ConfigurationError
from models.training.evaluation.metrics import DAY, Labels
from models.training.settings import SearchSettings


@dataclass(frozen=True, slots=True)
class Fold:
    """Row numbers to train on and to assess on."""

    name: str
    train: Ints
    assess: Ints


@dataclass(frozen=True, slots=True)
class Periods:
    """Lengths of the three periods of a fold in time, microseconds."""

    train: int
    delay: int
    assess: int

    @property
    def total(self) -> int:
        """Length of the whole fold."""
        return self.train + self.delay + self.assess


def in_time(start: int, periods: Periods, time: Ints, label: Labels, card: Ints | None) -> Fold:
    """One fold that starts at `start`: train, wait for labels, assess.

    Cards known as compromised are removed from assessment: those with a bad event in the train
    period, and for each assessed day those with one up to `delay` before it, beginning at `start`.
    """
    train = np.flatnonzero((time >= start) & (time < start + periods.train))
    first = start + periods.train + periods.delay
    assess = np.flatnonzero((time >= first) & (time < first + periods.assess))
    if card is not None:
        bad = (label == 1) & (time >= start) & (time < first + periods.assess)
        known_from = _first_known(card, time, bad, periods, start)
        today = first + (time[assess] - first) // DAY * DAY
        assess = assess[known_from[card[assess]] > today]
    return Fold(datetime.fromtimestamp(start / 1e6, UTC).strftime("%Y-%m-%d"), train, assess)


def _first_known(card: Ints, time: Ints, bad: Bools, periods: Periods, start: int) -> Ints:
    """When each card's first bad event of the fold is known; those of the train period: at its end."""
    known = np.full(int(card.max(initial=0)) + 1, np.iinfo(np.int64).max)
    rows = np.flatnonzero(bad)
    day_end = start + ((time[rows] - start) // DAY + 1) * DAY
    when = np.where(day_end <= start + periods.train, start + periods.train, day_end + periods.delay)
    np.minimum.at(known, card[rows], when)
    return known


def prequential(settings: SearchSettings, time: Ints, label: Labels, card: Ints | None) -> list[Fold]:
    """Folds in time, the latest first; ConfigurationError when the data cannot hold one of them."""
    periods = Periods(
        parse_duration(settings.train, "search.train"),
        parse_duration(settings.delay, "search.delay"),
        parse_duration(settings.assess, "search.assess"),
    )
    folds = []
    for start in _starts(settings, periods, time):
        fold = in_time(start, periods, time, label, card)
        for name, rows in (("train", fold.train), ("assess", fold.assess)):
            if len(np.unique(label[rows])) < 2:
                raise ConfigurationError(
                    f"search.{name}: the fold of {fold.name} has {len(rows)} rows and not both labels; "
                    "use longer periods or fewer folds"
                )
        folds.append(fold)
    return folds


def _starts(settings: SearchSettings, periods: Periods, time: Ints) -> Iterator[int]:
    if settings.starts:
        for text in settings.starts:
            try:
                yield int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)
            except ValueError as error:
                raise ConfigurationError(
                    f"search.starts: `{text}` is not a date such as 2018-07-25"
                ) from error
        return
    last = int(time.max()) // DAY * DAY + DAY - periods.total
    for number in range(settings.folds):
        yield last - number * periods.assess


def stratified(folds: int, repeats: int, label: Labels, seed: int) -> list[Fold]:
    """Repeated stratified folds: every row is assessed `repeats` times."""
    splits = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed).split(
        np.zeros((len(label), 1)), label
    )
    return [
        Fold(f"{number // folds + 1}.{number % folds + 1}", train.astype(np.int64), assess.astype(np.int64))
        for number, (train, assess) in enumerate(splits)
    ]


def make_folds(
    settings: SearchSettings, time: Ints | None, label: Labels, card: Ints | None, seed: int
) -> list[Fold]:
    """The folds that the settings ask for."""
    if settings.kind == "stratified":
        return stratified(settings.folds, settings.repeats, label, seed)
    if time is None:
        raise ConfigurationError(
            'data.event_time: needed for folds in time; or set search.kind = "stratified"'
        )
    return prequential(settings, time, label, card)
