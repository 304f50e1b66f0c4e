"""Trains a model and writes its bundle.

    frame of features and labels -> Dataset -> (search) -> fit -> calibrate -> ONNX graph -> bundle

The same training set, settings and seed give the same bundle, byte for byte
(tests/models/training/test_train.py): nothing depends on the clock or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.model_selection import StratifiedKFold

from features.core.batch import Floats, Ints
from features.core.durations import parse_duration
from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from models.bundles import bundle
from models.bundles.registry import Registry
from models.core.errors import BundleRefused
from models.core.manifest import Manifest
from models.training.algorithms import Logistic, Trained, fit_member
from models.training.data.dataset import Dataset, make_dataset
from models.training.data.folds import Fold, make_folds
from models.training.evaluation.card import model_card
from models.training.export.contents import Training, make_contents
from models.training.search import Assessed, Progress, no_progress, search
from models.training.settings import ModelSettings, SearchSettings, TrainSettings, choose_model

THIRDS = 3


def train(
    frame: pl.DataFrame,
    settings: TrainSettings,
    name: str,
    *,
    plan: Plan | None = None,
    source: str | None = None,
    registry: str | None = None,
    key: Ed25519PrivateKey | None = None,
    progress: Progress = no_progress,
) -> str:
    """Train model `name` on a frame of materialized features with a label column; returns the bundle's path.

    With a `plan`, inputs default to the features of `source` (the only scored one when None), and none
    that is protected or made from a protected column. `registry` overrides the settings' registry.
    """
    data = prepare(frame, settings, plan, source)
    training = fit_model(settings, name, data, progress)
    return write_bundle(settings, training, registry=registry, key=key)


def prepare(
    frame: pl.DataFrame, settings: TrainSettings, plan: Plan | None = None, source: str | None = None
) -> Dataset:
    """The training set of a frame."""
    if plan is None:
        return make_dataset(frame, settings.data, source=source or "")
    from models.bundles.plan_check import protected_features

    source = source or settings.data.source or _only_source(plan)
    forbidden = protected_features(plan, source)
    protected = tuple(sorted({*settings.data.protected, *forbidden}))
    chosen = msgspec.structs.replace(settings.data, protected=protected)
    reader = plan.readers[source]
    amount = plan.sources[source].amount
    inputs = tuple(dict.fromkeys((*reader.names, *reader.text_names, *([amount] if amount else []))))
    if amount and not chosen.amount and amount in frame.columns:
        chosen = msgspec.structs.replace(chosen, amount=amount)
    return make_dataset(frame, chosen, inputs=inputs, plan=plan.fingerprint, source=source)


def _only_source(plan: Plan) -> str:
    if len(plan.readers) == 1:
        return next(iter(plan.readers))
    raise ConfigurationError(f"data.source: name one of {', '.join(sorted(plan.readers))}")


def fit_model(
    settings: TrainSettings, name: str, data: Dataset, progress: Progress = no_progress
) -> Training:
    """Search parameters on folds where the settings ask for it, then learn and calibrate."""
    model = choose_model(settings, name)
    assessed: tuple[Assessed, ...] = ()
    if settings.search is not None:
        how = settings.search
        folds = make_folds(how, data.time, data.label, data.card, model.seed)

        def fit(candidate: ModelSettings, rows: Dataset) -> Trained:
            return fit_plain(settings, candidate, rows)

        assessed = tuple(search(model, how, data, folds, fit, progress))
        model = assessed[0].settings
        data = _to_learn_from(model, how, data, folds)
    trained, unseen = fit_calibrated(settings, model, data, progress)
    return Training(
        name=name, settings=model, data=data, trained=trained, unseen_scores=unseen, search=assessed
    )


def _to_learn_from(
    model: ModelSettings, how: SearchSettings, data: Dataset, folds: Sequence[Fold]
) -> Dataset:
    """The latest train period, or all rows whose labels the delay has let become known."""
    if model.fit == "latest":
        return data.take(folds[0].train)
    if how.kind == "stratified" or data.time is None:
        return data
    known = int(data.time.max()) - parse_duration(how.delay, "search.delay")
    return data.take(np.flatnonzero(data.time <= known))


def fit_plain(settings: TrainSettings, model: ModelSettings, data: Dataset) -> Trained:
    """Learn without calibration, which does not change the order of scores."""
    if model.algorithm != "blend":
        return Trained(members=(fit_member(model, data),))
    if not model.members:
        raise ConfigurationError("members: a blend needs the names of its members")
    weights = model.weights or (1.0,) * len(model.members)
    if len(weights) != len(model.members):
        raise ConfigurationError("weights: one for each member")
    members = (choose_model(settings, member) for member in model.members)
    total = sum(weights)
    return Trained(
        members=tuple(fit_member(m, data, w / total) for m, w in zip(members, weights, strict=True))
    )


def fit_calibrated(
    settings: TrainSettings, model: ModelSettings, data: Dataset, progress: Progress = no_progress
) -> tuple[Trained, Floats]:
    """Learn on all rows; also on two thirds three times, to score and calibrate on rows not seen."""
    odds = np.empty(len(data))
    third = _thirds(data, model.seed)
    for held_out in range(THIRDS):
        progress("calibrate", held_out, THIRDS + 1)
        inside, outside = np.flatnonzero(third != held_out), np.flatnonzero(third == held_out)
        learned = fit_plain(settings, model, data.take(inside))
        odds[outside] = learned.odds(data.take(outside).inputs)
    progress("fit", THIRDS, THIRDS + 1)
    trained = fit_plain(settings, model, data)
    if model.calibrate:
        line = Logistic(c=1e6).fit(odds.reshape(-1, 1).astype(np.float32), data.label)
        if line.coefficients is not None and line.coefficients[0] > 0:
            trained = replace(trained, slope=float(line.coefficients[0]), intercept=line.intercept)
    progress("fit", THIRDS + 1, THIRDS + 1)
    return trained, 1.0 / (1.0 + np.exp(-(trained.slope * odds + trained.intercept)))


def _thirds(data: Dataset, seed: int) -> Ints:
    """The part of each row: by card where there is one, so that no card is on both sides."""
    if data.card is not None and len(np.unique(data.card[data.label == 1])) >= THIRDS * 10:
        shuffled = np.random.default_rng(seed).permutation(int(data.card.max()) + 1)
        return np.asarray(shuffled[data.card] % THIRDS, dtype=np.int64)
    third = np.empty(len(data), dtype=np.int64)
    smallest = int(min(data.label.sum(), (data.label == 0).sum()))
    if smallest < THIRDS:
        raise ConfigurationError(
            f"data: {smallest} rows of the rarer label; training needs at least {THIRDS}"
        )
    split = StratifiedKFold(THIRDS, shuffle=True, random_state=seed).split(
        np.zeros((len(data), 1)), data.label
    )
    for number, (_, rows) in enumerate(split):
        third[rows] = number
    return third


def write_bundle(
    settings: TrainSettings,
    training: Training,
    *,
    registry: str | None = None,
    key: Ed25519PrivateKey | None = None,
    more: Mapping[str, bytes] | None = None,
) -> str:
    """Write the bundle to `REGISTRY/NAME/VERSION`; the version is drawn from the content unless set."""
    contents = make_contents(settings, training)
    contents = replace(contents, card=model_card(contents.manifest, training), more=more or {})
    _, finished, _ = bundle.assemble(contents, training.name)
    path = Registry(registry or settings.registry).path(training.name, finished.version)
    if _exists(path, finished):
        if key is not None:
            bundle.sign(path, key)
    else:
        bundle.write(path, contents, key=key)
    return path


def _exists(path: str, finished: Manifest) -> bool:
    """Whether this very bundle was written before; another one of that version is refused by `write`."""
    try:
        return bundle.describe(path) == finished
    except BundleRefused:
        return False
