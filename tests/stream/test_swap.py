"""Swaps between batches: what is promoted is taken, what is refused leaves the worker as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from features.engine.engine import FeatureEngine
from models.bundles import bundle
from models.bundles.registry import Registry
from models.decision.policy import load_policy
from stream.scoring.scorer import Scorer
from stream.scoring.swap import Swapper, Watched
from tests.models import small

POLICY = '[sources.payments]\nreview = 0.5\n[sources.payments.suppress]\nentity = "card"\nperiod = "1000d"\n'


class Worker:
    """A scorer with its swapper, and what was reported."""

    def __init__(self, directory):
        self.registry = Registry(str(directory / "registry"))
        self.policy_file = directory / "policy.toml"
        self.policy_file.write_text(POLICY)
        for version in ("1", "2"):
            bundle.write(self.registry.path("fraud", version), small.contents(version=version))
        self.registry.promote("fraud", "1")
        plan = small.plan()
        model = bundle.load(self.registry.path("fraud", "1"), small.TRUST, plan)
        self.scorer = Scorer(FeatureEngine(plan), load_policy(self.policy_file, plan), {"payments": model})
        self.reported: list[tuple[str, str]] = []
        watched = Watched(
            registry=self.registry,
            routes={"payments": "fraud@champion"},
            trust=small.TRUST,
            plan=plan,
            policy_file=str(self.policy_file),
        )
        self.swapper = Swapper(watched, self.scorer, lambda *what: self.reported.append(what))

    @property
    def version(self) -> str:
        return self.scorer.model("payments").version.version

    def step(self) -> None:
        self.swapper.look()
        self.swapper.between()


@pytest.fixture
def worker(tmp_path):
    return Worker(tmp_path)


def test_a_promotion_is_taken_between_batches_and_not_before(worker):
    worker.registry.promote("fraud", "2")
    worker.swapper.look()
    assert worker.version == "1"
    worker.swapper.between()
    assert worker.version == "2"
    worker.registry.rollback("fraud")
    worker.step()
    assert worker.version == "1"
    assert worker.reported == [("payments", "swapped")] * 2


def test_nothing_new_nothing_done(worker):
    for _ in range(3):
        worker.step()
    assert worker.reported == []


def test_decisions_name_the_version_that_scored(worker):
    matrix = small.Rows(50).matrix()
    before = worker.scorer.decide([matrix])[0]
    worker.registry.promote("fraud", "2")
    worker.step()
    after = worker.scorer.decide([matrix])[0]
    assert (before.model.version, after.model.version) == ("1", "2")


def test_a_refused_version_leaves_the_champion_and_is_said_once(worker):
    bundle.write(worker.registry.path("fraud", "3"), small.contents(version="3"))
    card = Path(worker.registry.path("fraud", "3")) / "card.md"
    with card.open("a") as file:
        file.write("better than it is")
    worker.registry.promote("fraud", "3")
    for _ in range(3):
        worker.step()
    assert worker.version == "1"
    assert worker.reported == [("payments", "refused")]
    worker.registry.promote("fraud", "2")
    worker.step()
    assert worker.version == "2"


def test_a_model_without_the_policys_threshold_is_refused(worker):
    worker.policy_file.write_text(POLICY.replace("0.5", '"cheapest"'))
    worker.step()
    contents = small.contents(version="4", thresholds={})
    bundle.write(worker.registry.path("fraud", "4"), contents)
    worker.registry.promote("fraud", "4")
    worker.step()
    assert worker.version == "1"
    assert worker.reported == [("policy", "swapped"), ("payments", "refused")]


def test_an_edited_policy_is_taken_and_remembers(worker):
    matrix = small.Rows(300).matrix()
    before = worker.scorer.decide([matrix])[0]
    worker.policy_file.write_text(POLICY + "# edited\n")
    worker.step()
    after = worker.scorer.decide([small.Rows(300, start=300, seed=3).matrix()])[0]
    assert before.policy != after.policy
    assert before.alert.any()
    assert not after.alert.any()
    assert (after.suppressed == before.alert | before.suppressed).all()


@pytest.mark.parametrize("text", ["[sources.payments]\nreview = 7\n", "not toml", None])
def test_a_wrong_policy_leaves_the_old_one(worker, text):
    version = worker.scorer.policy.version
    if text is None:
        worker.policy_file.unlink()
    else:
        worker.policy_file.write_text(text)
    worker.step()
    assert worker.scorer.policy.version == version
    assert worker.reported == [("policy", "refused")]
    worker.policy_file.write_text(POLICY.replace("0.5", "0.6"))
    worker.step()
    assert worker.scorer.policy.version != version


def test_the_thread_does_the_same(worker):
    worker.swapper.start(poll_ms=1)
    worker.registry.promote("fraud", "2")
    for _ in range(10_000):
        worker.swapper.between()
        if worker.version == "2":
            break
        worker.swapper._stop.wait(0.001)
    worker.swapper.stop()
    assert worker.version == "2"


def test_another_models_bundle_in_the_champions_folder_is_not_served(worker):
    bundle.write(worker.registry.path("other", "1"), small.contents(name="other"))
    shutil.copytree(worker.registry.path("other", "1"), worker.registry.path("fraud", "3"))
    worker.registry.promote("fraud", "3")
    worker.step()
    assert worker.version == "1"
    assert worker.reported == [("payments", "refused")]


def test_an_error_that_nobody_foresaw_does_not_end_the_looking(worker, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("stream.scoring.swap.load_policy", lambda *_: 1 / 0)
        worker.policy_file.write_text(POLICY + "# edited\n")
        worker.step()
    assert worker.reported == [("policy", "refused")]
    worker.step()
    assert worker.reported == [("policy", "refused"), ("policy", "swapped")]
