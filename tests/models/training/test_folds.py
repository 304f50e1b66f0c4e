"""Folds in time wait for labels and leave out cards that are known."""

from __future__ import annotations

import numpy as np
import pytest

from features.core.errors import ConfigurationError
from models.training.data.folds import Periods, in_time, prequential, stratified
from models.training.evaluation.metrics import DAY
from models.training.settings import SearchSettings

WEEK = Periods(7 * DAY, 7 * DAY, 7 * DAY)


def test_train_delay_and_assess_follow_each_other():
    time = np.arange(30) * DAY
    fold = in_time(2 * DAY, WEEK, time, np.zeros(30, dtype=np.int8), None)
    assert fold.train.tolist() == list(range(2, 9))
    assert fold.assess.tolist() == list(range(16, 23))


@pytest.mark.parametrize(
    ("fraud_day", "first_day_without"),
    [(0, 14), (6, 14), (7, 15), (8, 16), (12, 20), (13, 21), (14, 22)],
)
def test_a_card_leaves_when_its_fraud_is_known(fraud_day, first_day_without):
    """Known after the delay: a fraud of day d is known on day d + 7 + 1, those of training at once."""
    time = np.append(np.arange(14, 21) * DAY + 5, fraud_day * DAY + 3)
    label = np.array([0] * 7 + [1], dtype=np.int8)
    card = np.zeros(8, dtype=np.int64)
    order = np.argsort(time)
    fold = in_time(0, WEEK, time[order], label[order], card)
    days = sorted({int(time[order][row] // DAY) for row in fold.assess})
    assert days == [day for day in range(14, 21) if day < first_day_without]


def test_other_cards_stay():
    time = np.array([1, 2, 15]) * DAY
    card = np.array([0, 1, 1])
    fold = in_time(0, WEEK, time, np.array([1, 0, 0], dtype=np.int8), card)
    assert fold.assess.tolist() == [2]


def test_the_last_fold_ends_with_the_data():
    time = np.repeat(np.arange(40) * DAY, 2)
    label = np.tile([0, 1], 40).astype(np.int8)
    folds = prequential(SearchSettings(folds=2), time, label, None)
    assert [int(time[fold.assess].max() // DAY) for fold in folds] == [39, 32]
    assert folds[0].name == "1970-01-20"


def test_a_fold_without_both_labels_is_refused():
    time = np.arange(40) * DAY
    with pytest.raises(ConfigurationError, match=r"search\.train: the fold of 1970-01-20 .* not both labels"):
        prequential(SearchSettings(folds=1), time, np.zeros(40, dtype=np.int8), None)


def test_a_wrong_date_is_refused():
    with pytest.raises(ConfigurationError, match=r"search\.starts: `soon` is not a date"):
        prequential(SearchSettings(starts=("soon",)), np.arange(3), np.zeros(3, dtype=np.int8), None)


def test_stratified_folds_assess_every_row_once_a_repeat():
    label = np.array([0] * 30 + [1] * 10, dtype=np.int8)
    folds = stratified(5, 2, label, 0)
    assert len(folds) == 10
    assert sorted(np.concatenate([fold.assess for fold in folds[:5]]).tolist()) == list(range(40))
    assert all(label[fold.assess].sum() == 2 for fold in folds)
