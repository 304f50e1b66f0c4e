"""The algorithms: one function makes an estimator from settings, one class holds what was learned.

Seeds are fixed and sums are taken on one thread, so the same training set gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.ensemble import RandomForestClassifier

from features.core.batch import Floats
from features.core.errors import ConfigurationError
from models.core.base import ModelInputs
from models.training.data.dataset import Dataset
from models.training.data.encoding import Encoder, Matrix, fit_encoder
from models.training.evaluation.metrics import Labels
from models.training.settings import ModelSettings, Parameter

EDGE = 1e-6
TAKES_NAN = ("xgboost",)


class Estimator(Protocol):
    """The part of scikit-learn's interface that is used here; XGBoost has it too."""

    def fit(self, matrix: Matrix, label: Labels, sample_weight: Floats | None = None) -> Any:
        """Learn from rows and labels."""
        ...

    def predict_proba(self, matrix: Matrix) -> NDArray[Any]:
        """[n, 2]: probability of good and of bad."""
        ...


@dataclass
class Logistic:
    """Logistic regression on standardised columns; `signs` bounds coefficients for monotone columns.

    Minimises log-loss + |coefficients|^2 / (2 c), the intercept free.
    """

    c: float = 1.0
    signs: list[int] | None = None
    coefficients: Floats | None = None
    intercept: float = 0.0

    def fit(self, matrix: Matrix, label: Labels, sample_weight: Floats | None = None) -> Logistic:
        """Learn; coefficients are stored for the columns as they come."""
        raw = matrix.astype(np.float64)
        centre, scale = raw.mean(axis=0), raw.std(axis=0)
        scale[scale == 0] = 1.0
        x = (raw - centre) / scale
        weight = np.ones(len(x)) if sample_weight is None else sample_weight
        y = label.astype(np.float64)

        def loss(w: Floats) -> tuple[float, Floats]:
            z = x @ w[1:] + w[0]
            value = float(weight @ (np.logaddexp(0, z) - y * z) + w[1:] @ w[1:] / (2 * self.c))
            slope = weight * (expit(z) - y)
            return value, np.concatenate([[slope.sum()], x.T @ slope + w[1:] / self.c])

        signs = self.signs or [0] * x.shape[1]
        bounds = [(None, None), *((0.0 if s > 0 else None, 0.0 if s < 0 else None) for s in signs)]
        start = np.zeros(x.shape[1] + 1)
        start[0] = logit(np.clip(np.average(y, weights=weight), EDGE, 1 - EDGE))
        solution = minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500, "ftol": 1e-12}
        ).x
        self.coefficients = solution[1:] / scale
        self.intercept = float(solution[0] - self.coefficients @ centre)
        return self

    def odds(self, matrix: Matrix) -> Floats:
        """float64[n]: log-odds of the bad outcome."""
        if self.coefficients is None:
            raise ValueError("this logistic regression has not learned yet")
        return np.asarray(matrix.astype(np.float64) @ self.coefficients + self.intercept, dtype=np.float64)

    def predict_proba(self, matrix: Matrix) -> NDArray[np.float64]:
        """float64[n, 2]."""
        bad = expit(self.odds(matrix))
        return np.stack([1 - bad, bad], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One estimator with its encoder and its weight in the blend."""

    algorithm: str
    encoder: Encoder
    estimator: Any
    weight: float

    def predict(self, inputs: ModelInputs) -> Floats:
        """Probability of the bad outcome, before calibration."""
        return np.asarray(self.estimator.predict_proba(self.encoder.encode(inputs))[:, 1], dtype=np.float64)

    def odds(self, inputs: ModelInputs) -> Floats:
        """Log-odds of the bad outcome: what a boosting sums; a forest's from its probability."""
        matrix = self.encoder.encode(inputs)
        if self.algorithm == "logistic":
            return np.asarray(self.estimator.odds(matrix), dtype=np.float64)
        if self.algorithm == "xgboost":
            return np.asarray(self.estimator.predict(matrix, output_margin=True), dtype=np.float64)
        score = np.asarray(self.estimator.predict_proba(matrix)[:, 1], dtype=np.float64)
        return np.asarray(logit(np.clip(score, EDGE, 1 - EDGE)), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What was learned: members, blended by the weighted mean of their log-odds, then calibrated:
    sigmoid(slope * log-odds + intercept). Slope 1 and intercept 0 leave the score as it is."""

    members: tuple[Member, ...]
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def calibrated(self) -> bool:
        """Whether the log-odds are moved at all."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def predict(self, inputs: ModelInputs) -> Floats:
        """float64[n]: probability of the bad outcome, as the libraries that trained compute it."""
        if len(self.members) == 1 and not self.calibrated:
            return self.members[0].predict(inputs)
        return np.asarray(expit(self.slope * self.odds(inputs) + self.intercept), dtype=np.float64)

    def odds(self, inputs: ModelInputs) -> Floats:
        """Weighted mean of the members' log-odds, before calibration."""
        weighted = [member.weight * member.odds(inputs) for member in self.members]
        return np.asarray(np.sum(weighted, axis=0), dtype=np.float64)


def fit_member(settings: ModelSettings, data: Dataset, weight: float = 1.0) -> Member:
    """Learn encoder and estimator on all rows of `data`."""
    impute = settings.algorithm not in TAKES_NAN
    encoder = fit_encoder(data.inputs, data.numeric, impute=impute)
    unknown = [name for name in settings.monotone if name not in data.numeric]
    if unknown:
        raise ConfigurationError(f"monotone: {', '.join(unknown)} is not a numeric input")
    estimator = make_estimator(settings, encoder.constraints(settings.monotone))
    estimator.fit(encoder.encode(data.inputs), data.label, sample_weight=_weights(settings, data.label))
    if isinstance(estimator, RandomForestClassifier):
        round_leaves(estimator)
        estimator.n_jobs = 1
    return Member(algorithm=settings.algorithm, encoder=encoder, estimator=estimator, weight=weight)


def round_leaves(forest: RandomForestClassifier) -> None:
    """Round what each leaf adds to the score (its share of bad over the number of trees) to 2^-24.

    Then float32, which ONNX Runtime sums in, holds every partial sum exactly, and graph and library agree.
    """
    step = 2.0**-24 * len(forest.estimators_)
    for tree in forest.estimators_:
        value = tree.tree_.value
        bad = np.round(value[:, 0, 1] / step) * step
        value[:, 0, 0], value[:, 0, 1] = 1 - bad, bad


def make_estimator(settings: ModelSettings, signs: list[int]) -> Estimator:
    """An estimator that has not learned; ConfigurationError names a parameter that it does not take."""
    parameters = dict(settings.parameters)
    makers = {"logistic": _logistic, "forest": _forest, "xgboost": _xgboost}
    try:
        return makers[settings.algorithm](parameters, signs if any(signs) else None, settings.seed)
    except (TypeError, KeyError) as error:
        raise ConfigurationError(f"parameters of {settings.algorithm}: {error}") from error


def _logistic(parameters: dict[str, Parameter], signs: list[int] | None, _seed: int) -> Estimator:
    return Logistic(signs=signs, **parameters)  # type: ignore[arg-type]


def _forest(parameters: dict[str, Parameter], signs: list[int] | None, seed: int) -> Estimator:
    estimator: Estimator = RandomForestClassifier(
        **{"n_estimators": 100, **parameters}, monotonic_cst=signs, random_state=seed, n_jobs=-1
    )
    return estimator


def _xgboost(parameters: dict[str, Parameter], signs: list[int] | None, seed: int) -> Estimator:
    from xgboost import XGBClassifier

    constraints = {"monotone_constraints": tuple(signs)} if signs else {}
    estimator: Estimator = XGBClassifier(
        **{"n_estimators": 100, "tree_method": "hist", **constraints, **parameters},
        random_state=seed,
        n_jobs=1,
    )
    return estimator


def _weights(settings: ModelSettings, label: Labels) -> Floats | None:
    if settings.class_weight == "none":
        return None
    if settings.class_weight == "balanced":
        share = float(label.mean())
        return np.where(label == 1, 0.5 / share, 0.5 / (1 - share))
    return np.where(label == 1, float(settings.class_weight), 1.0)
