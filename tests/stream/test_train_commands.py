"""`riskstream train` and `evaluate` on a small project: recorded events in, bundle and report out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.bundles import bundle, signing
from models.bundles.registry import Registry
from stream.cli.app import run

DAY_MS = 86_400_000
SETTINGS = """
registry = "registry"
report = "report"
[data]
definitions = "definitions.py"
source = "transactions"
features = "history/features.parquet"
label = "fraud"
card = "card_id"
[data.events]
transactions = "history/transactions.parquet"
chargebacks = "history/chargebacks.parquet"
[search]
train = "6d"
delay = "3d"
assess = "4d"
folds = 2
cards = 5
[models.fraud]
algorithm = "xgboost"
parameters = { n_estimators = 20, max_depth = 3 }
"""


def record(folder: Path, rows: int = 3_000) -> None:
    """Three weeks of payments; those over 300 are fraud, and charged back two days later."""
    draw = np.random.default_rng(0)
    time = np.sort(draw.integers(0, 21 * DAY_MS, rows)) + 1_750_000_000_000
    amount = draw.lognormal(3.5, 1.2, rows).round(2)
    texts = {
        "transaction_id": [f"t{i}" for i in range(rows)],
        "card_id": [f"card-{i}" for i in draw.integers(0, 400, rows)],
        "merchant_id": [f"shop-{i}" for i in draw.integers(0, 40, rows)],
    }
    fixed = {"currency": "EUR", "country": "DE", "category": "food", "channel": "ecommerce"}
    frame = pl.DataFrame({**texts, "event_time": time, "amount": amount}).with_columns(
        pl.col("card_id").alias("customer_id"),
        pl.lit("device").alias("device_id"),
        *(pl.lit(value).alias(name) for name, value in fixed.items()),
    )
    fraud = frame.filter(pl.col("amount") > 300)
    chargebacks = fraud.select(
        ("c" + pl.col("transaction_id")).alias("chargeback_id"),
        (pl.col("event_time") + 2 * DAY_MS).alias("known_at"),
        "transaction_id",
        pl.col("event_time").alias("transaction_time"),
        "card_id",
        "merchant_id",
        pl.lit(value=True).alias("fraud"),
    )
    folder.mkdir()
    frame.write_parquet(folder / "transactions.parquet")
    chargebacks.sort("known_at").write_parquet(folder / "chargebacks.parquet")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copy("examples/payments/definitions.py", folder)
    (folder / "train.toml").write_text(SETTINGS)
    record(folder / "history")
    return folder


def test_train_then_evaluate(project, capsys):
    config = str(project / "train.toml")
    private, public = signing.new_key()
    (project / "key.pem").write_text(private)
    (project / "key.pub.pem").write_text(public)
    assert run(["train", "--config", config, "--model", "fraud", "--key", str(project / "key.pem")]) == 0
    path = capsys.readouterr().out.splitlines()[-1]
    assert (project / "history" / "features.parquet").exists()
    model = bundle.load(path, signing.trust([str(project / "key.pub.pem")]))
    assert "amount" in model.signature.numeric
    assert "fraud" not in model.signature.numeric
    assert model.manifest.metrics["folds_roc_auc"] > 0.9

    Registry(str(project / "registry")).promote("fraud", Path(path).name)
    trusted = ("--key", str(project / "key.pub.pem"))
    assert run(["evaluate", "--config", config, "--model", "fraud@champion", *trusted]) == 0
    figures = json.loads((project / "report" / "evaluation-fraud.json").read_text())
    assert figures["model"]["version"] == Path(path).name
    assert figures["accuracy"]["roc_auc"] > 0.95
    assert (project / "report" / "evaluation-fraud.html").read_text().startswith("<!doctype html>")
    assert "Model card" in (project / "report" / "evaluation-fraud.md").read_text()
    assert capsys.readouterr().out.splitlines()[-1].endswith("evaluation-fraud.html")


def test_an_unsigned_bundle_is_refused_where_keys_are_named(project, capsys, tmp_path):
    config = str(project / "train.toml")
    assert run(["train", "--config", config, "--model", "fraud", "--registry", str(tmp_path)]) == 0
    path = capsys.readouterr().out.splitlines()[-1]
    _, public = signing.new_key()
    (tmp_path / "other.pub.pem").write_text(public)
    trusted = ("--key", str(tmp_path / "other.pub.pem"))
    assert run(["evaluate", "--config", config, "--bundle", path, *trusted]) == 2
    assert "not signed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--model", "nobody"), "no such model in the settings; there are: fraud"),
        (("evaluate",), "give either --model NAME@ALIAS or --bundle DIRECTORY"),
        (("evaluate", "--model", "fraud@nobody"), "no such alias or version"),
    ],
)
def test_wrong_use_says_what_to_do(project, capsys, arguments, message):
    assert run([*arguments, "--config", str(project / "train.toml")]) == 2
    assert message in capsys.readouterr().err
