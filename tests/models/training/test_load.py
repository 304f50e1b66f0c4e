"""Features and labels find each other: from a source or a file, the newest word counts."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from features.core.errors import ConfigurationError
from models.training.data.load import load_frame
from models.training.settings import DataSettings

DEFINITIONS = """
from features.definitions.spec import Definitions, Field, LabelOf, Source

def fields(**kinds):
    return tuple(Field(name=name, dtype=kind) for name, kind in kinds.items())

payments = Source(name="payments", topic="p", event_id="id", event_time="at",
    fields=fields(id="int64", at="timestamp", amount="float64"))
disputes = Source(name="disputes", topic="d", event_id="case", event_time="known",
    labels=LabelOf(event_id="id", value="bad"),
    fields=(*fields(case="string", known="timestamp", bad="bool"), Field(name="id", dtype="int64", alias="payment")))
definitions = Definitions(sources=(payments, disputes))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    pl.DataFrame({"id": [1, 2, 3], "at": [10, 20, 30], "amount": [5.0, 6.0, 7.0]}).write_parquet(
        tmp_path / "payments.parquet"
    )
    pl.DataFrame(
        {"case": ["a", "b", "c"], "known": [40, 50, 60], "payment": [1, 2, 2], "bad": [True, True, False]}
    ).write_parquet(tmp_path / "disputes.parquet")
    return tmp_path


FROM_EVENTS = DataSettings(
    definitions="definitions.py",
    features="features.parquet",
    events={"payments": "payments.parquet", "disputes": "disputes.parquet"},
    label="bad",
)


def labels(frame: pl.DataFrame) -> dict[int, int]:
    return dict(frame.select(pl.col("event_id").cast(pl.Int64), "bad").iter_rows())


def test_features_are_made_once_and_the_newest_label_counts(folder):
    frame, plan = load_frame(FROM_EVENTS, folder)
    assert plan is not None
    assert labels(frame) == {1: 1, 2: 0, 3: 0}
    (folder / "payments.parquet").unlink()
    again, _ = load_frame(FROM_EVENTS, folder)
    assert again.equals(frame)


def test_unlabelled_events_may_be_left_out(folder):
    import msgspec

    frame, _ = load_frame(msgspec.structs.replace(FROM_EVENTS, unlabelled="drop"), folder)
    assert labels(frame) == {1: 1, 2: 0, 3: None}


def test_labels_from_a_file(folder):
    pl.DataFrame({"event_id": ["1", "3"], "bad": [0, 1]}).write_csv(folder / "labels.csv")
    load_frame(FROM_EVENTS, folder)
    data = DataSettings(features="features.parquet", labels="labels.csv", label="bad")
    frame, plan = load_frame(data, folder)
    assert plan is None
    assert labels(frame) == {1: 0, 2: 0, 3: 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataSettings(), "data.features: name the Parquet file"),
        (
            DataSettings(features="gone.parquet"),
            "gone.parquet does not exist; `riskstream features materialize`",
        ),
        (DataSettings(features="payments.parquet", labels="gone.csv"), "gone.csv does not exist"),
        (DataSettings(features="payments.parquet", labels="disputes.parquet"), "has no column `event_id`"),
        (
            DataSettings(features="x.parquet", events={"payments": "payments.parquet"}),
            "data.definitions: needed",
        ),
    ],
)
def test_what_is_missing_is_named(folder, data, message):
    with pytest.raises(ConfigurationError, match=message):
        load_frame(data, folder)
