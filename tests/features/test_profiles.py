"""Profiles: joined by key with their age; missing and stale ones are flags, never zeros."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.core.batch import FeatureMatrix, SourceBatch
from features.core.errors import ConfigurationError, FatalError
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.spec import Definitions, Derived, Entity, Field, Profile
from features.profiles.joins import FrameProfiles, StoredProfiles, encode_row
from features.store.memory import MemoryStore
from tests.definitions import make_source

DAY = 86_400_000_000
SOURCE = make_source(
    "loans",
    {"id": "string", "at": "timestamp", "person": "string", "number": "int64"},
    optional=("person",),
    topic="l",
)


def plan_of(**changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "name": "bureau",
        "entity": "person",
        "updated_at": "updated",
        "max_age": "30d",
        "fields": (
            Field(name="score", dtype="float64", minimum=0),
            Field(name="job", dtype="string", required=False),
        ),
        "fill": {"score": 500.0, "job": "none"},
        **changes,
    }
    return compile_plan(
        Definitions(
            sources=(SOURCE,),
            entities=(
                Entity(name="person", keys=("person",)),
                Entity(name="pair", keys=("person", "number")),
            ),
            profiles=(Profile(**settings),),
            derived=(Derived(name="half", sql="score_of_person / 2", source="loans"),)
            if settings["entity"] == "person"
            else (),
        )
    )


def matrix(people: list[str | None], days: list[int]) -> FeatureMatrix:
    count = len(people)
    times = np.array(days, dtype=np.int64) * DAY
    zeros = np.zeros(count, dtype=np.int64)
    ids: list[str | None] = [str(n) for n in range(count)]
    batch = SourceBatch(
        source=SOURCE,
        event_ids=[str(n) for n in range(count)],
        event_time=times,
        received_time=times,
        partition=zeros.astype(np.int32),
        offset=zeros,
        position=zeros,
        columns={
            "id": ids,
            "at": times.astype(np.float64),
            "person": people,
            "number": np.full(len(ids), 7.0),
        },
    )
    none = np.zeros(count, dtype=np.bool_)
    return FeatureMatrix(batch, (), np.empty((count, 0)), {}, {}, none, none)


def stored() -> MemoryStore:
    store = MemoryStore()
    store.put_profiles(
        "bureau",
        {
            "ann": encode_row(10 * DAY, {"score": 700.0, "job": "smith"}),
            "bob": encode_row(10 * DAY, {"score": 0.0, "job": None}),
        },
    )
    return store


def test_fields_age_and_flags() -> None:
    people = ["ann", "bob", "cid", None, "ann"]
    out = StoredProfiles(plan_of(), stored()).join(matrix(people, [12, 12, 12, 12, 41]))
    assert out.names == ("score_of_person", "bureau_age_of_person")
    np.testing.assert_array_equal(out.column("score_of_person"), [700, 0, 500, 500, 500])
    assert out.column("job_of_person") == ["smith", "none", "none", "none", "none"]
    np.testing.assert_array_equal(
        out.column("bureau_age_of_person"), [172800, 172800, np.nan, np.nan, 31 * 86400]
    )
    assert out.flags["profile_missing:bureau"].tolist() == [False, False, True, True, False]
    assert out.flags["profile_stale:bureau"].tolist() == [False, False, False, False, True]
    assert out.flags["profile_missing:bureau.job"].tolist() == [False, True, False, False, False]


def test_without_fill_what_lacks_is_missing_and_not_zero() -> None:
    out = StoredProfiles(plan_of(fill={}), stored()).join(matrix(["cid", "ann"], [12, 99]))
    assert np.isnan(np.asarray(out.column("score_of_person"))).all()
    assert out.column("job_of_person") == [None, None]


def test_a_row_of_another_version_is_refused() -> None:
    store = MemoryStore()
    store.put_profiles("bureau", {"ann": b"\x93\x63\xc0\x80"})
    with pytest.raises(FatalError, match="version 99"):
        StoredProfiles(plan_of(), store).join(matrix(["ann"], [1]))


def test_composite_keys_are_escaped() -> None:
    store = MemoryStore()
    store.put_profiles("bureau", {"a\\|b|7": encode_row(None, {"score": 3.0, "job": "x"})})
    plan = plan_of(entity="pair", updated_at=None, max_age=None)
    out = StoredProfiles(plan, store).join(matrix(["a|b", None], [1, 1]))
    assert out.flags["profile_missing:bureau"].tolist() == [False, True]


def history() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "person": ["ann", "ann", "bob"],
            "score": [600.0, 700.0, 650.0],
            "job": ["smith", "clerk", None],
            "updated": [datetime(1970, 1, 21), datetime(1970, 1, 11), datetime(1970, 2, 1)],
        }
    )


def test_offline_a_row_is_seen_from_its_time_on() -> None:
    profiles = FrameProfiles(plan_of(), {"bureau": history()})
    out = profiles.join(matrix(["ann", "ann", "ann", "bob"], [9, 10, 20, 20]))
    np.testing.assert_array_equal(out.column("score_of_person"), [500, 700, 600, 500])
    assert out.column("job_of_person") == ["none", "clerk", "smith", "none"]
    assert out.flags["profile_missing:bureau"].tolist() == [True, False, False, True]


def test_offline_and_stored_agree_on_current_rows() -> None:
    frame = pl.DataFrame(
        {"person": ["ann", "bob"], "score": [700, 0], "job": ["smith", None], "updated": ["1970-01-11"] * 2}
    )
    people: list[str | None] = ["ann", "bob", "cid", None]
    asked = matrix(people, [12, 12, 12, 60])
    live = StoredProfiles(plan_of(), stored()).join(asked)
    offline = FrameProfiles(plan_of(), {"bureau": frame}).join(asked)
    np.testing.assert_array_equal(live.values, offline.values)
    assert live.strings == offline.strings
    assert {k: v.tolist() for k, v in live.flags.items()} == {k: v.tolist() for k, v in offline.flags.items()}


def test_a_table_with_wrong_rows_or_none_at_all_is_refused_offline() -> None:
    with pytest.raises(ConfigurationError, match=r"1 rows are wrong: score: is below 0"):
        FrameProfiles(plan_of(), {"bureau": history().with_columns(score=pl.Series([1.0, -1.0, 2.0]))})
    with pytest.raises(ConfigurationError, match="profile `bureau` is missing"):
        FrameProfiles(plan_of(), {})
