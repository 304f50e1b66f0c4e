"""The comparison of two commits: its interval, and how it starts a tree's worker."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import against


def test_the_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(5)
    samples = rng.lognormal(0.0, 0.3, (2_000, 10))
    inside = [low <= 1.0 <= high for low, high in map(against.interval, samples.tolist())]
    assert np.mean(inside) >= 0.95


@pytest.mark.parametrize(("count", "widest"), [(6, True), (10, False), (30, False)])
def test_more_pairs_make_it_narrower(count, widest):
    values = [1 + number / 100 for number in range(count)]
    assert (against.interval(values) == (values[0], values[-1])) is widest


def test_too_few_pairs():
    with pytest.raises(ValueError, match="5 pairs are too few"):
        against.interval([1.0] * 5)


def test_the_command_of_a_tree():
    text = (against.ROOT / "pyproject.toml").read_text()
    assert against.entry_point(text) == ("riskstream.__main__", "main")
