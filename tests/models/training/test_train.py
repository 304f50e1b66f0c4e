"""From a frame to a bundle: reproducible, calibrated, without protected inputs, refusing what is wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from features.definitions.spec import Definitions, Derived, Field, Source
from models.bundles import bundle
from models.bundles.signing import Trust
from models.core.errors import BundleRefused
from models.training.data.dataset import make_dataset
from models.training.search import candidates
from models.training.settings import (
    CostSettings,
    DataSettings,
    ModelSettings,
    SearchSettings,
    TrainSettings,
    load_settings,
)
from models.training.train import fit_model, prepare, train

from .conftest import SETTINGS, make_frame

TRUST = Trust(allow_unsigned=frozenset({"fraud"}))
FOREST = ModelSettings(algorithm="forest", parameters={"n_estimators": 20, "min_samples_leaf": 5})
SEARCH = SearchSettings(train="7d", delay="3d", assess="4d", folds=2, cards=10)


def settings(model: ModelSettings = FOREST, **changes: object) -> TrainSettings:
    return msgspec.structs.replace(
        TrainSettings(data=SETTINGS, models={"fraud": model, "line": ModelSettings(algorithm="logistic")}),
        **changes,
    )


@pytest.mark.parametrize(
    "model",
    [
        FOREST,
        ModelSettings(algorithm="xgboost", parameters={"subsample": 0.5}),
        ModelSettings(algorithm="logistic"),
        ModelSettings(algorithm="blend", members=("line",)),
    ],
    ids=["forest", "xgboost", "logistic", "blend"],
)
def test_same_seed_same_bundle(model, frame, tmp_path):
    paths = [train(frame, settings(model), "fraud", registry=str(tmp_path / place)) for place in "ab"]
    first, second = (bundle.load(path, TRUST).version for path in paths)
    assert first == second
    other = msgspec.structs.replace(model, seed=1)
    third = bundle.load(train(frame, settings(other), "fraud", registry=str(tmp_path / "c")), TRUST).version
    assert third.sha256 != first.sha256


def test_training_again_finds_the_bundle_there(frame, tmp_path):
    paths = {train(frame, settings(), "fraud", registry=str(tmp_path)) for _ in range(2)}
    assert len(paths) == 1
    assert Path(paths.pop()).parent == tmp_path / "fraud"


def test_a_version_is_never_written_twice(frame, tmp_path):
    named = msgspec.structs.replace(FOREST, version="1.0")
    path = train(frame, settings(named), "fraud", registry=str(tmp_path))
    assert path == train(frame, settings(named), "fraud", registry=str(tmp_path))
    other = msgspec.structs.replace(named, seed=5)
    with pytest.raises(BundleRefused, match="versions are immutable"):
        train(frame, settings(other), "fraud", registry=str(tmp_path))


def test_rows_whose_labels_may_not_be_known_are_not_learned(data):
    found = fit_model(settings(FOREST, search=SEARCH), "fraud", data)
    assert data.time is not None
    assert found.data.time is not None
    assert data.time.max() - found.data.time.max() >= 3 * 86_400_000_000


def test_the_bundle_tells_what_serving_needs(frame, tmp_path):
    costs = CostSettings(review=2)
    path = train(frame, settings(costs=costs), "fraud", registry=str(tmp_path), source="transactions")
    model = bundle.load(path, TRUST)
    made = model.manifest
    assert model.signature.numeric == ("amount", "usual", "count_7d", "hours")
    assert model.signature.categorical == ("category", "merchant")
    good = frame.filter(pl.col("label") == 0)
    assert made.baseline["amount"] == pytest.approx(good["amount"].median(), rel=1e-6)
    assert made.baseline["category"] in ("food", "travel", "cash", "")
    assert set(made.thresholds) == {"cheapest", "top_5_percent", "top_1_percent", "top_0.1_percent"}
    assert made.scores is not None
    assert sum(made.scores.counts) == len(frame)
    assert made.training is not None
    assert made.training.positives == frame["label"].sum()
    assert (Path(path) / "card.md").read_text().startswith("# Model card: fraud")


def test_calibrated_scores_are_shares(frame):
    weighted = ModelSettings(
        algorithm="forest", class_weight="balanced", parameters={"n_estimators": 50, "min_samples_leaf": 10}
    )
    fresh = make_dataset(make_frame(8_000, seed=5), SETTINGS)
    data = make_dataset(frame, SETTINGS)
    calibrated = fit_model(settings(weighted), "fraud", data).trained.predict(fresh.inputs)
    raw = fit_model(settings(msgspec.structs.replace(weighted, calibrate=False)), "fraud", data)
    share = fresh.label.mean()
    assert abs(calibrated.mean() - share) < 0.03
    assert abs(raw.trained.predict(fresh.inputs).mean() - share) > 0.1


def test_a_duplicate_event_is_learned_once(frame):
    twice = pl.concat([frame, frame]).with_columns(
        pl.Series("duplicate", [False] * len(frame) + [True] * len(frame))
    )
    assert len(make_dataset(twice, SETTINGS)) == len(frame)


def test_search_tries_the_grid_and_keeps_the_best(data):
    grid = msgspec.structs.replace(FOREST, grid={"max_depth": (1, 6), "min_samples_leaf": (5, 50)})
    found = fit_model(settings(grid, search=SEARCH), "fraud", data)
    assert len(found.search) == 4
    means = [one.mean("average_precision") for one in found.search]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1]
    assert found.settings.parameters == found.search[0].settings.parameters
    assert len(found.search[0].folds) == 2


def test_a_large_grid_is_sampled_by_seed():
    grid = msgspec.structs.replace(FOREST, grid={"max_depth": tuple(range(1, 30))})
    first = [one.parameters for one in candidates(grid, 5)]
    assert len(first) == 5
    assert first == [one.parameters for one in candidates(grid, 5)]
    assert first != [one.parameters for one in candidates(msgspec.structs.replace(grid, seed=9), 5)]


def test_latest_learns_from_the_last_train_period(data):
    latest = msgspec.structs.replace(FOREST, fit="latest")
    found = fit_model(settings(latest, search=SEARCH), "fraud", data)
    assert found.data.time is not None
    assert np.ptp(found.data.time) <= 7 * 86_400_000_000
    assert len(found.unseen_scores) == len(found.data) < len(data)


DEFINITIONS = Definitions(
    sources=(
        Source(
            name="applications",
            topic="applications",
            event_id="event_id",
            event_time="event_time",
            amount="amount",
            fields=(
                Field(name="event_id", dtype="string"),
                Field(name="event_time", dtype="timestamp"),
                Field(name="amount", dtype="float64"),
                Field(name="usual", dtype="float64", required=False),
                Field(name="sex", dtype="string"),
            ),
        ),
    ),
    derived=(
        Derived(name="ratio", source="applications", sql="amount / usual"),
        Derived(name="is_female", source="applications", sql="sex = 'f'"),
    ),
    protected=("sex",),
)


def test_what_is_made_from_a_protected_column_is_no_input(frame):
    plan = compile_plan(DEFINITIONS)
    made = frame.with_columns(ratio=pl.col("amount") / pl.col("usual"), is_female=pl.lit(1.0))
    data = prepare(made, TrainSettings(data=DataSettings(card="card")), plan)
    assert data.numeric == ("ratio", "amount")
    assert data.plan == plan.fingerprint
    named = TrainSettings(data=DataSettings(inputs=("ratio", "is_female")))
    with pytest.raises(ConfigurationError, match="`is_female` is protected"):
        prepare(made, named, plan)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataSettings(label="fraud"), r"data\.label: .* no column `fraud`"),
        (DataSettings(inputs=("amount", "speed")), r"data\.inputs: .* no column speed"),
        (DataSettings(card="pan"), r"data\.card: .* no column `pan`"),
        (DataSettings(start="2018"), r"data\.start: `2018` is not a date"),
        (DataSettings(end="1970-01-01"), "must hold both 0 and 1"),
    ],
)
def test_a_wrong_data_setting_is_named(data, message, frame):
    with pytest.raises(ConfigurationError, match=message):
        make_dataset(frame, data)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelSettings(algorithm="forest", parameters={"depth": 3}), "parameters of forest: .*depth"),
        (ModelSettings(algorithm="xgboost", monotone={"speed": 1}), "monotone: speed is not a numeric input"),
        (ModelSettings(algorithm="blend"), "a blend needs the names of its members"),
        (ModelSettings(algorithm="blend", members=("line",), weights=(1, 2)), "weights: one for each member"),
        (ModelSettings(algorithm="blend", members=("gone",)), r"models\.gone: no such model"),
    ],
)
def test_a_wrong_model_setting_is_named(model, message, data):
    with pytest.raises(ConfigurationError, match=message):
        fit_model(settings(model), "fraud", data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[models.a]\nalgorithm = 'magic'",
            r"algorithm: invalid enum value 'magic'; one of logistic, forest",
        ),
        ("[data]\nlable = 'x'", "`data.lable` is no setting; did you mean `data.label`"),
        ("[data", "train.toml:1: not TOML"),
    ],
)
def test_a_wrong_settings_file_is_named(text, message, tmp_path):
    file = tmp_path / "train.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(file)


EXAMPLES = sorted(Path("examples").glob("*/train.toml"))


def test_there_are_examples():
    assert {file.parent.name for file in EXAMPLES} >= {"payments", "lending", "handbook"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_trains_on_features_that_its_definitions_have(file):
    found = load_settings(file)
    plan = compile_plan(load_definitions(file.parent / str(found.data.definitions)))
    source = plan.sources[str(found.data.source)]
    known = {*plan.readers[source.name].names, *(field.name for field in source.fields)}
    wanted = {*found.data.inputs, *(name for model in found.models.values() for name in model.monotone)}
    assert wanted - known == set()
    assert set(found.data.events) <= set(plan.sources)
    members = {member for model in found.models.values() for member in model.members}
    assert members <= set(found.models)
