"""Made-up training sets: numbers with holes, categories, cards, and a label that depends on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from models.training.data.dataset import Dataset, make_dataset
from models.training.settings import DataSettings

MakeFrame = Callable[..., pl.DataFrame]
DAY = 86_400_000_000


def make_frame(rows: int = 2_000, seed: int = 0, days: int = 28) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    amount = draw.lognormal(3, 1.5, rows)
    usual = np.where(draw.random(rows) < 0.1, np.nan, amount * draw.uniform(0.2, 3, rows))
    category = draw.choice(["food", "travel", "cash", ""], rows)
    odds = np.log(amount) - 4.5 + (category == "cash") * 1.5 - np.nan_to_num(np.log(usual / amount)) * 0.5
    time = np.sort(draw.integers(0, days * DAY, rows))
    return pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(rows)],
            "event_time": pl.Series(time).cast(pl.Datetime("us")),
            "amount": amount,
            "usual": pl.Series(usual).fill_nan(None),
            "count_7d": draw.poisson(4, rows),
            "hours": draw.integers(0, 24, rows),
            "category": category,
            "merchant": [f"m{i}" for i in draw.integers(0, 90, rows)],
            "card": [f"c{i}" for i in draw.integers(0, rows // 8, rows)],
            "sex": draw.choice(["f", "m"], rows),
            "label": (draw.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8),
        }
    )


SETTINGS = DataSettings(card="card", amount="amount", protected=("sex",))


@pytest.fixture
def frame() -> pl.DataFrame:
    return make_frame()


@pytest.fixture
def data(frame: pl.DataFrame) -> Dataset:
    return make_dataset(frame, SETTINGS)
