"""Training settings: what a project's `train.toml` holds.

    [data]           where the training set is and which columns mean what
    [models.NAME]    one model: algorithm, parameters, imbalance, calibration, constraints
    [search]         folds in time (streams) or repeated stratified folds (loan tables), and the grid
    [costs]          the money at stake, for the cost curve

Read once by `load_settings`; everything after is typed and frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from features.core.errors import ConfigurationError
from features.core.files import read_text
from features.core.toml import convert, parse_toml

Algorithm = Literal["logistic", "forest", "xgboost", "blend"]
Parameter = float | int | str | bool | None


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the training set is; paths are relative to the settings file.

    `features` is a Parquet file of materialized features; where `events` are given (source name ->
    Parquet or CSV file), it is written from them when it is not there. `labels` names a label source
    among the events (by default the only one), or a file with the event id and `label` columns; without
    it `label` is a column of the features. An event without a label counts as good unless
    `unlabelled = "drop"`. `card` names the column whose known frauds remove it from assessment.
    `inputs` and `exclude` choose model inputs; by default all features and the source's amount, none
    that is protected. `categorical` names numbers that are codes, to be read as texts.
    """

    features: str | None = None
    events: dict[str, str] = {}
    profiles: dict[str, str] = {}
    labels: str | None = None
    label: str = "label"
    unlabelled: Literal["good", "drop"] = "good"
    source: str | None = None
    definitions: str | None = None
    event_id: str = "event_id"
    event_time: str | None = "event_time"
    card: str | None = None
    amount: str | None = None
    inputs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How candidates are compared.

    `prequential`: `folds` periods of train, delay, assess, each `assess` earlier than the next; the last
    one ends with the data unless `starts` (dates) are given. `stratified`: `folds` x `repeats`.
    `trials` limits a larger grid to a seeded random choice; 0 tries all.
    """

    kind: Literal["prequential", "stratified"] = "prequential"
    train: str = "7d"
    delay: str = "7d"
    assess: str = "7d"
    starts: tuple[str, ...] = ()
    folds: int = 4
    repeats: int = 1
    metric: Literal["roc_auc", "average_precision", "card_precision"] = "average_precision"
    cards: int = 100
    trials: int = 20


class CostSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money: a missed bad event costs `missed` plus `missed_share` of its amount; a decline of a
    good one costs `false_alarm`; every flagged event costs `review`."""

    missed: float = 0.0
    missed_share: float = 1.0
    false_alarm: float = 0.0
    review: float = 5.0


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model to train.

    `class_weight`: `none`, `balanced`, or the weight of a bad event against a good one. `monotone`:
    input -> 1 (score never falls as it rises) or -1. `grid`: parameter -> values to search. A `blend`
    averages the log-odds of its `members` (model names of the same file) with `weights`.
    `fit`: on `all` rows (folds in time: but those of the last delay, whose labels are not all known),
    or on the `latest` fold's train period only.
    """

    algorithm: Algorithm = "xgboost"
    parameters: dict[str, Parameter] = {}
    grid: dict[str, tuple[Parameter, ...]] = {}
    class_weight: Literal["none", "balanced"] | float = "none"
    calibrate: bool = True
    monotone: dict[str, int] = {}
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    fit: Literal["all", "latest"] = "all"
    seed: int = 0
    version: str | None = None


class TrainSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole settings file. `registry` is where bundles go; `report` a folder for evaluations.
    Without `search`, nothing is assessed on folds."""

    data: DataSettings = DataSettings()
    search: SearchSettings | None = None
    costs: CostSettings = CostSettings()
    models: dict[str, ModelSettings] = {}
    registry: str = "registry"
    report: str = "build"


def load_settings(path: str | Path) -> TrainSettings:
    """Read and check a settings file; ConfigurationError names the setting that is wrong."""
    file = Path(path)
    return convert(parse_toml(read_text(file), file), TrainSettings, file, strict=True)


def choose_model(settings: TrainSettings, name: str) -> ModelSettings:
    """The settings of one model; ConfigurationError lists the names there are."""
    model = settings.models.get(name)
    if model is None:
        known = ", ".join(sorted(settings.models)) or "none"
        raise ConfigurationError(f"models.{name}: no such model in the settings; there are: {known}")
    return model
