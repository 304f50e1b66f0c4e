"""The demo's project: trained once a seed, signed, with thresholds from rows that the model has not seen."""

from __future__ import annotations

import tomllib

import polars as pl
import pytest

from stream.demo import training
from stream.demo.bank.days import TOPICS
from stream.demo.training import prepare


@pytest.fixture(scope="module")
def project(demo_cache, demo_seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(demo_cache))
        folder = prepare(demo_seed, lambda step, done, total: None)
        again: list[str] = []
        assert prepare(demo_seed, lambda step, done, total: again.append(step)) == folder
        assert again == [], "a second demo trains nothing"
        yield folder


def test_definitions_match_the_simulators_topics(project):
    from features.definitions.project import load_definitions

    definitions = load_definitions(project / "definitions.py")
    assert {source.topic for source in definitions.sources} == set(TOPICS)


def test_both_models_are_champions_and_signed(project):
    from features.definitions.compile import compile_plan
    from features.definitions.project import load_definitions
    from models.bundles import bundle
    from models.bundles.registry import Registry
    from models.bundles.signing import trust

    plan = compile_plan(load_definitions(project / "definitions.py"))
    trusted = trust([str(project / "demo.pub.pem")])
    for name, source in (("fraud", "transactions"), ("default", "applications")):
        path = Registry(str(project / "registry")).resolve(f"{name}@champion").path
        assert bundle.load(path, trusted, plan).signature.source == source


def test_policy_has_thresholds_in_place_of_names(project):
    text = (project / "policy.toml").read_text()
    assert tomllib.loads(text)
    assert "_review" not in text
    assert "_decline" not in text


def test_learning_days_and_assessed_days_are_apart(project):
    features = pl.read_parquet(project / "history" / "transactions-features.parquet")
    assert features["event_time"].is_sorted()
    for task in (training.FRAUD, training.DEFAULT):
        assert task.learn[0] < task.learn[1] <= task.assess[0] < task.assess[1] <= 0
