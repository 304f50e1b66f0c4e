"""Loading profiles: what is written, what is left out and why, and going on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.spec import Definitions, Entity, Field, Profile
from features.profiles import loader
from features.profiles.joins import decode_row
from features.profiles.loader import load_profile
from features.store.base import StoreUnavailable
from features.store.memory import MemoryStore
from tests.definitions import make_source

SOURCE = make_source("loans", {"id": "string", "at": "timestamp", "person": "int64"}, topic="l")


def plan_of(**changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "name": "bureau",
        "entity": "person",
        "updated_at": "updated",
        "fields": (
            Field(name="score", dtype="float64", minimum=0),
            Field(name="job", dtype="string", required=False, alias="occupation"),
        ),
        **changes,
    }
    return compile_plan(
        Definitions(
            sources=(SOURCE,),
            entities=(Entity(name="person", keys=("person",)),),
            profiles=(Profile(**settings),),
        )
    )


def table(**columns: Any) -> pl.DataFrame:
    base = {
        "person": [1, 2, 3],
        "score": [700.0, 650.0, 600.0],
        "occupation": ["smith", None, "clerk"],
        "updated": ["2026-01-01", "2026-01-02T03:04:05", "2026-01-03 00:00:00"],
    }
    return pl.DataFrame({**base, **columns})


def load(plan: Plan, path: Path, store: MemoryStore, **options: Any) -> Any:
    return load_profile(plan, plan.definitions.profiles[0], path, store, **options)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_written_under_their_key(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"people.{suffix}"
    getattr(table(), f"write_{suffix}")(path)
    store = MemoryStore()
    heard: list[tuple[int, int]] = []
    loaded = load(plan_of(), path, store, progress=lambda done, total: heard.append((done, total)))
    assert (loaded.read, loaded.written, loaded.rejected) == (3, 3, {})
    assert heard[-1] == (3, 3)
    first, second, none = store.get_profiles("bureau", ["1", "2", "9"])
    assert first is not None
    assert decode_row(first) == (1_767_225_600_000_000, {"score": 700.0, "job": "smith"})
    assert second is not None
    assert decode_row(second)[1]["job"] is None
    assert none is None


def test_rows_that_do_not_fit_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    wrong = table(
        person=["1", "two", None], score=["700", "1", "2"], updated=["2026-01-01", "2026-01-01", "2026-01-01"]
    )
    more = table(
        person=["4", "5", "6"], score=["x", "-1", None], updated=["2026-01-01", "2026-01-01", "soon"]
    )
    pl.concat([wrong, more]).write_csv(path)
    store = MemoryStore()
    loaded = load(plan_of(), path, store)
    assert dict(loaded.rejected) == {
        "person: expected int64": 1,
        "person: is null, but required": 1,
        "score: expected float64": 1,
        "score: is below 0": 1,
        "score: is null, but required": 1,
    }
    assert (loaded.read, loaded.written) == (6, 1)
    there = store.get_profiles("bureau", ["1", "4", "5", "6"])
    assert [row is not None for row in there] == [True, False, False, False]


def test_a_row_never_replaces_a_newer_one(tmp_path: Path) -> None:
    newer, older = tmp_path / "newer.parquet", tmp_path / "older.parquet"
    table(
        person=[1, 1, 2], score=[1.0, 2.0, 3.0], updated=["2026-02-02", "2026-02-01", "2026-02-01"]
    ).write_parquet(newer)
    table(
        person=[1, 2, 3], score=[10.0, 30.0, 40.0], updated=["2026-01-01", "2026-03-01", "2026-01-01"]
    ).write_parquet(older)
    store = MemoryStore()
    assert load(plan_of(), newer, store).rejected == {"older than the row that is there": 1}
    assert load(plan_of(), older, store).rejected == {"older than the row that is there": 1}
    rows = [decode_row(row)[1]["score"] for row in store.get_profiles("bureau", ["1", "2", "3"]) if row]
    assert rows == [1.0, 30.0, 40.0]


class Failing(MemoryStore):
    """Goes away after some pieces, as a server would."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.seen: list[str] = []

    def put_profiles(self, profile: str, rows: Mapping[str, bytes]) -> None:
        if profile == "bureau":
            if not self.pieces:
                raise StoreUnavailable("gone")
            self.pieces -= 1
            self.seen += rows
        super().put_profiles(profile, rows)


def test_a_load_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "PIECE_ROWS", 10)
    path = tmp_path / "people.parquet"
    count = 55
    people = pl.DataFrame({"person": range(count), "score": [-1.0 if n == 3 else 1.0 for n in range(count)]})
    people.with_columns(updated=pl.lit("2026-01-01")).write_parquet(path)
    store, plan = Failing(pieces=2), plan_of()
    with pytest.raises(StoreUnavailable):
        load(plan, path, store)
    first = len(store.seen)
    store.pieces = 100
    loaded = load(plan, path, store)
    assert 0 < first == loaded.resumed - 1 < count
    assert (loaded.read, loaded.written, loaded.rejected.total()) == (count, count - 1, 1)
    assert sorted(map(int, store.seen)) == [n for n in range(count) if n != 3]


def test_a_load_that_ended_starts_anew_and_so_does_a_changed_file(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    table().write_parquet(path)
    store = MemoryStore()
    for _ in range(2):
        loaded = load(plan_of(), path, store)
        assert (loaded.resumed, loaded.written) == (0, 3)


def test_restart_forgets_how_far_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "PIECE_ROWS", 1)
    path = tmp_path / "people.parquet"
    table().write_parquet(path)
    store = Failing(pieces=1)
    with pytest.raises(StoreUnavailable):
        load(plan_of(), path, store)
    store.pieces = 9
    assert load(plan_of(), path, store, restart=True).resumed == 0


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(plan_of(), tmp_path / "none.csv", MemoryStore())
    path = tmp_path / "people.csv"
    table().drop("score").write_csv(path)
    with pytest.raises(ConfigurationError, match="no column `score`"):
        load(plan_of(), path, MemoryStore())
    with pytest.raises(ConfigurationError, match="neither Parquet nor CSV"):
        (tmp_path / "people.txt").touch()
        load(plan_of(), tmp_path / "people.txt", MemoryStore())
