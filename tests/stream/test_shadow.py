"""Challengers in the shadow: same features, own decisions, never in the champion's way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from features.engine.engine import FeatureEngine
from models.bundles.bundle import LoadedModel
from models.decision.policy import load_policy
from stream.scoring.challengers import Challengers, Shadow
from stream.scoring.scorer import Scorer
from tests.models import small

POLICY = '[sources.payments]\nreview = 0.5\n[sources.payments.suppress]\nentity = "card"\nperiod = "1h"\n'


class Slow:
    """A model that waits to be let on, or fails."""

    def __init__(self, runner, broken: bool = False):
        self.runner, self.broken = runner, broken
        self.asked, self.go = threading.Event(), threading.Event()

    def run(self, inputs):
        self.asked.set()
        assert self.go.wait(30)
        if self.broken:
            raise ValueError("no such tensor")
        return self.runner.run(inputs)


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "policy.toml").write_text(POLICY)
    champion = small.model(tmp_path)
    challenger = small.model(tmp_path, "logistic", version="2")

    def policy():
        return load_policy(tmp_path / "policy.toml", small.plan())

    return champion, challenger, policy


def shadow_of(challengers, most_waiting=10_000):
    published: list[Any] = []
    dropped: list[Any] = []
    shadow = Shadow(
        challengers, published.append, lambda *what: dropped.append(what), lambda: None, most_waiting
    )
    return shadow, published, dropped


def test_challengers_see_what_the_champion_scored_and_change_nothing(parts):
    champion, challenger, policy = parts
    alone = Scorer(FeatureEngine(small.plan()), policy(), {"payments": champion})
    watched = Scorer(FeatureEngine(small.plan()), policy(), {"payments": champion})
    shadow, published, dropped = shadow_of(Challengers({"payments": challenger}, policy()))
    watched.observers.append(shadow.offer)
    shadow.start()
    for number in range(5):
        matrix = small.Rows(200, start=200 * number, seed=number).matrix()
        undisturbed, made = alone.decide([matrix])[0], watched.decide([matrix])[0]
        assert (undisturbed.alert == made.alert).all()
        assert made.model.version == "1"
        watched.decide([matrix], remember=False)
    shadow.close()
    assert dropped == []
    assert [len(one) for one in published] == [200] * 5
    for one in published:
        assert (one.mode, one.model.version) == ("shadow", "2")
        assert (one.score == challenger.score(one.features)).all()


def test_a_slow_challenger_drops_events_and_counts_them(parts):
    _, challenger, policy = parts
    slow = Slow(challenger.runner)
    model = LoadedModel(challenger.manifest, challenger.version, slow)
    shadow, published, dropped = shadow_of(Challengers({"payments": model}, policy()), most_waiting=250)
    shadow.start()
    shadow.offer(small.Rows(100).matrix())
    assert slow.asked.wait(30)
    for _ in range(4):
        shadow.offer(small.Rows(100).matrix())
    assert dropped == [("payments", 100)] * 2
    slow.go.set()
    shadow.close()
    assert sum(len(one) for one in published) + sum(events for _, events in dropped) == 500


def test_a_failing_challenger_is_counted_and_goes_on(parts):
    _, challenger, policy = parts
    broken = Slow(challenger.runner, broken=True)
    broken.go.set()
    model = LoadedModel(challenger.manifest, challenger.version, broken)
    shadow, published, dropped = shadow_of(Challengers({"payments": model}, policy()))
    shadow.start()
    for _ in range(3):
        shadow.offer(small.Rows(10).matrix())
    shadow.close()
    assert published == []
    assert dropped == [("payments", 10)] * 3


def test_sources_without_a_challenger_are_left_alone(parts):
    shadow, published, dropped = shadow_of(Challengers({}, parts[2]()))
    shadow.start()
    shadow.offer(small.Rows(10).matrix())
    shadow.close()
    assert (published, dropped) == ([], [])
