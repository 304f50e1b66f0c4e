"""`make loans`: three credit data sets, ours beside the reference, and true reasons for every decline.

Same cross-validation for all: 10 x 5 repeated stratified folds, mean ROC AUC (../shared/data/README.md).
Protected attributes (sex, age, marriage, nationality) are never inputs; the reference figures use them.
Writes build/loans.json.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from rich.progress import Progress

from benchmarks import german_declines
from benchmarks.handbook import BUILD, DATA
from models.training.algorithms import Trained
from models.training.data.dataset import Dataset, make_dataset
from models.training.data.folds import stratified
from models.training.evaluation.metrics import roc_auc
from models.training.settings import DataSettings, ModelSettings, TrainSettings
from models.training.train import fit_plain

REPEATS, FOLDS, SEED = 10, 5, 0
SBA_INPUTS = (
    "BankState",
    "NAICS",
    "NoEmp",
    "NewExist",
    "CreateJob",
    "RetainedJob",
    "FranchiseCode",
    "UrbanRural",
    "RevLineCr",
    "LowDoc",
    "GrAppv",
    "SBA_Appv",
    "New",
    "Portion",
)
PAY = ("pay_0", "pay_2", "pay_3", "pay_4", "pay_5", "pay_6")


@dataclass(frozen=True)
class Task:
    """One data set: its frame, its inputs, the models tried, and the reference (logistic, forest, boosting)."""

    title: str
    frame: pl.DataFrame
    data: DataSettings
    models: dict[str, ModelSettings]
    reference: dict[str, float]
    blend: tuple[str, ...] = field(default=("logistic", "forest", "boosting"))


def taiwan() -> pl.DataFrame:
    late = [pl.col(name).clip(0, 9) for name in PAY]
    used = [(pl.col(f"bill_amt{i}") / pl.col("limit_bal")).alias(f"used_{i}") for i in (1, 2, 3)]
    paid = [
        (pl.col(f"pay_amt{i}") / pl.max_horizontal(pl.col(f"bill_amt{i + 1}").abs(), pl.lit(1.0)))
        .clip(0, 5)
        .alias(f"paid_{i}")
        for i in (1, 2, 3)
    ]
    return pl.read_parquet(DATA / "uci_credit_card_default.parquet").with_columns(
        *used,
        *paid,
        pl.max_horizontal(*late).alias("latest_ever"),
        pl.sum_horizontal(*late).alias("months_late"),
    )


def boosting(**changes: Any) -> ModelSettings:
    usual = {
        "n_estimators": 200,
        "max_depth": 4,
        "learning_rate": 0.05,
        "subsample": 0.7,
        "colsample_bytree": 0.5,
        "min_child_weight": 5,
        "reg_lambda": 3,
    }
    return ModelSettings(algorithm="xgboost", parameters={**usual, **changes})


def forest(**changes: Any) -> ModelSettings:
    usual = {"n_estimators": 100, "min_samples_leaf": 5, "max_features": 0.3}
    return ModelSettings(algorithm="forest", parameters={**usual, **changes})


def logistic(c: float) -> ModelSettings:
    return ModelSettings(algorithm="logistic", parameters={"c": c})


def tasks() -> dict[str, Task]:
    applications = german_declines.events(DATA / "german_credit.parquet")
    return {
        "german_credit": Task(
            "German credit",
            german_declines.with_features(applications),
            german_declines.DATA_SETTINGS,
            {
                "logistic": logistic(0.03),
                "forest": forest(n_estimators=200, min_samples_leaf=3, max_features=0.2),
                "boosting": boosting(
                    n_estimators=300, max_depth=2, subsample=0.6, colsample_bytree=0.3, min_child_weight=3
                ),
            },
            {"logistic": 0.787, "forest": 0.793, "boosting": 0.782},
        ),
        "taiwan_cards": Task(
            "Taiwan cards",
            taiwan(),
            DataSettings(
                label="default", event_id="id", event_time=None, protected=("sex", "age", "marriage")
            ),
            {
                "logistic": logistic(1.0),
                "forest": forest(n_estimators=60, min_samples_leaf=10),
                "boosting": boosting(),
            },
            {"logistic": 0.724, "forest": 0.764, "boosting": 0.781},
            ("boosting",),
        ),
        "sba_loans": Task(
            "SBA loans",
            pl.read_parquet(DATA / "sba_case_loans.parquet"),
            DataSettings(
                label="default",
                event_time=None,
                inputs=SBA_INPUTS,
                categorical=("UrbanRural", "NAICS", "FranchiseCode"),
            ),
            {"logistic": logistic(1.0), "forest": forest(), "boosting": boosting()},
            {"logistic": 0.828, "forest": 0.838, "boosting": 0.850},
        ),
    }


def assess(task: Task, progress: Progress) -> dict[str, Any]:
    """Mean and spread of ROC AUC over the folds, for each model and for the blend of their log-odds."""
    data = make_dataset(task.frame, task.data)
    folds = stratified(FOLDS, REPEATS, data.label, SEED)
    bar = progress.add_task(task.title, total=len(folds))
    found: dict[str, list[float]] = {name: [] for name in (*task.models, "champion")}
    for fold in folds:
        train, rest = data.take(fold.train), data.take(fold.assess)
        odds = {name: _fit(model, train).odds(rest.inputs) for name, model in task.models.items()}
        odds["champion"] = np.mean([odds[name] for name in task.blend], axis=0)
        for name, values in odds.items():
            found[name].append(roc_auc(rest.label, values))
        progress.advance(bar)
    best_reference = max(task.reference.values())
    rows = {
        name: {
            "roc_auc": round(float(np.mean(values)), 4),
            "spread": round(float(np.std(values)), 4),
            "reference": task.reference.get(name, best_reference),
        }
        for name, values in found.items()
    }
    return {
        "roc_auc": rows["champion"]["roc_auc"],
        "reference_best": best_reference,
        "rows": len(data),
        "models": rows,
        "blend": list(task.blend),
    }


def _fit(model: ModelSettings, data: Dataset) -> Trained:
    return fit_plain(TrainSettings(), model, data)


def show(results: dict[str, Any]) -> None:
    print(
        f"\nROC AUC, {REPEATS} x {FOLDS} repeated stratified folds (reference: scikit-learn 1.9 defaults)\n"
    )
    print(f"{'set':<15}{'model':<12}{'ours':>8}{'spread':>9}{'reference':>11}{'difference':>12}")
    for name in ("german_credit", "taiwan_cards", "sba_loans"):
        for model, row in results[name]["models"].items():
            gain = row["roc_auc"] - row["reference"]
            print(
                f"{name:<15}{model:<12}{row['roc_auc']:>8.4f}{row['spread']:>9.4f}"
                f"{row['reference']:>11.3f}{gain:>+12.4f}"
            )
    german_declines.show(results["german_credit"]["adverse_action"])


def main() -> int:
    """Run all of it; 1 when German credit falls short or a decline's reason is not true, 2 without the data."""
    started = time.time()
    if not (DATA / "german_credit.parquet").is_file():
        sys.stderr.write(f"make loans: no data in {DATA}; set RISKSTREAM_DATA to the folder with it\n")
        return 2
    results: dict[str, Any] = {}
    with Progress() as progress:
        for name, task in tasks().items():
            results[name] = assess(task, progress)
    applications = german_declines.events(DATA / "german_credit.parquet")
    results["german_credit"]["adverse_action"] = german_declines.check(
        applications, tasks()["german_credit"].models
    )
    results["seconds"] = round(time.time() - started, 1)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "loans.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    show(results)
    declines = results["german_credit"]["adverse_action"]
    true = not declines["failures"] and declines["share_moving_to_approval"] == 1.0
    return 0 if true and results["german_credit"]["roc_auc"] >= 0.795 else 1


if __name__ == "__main__":
    sys.exit(main())
