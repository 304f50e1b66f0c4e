"""Two models and two policies in one report, against scikit-learn and pandas from the raw events on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.bundles.bundle import write
from stream.cli.app import run
from tests.models import small

START = pd.Timestamp("2026-03-01")
EVENTS = 4_000
THRESHOLDS = {"candidate": 0.55, "against": 0.7}
KINDS = {"candidate": "logistic", "against": "forest"}


def events() -> pd.DataFrame:
    draw = np.random.default_rng(8)
    frame = pd.DataFrame({
        "id": [f"e{row}" for row in range(EVENTS)],
        "time": START + pd.to_timedelta(np.arange(EVENTS) * 61, unit="s"),
        "card": [f"c{card}" for card in draw.integers(0, 900, EVENTS)],
        "amount": draw.normal(size=EVENTS), "age": 40.0, "channel": draw.choice(["web", "shop"], EVENTS),
    })  # fmt: skip
    frame["bad"] = (frame.amount + draw.normal(scale=0.6, size=EVENTS) > 1.2).astype(int)
    return frame


@pytest.fixture
def project(tmp_path: Path) -> Path:
    labels = "\n".join((
        "from dataclasses import replace", "from features.definitions.spec import Field, LabelOf, Source",
        "from tests.models.small import DEFINITIONS", "",
        "outcomes = Source(", '    name="outcomes", topic="outcomes", event_id="id", event_time="known", key="id",',
        '    fields=(Field(name="id", dtype="string"), Field(name="known", dtype="timestamp"),',
        '            Field(name="of", dtype="string"), Field(name="bad", dtype="int64")),',
        '    labels=LabelOf(event_id="of", value="bad"),', ")",
        "definitions = replace(DEFINITIONS, sources=(*DEFINITIONS.sources, outcomes))", "",
    ))  # fmt: skip
    (tmp_path / "definitions.py").write_text(labels)
    frame = events()
    pl.from_pandas(frame.drop(columns="bad")).write_parquet(tmp_path / "payments.parquet")
    known = pl.DataFrame({
        "id": [f"o{row}" for row in range(0, EVENTS, 2)], "of": frame["id"][::2].tolist(),
        "known": (frame["time"][::2] + pd.Timedelta(days=1)).tolist(), "bad": frame["bad"][::2].tolist(),
    })  # fmt: skip
    known.with_columns(pl.col("known").cast(pl.Datetime("us"))).write_parquet(tmp_path / "outcomes.parquet")
    for name, threshold in THRESHOLDS.items():
        (tmp_path / f"{name}.toml").write_text(f"[sources.payments]\nreview = {threshold}\n")
    (tmp_path / "riskstream.toml").write_text(
        '[project]\nname = "two"\n\n[models]\nroutes = { payments = "fraud@forest" }\nallow_unsigned = ["fraud"]\n'
        '\n[policy]\nfile = "against.toml"\n'
    )
    return tmp_path


def bundles(project: Path) -> None:
    from features.definitions.compile import compile_plan
    from features.definitions.project import load_definitions

    plan = compile_plan(load_definitions(project / "definitions.py")).fingerprint
    for kind in KINDS.values():
        write(str(project / "registry" / "fraud" / kind), small.contents(kind, version=kind, plan=plan))


def by_hand(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Features, scores and alerts without riskstream."""
    counts = frame.set_index("time").groupby("card")["amount"].rolling("1D", closed="right").count()
    place = pd.MultiIndex.from_arrays([frame.card, frame.time])
    inputs = np.column_stack([frame.amount, counts.loc[place].to_numpy(), frame.amount / 100]).astype(
        np.float32
    )
    score = small.estimator(KINDS[name]).predict_proba(inputs)[:, 1]
    assert np.abs(score - THRESHOLDS[name]).min() > 1e-6, "a score too near to the threshold to tell"
    label = frame.bad.where(frame.index % 2 == 0)
    return frame.assign(score=score, alert=score >= THRESHOLDS[name], label=label)


def test_the_report_agrees_with_pandas_and_scikit_learn(project: Path) -> None:
    bundles(project)
    arguments = ["--policy", "candidate.toml", "--model", "fraud@logistic", "--against", "live"]
    arguments = [str(project / one) if one.endswith(".toml") else one for one in arguments]
    inputs = [
        word for name in ("payments", "outcomes") for word in ("--input", f"{name}={project}/{name}.parquet")
    ]
    outputs = [
        "--report",
        str(project / "r.html"),
        "--json",
        str(project / "r.json"),
        "--work",
        str(project / "work"),
    ]
    assert run(["backtest", "--config", str(project / "riskstream.toml"), *inputs, *arguments, *outputs]) == 0
    found = json.loads((project / "r.json").read_bytes())[0]
    tables = {name: by_hand(events(), name) for name in KINDS}
    for side, (name, table) in zip(("a", "b"), tables.items(), strict=True):
        assert found[side]["setting"]["models"] == {"payments": f"fraud@{KINDS[name]}"}
        _assert_outcome(found[side]["outcome"], table)
    alert = {name: table.alert for name, table in tables.items()}
    bad = tables["candidate"].label == 1
    both, only = alert["candidate"] & alert["against"], alert["candidate"] & ~alert["against"]
    assert found["overlap"]["both"] == both.sum() > 50
    assert found["overlap"]["only_a"] == only.sum() > 50
    assert found["overlap"]["bad_only_a"] == (only & bad).sum()
    assert found["overlap"]["bad_neither"] == (~alert["candidate"] & ~alert["against"] & bad).sum()


def _assert_outcome(found: dict[str, float], table: pd.DataFrame) -> None:
    known = table[table.label.notna()]
    bad, judged = known[known.label == 1], known[known.alert]
    daily = table[table.alert].groupby(table.time.dt.date).size()
    expected = {
        "events": len(table), "alerts": table.alert.sum(), "labelled": len(known), "bad": len(bad),
        "unknown_share": 0.5, "precision": judged.label.mean(), "recall": bad.alert.mean(),
        "alerts_per_day": table.alert.sum() / table.time.dt.date.nunique(), "busiest_day": daily.max(),
        "roc_auc": roc_auc_score(known.label, known.score),
        "average_precision": average_precision_score(known.label, known.score),
        "money_bad": bad.amount.sum(), "money_caught": bad[bad.alert].amount.sum(),
        "money_missed": bad[~bad.alert].amount.sum(),
        "money_stopped_wrongly": judged[judged.label == 0].amount.sum(), "label_delay_days_median": 1.0,
    }  # fmt: skip
    ranks = (
        "roc_auc",
        "average_precision",
    )  # the graph's float32 makes other ties than scikit-learn's float64
    assert {name: found[name] for name in expected} == {
        name: pytest.approx(value, rel=1e-3 if name in ranks else 1e-6) for name, value in expected.items()
    }
