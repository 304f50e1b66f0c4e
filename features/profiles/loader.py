"""Loads a profile's file into a store, piece by piece: resumable, and exact about what it left out.

How far a file has come is kept in the store beside the rows, so that a load that was interrupted goes on
where it stopped; a load that ended starts from the beginning the next time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.definitions.profile_names import profile_fields
from features.definitions.spec import Profile
from features.offline.recorded import chunks, reading, scan
from features.profiles.joins import decode_row, encode_row
from features.profiles.table import read_table
from features.store.base import ProfileStore

PIECE_ROWS = 10_000
_OLDER = "older than the row that is there"


@dataclass
class Loaded:
    """What became of a file: `read` = `written` + all of `rejected`; `resumed` rows were read before."""

    read: int = 0
    written: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    resumed: int = 0


def load_profile(
    plan: Plan,
    profile: Profile,
    path: Path,
    store: ProfileStore,
    progress: Callable[[int, int], None] | None = None,
    *,
    restart: bool = False,
) -> Loaded:
    """Write a CSV or Parquet file's rows into the store; `progress` hears rows done and rows in all.

    A row replaces an older one of its key, never a newer one (by `updated_at`; without it by its
    place in the file). A row that does not fit is counted by reason and left out. Raises ConfigurationError
    when the file or a required column is not there, StoreUnavailable when the store is not.
    """
    if not path.is_file():
        raise ConfigurationError(f"profile `{profile.name}`: file `{path}` does not exist")
    mark = _Mark(store, profile, path)
    loaded = Loaded() if restart else mark.read()
    with reading(str(path)):
        rows = scan(str(path))
        total = int(rows.select(pl.len()).collect().item())
        for frame in chunks(rows.slice(loaded.read), PIECE_ROWS):
            _write(plan, profile, frame, store, loaded)
            mark.write(loaded)
            if progress is not None:
                progress(loaded.read, total)
    mark.clear()
    return loaded


def _write(plan: Plan, profile: Profile, frame: pl.DataFrame, store: ProfileStore, loaded: Loaded) -> None:
    """Bring the rows of one piece into the store, and count them."""
    keys = next(entity.keys for entity in plan.definitions.entities if entity.name == profile.entity)
    table, rejected = read_table(plan, profile, keys, frame, f"profile {profile.name}")
    rows = _newest(profile, table, store, rejected)
    if rows:
        store.put_profiles(profile.name, rows)
    loaded.read += len(frame)
    loaded.rejected.update(rejected)
    loaded.written += len(frame) - rejected.total()


def _newest(
    profile: Profile, table: pl.DataFrame, store: ProfileStore, rejected: Counter[str]
) -> dict[str, bytes]:
    """The rows to write: of each key the newest, unless the store has a newer one."""
    names = [field.name for field in profile_fields(profile)]
    newest: dict[str, tuple[int | None, bytes]] = {}
    for row in table.select("@key", "@updated", *names).iter_rows():
        key, updated, values = row[0], row[1], row[2:]
        if key in newest and _newer(newest[key][0], updated):
            rejected[_OLDER] += 1
            continue
        newest[key] = (updated, encode_row(updated, dict(zip(names, values, strict=True))))
    if profile.updated_at is not None and newest:
        existing = store.get_profiles(profile.name, list(newest))
        for key, stored in zip(list(newest), existing, strict=True):
            if stored is not None and _newer(decode_row(stored)[0], newest[key][0]):
                rejected[_OLDER] += 1
                del newest[key]
    return {key: row for key, (_, row) in newest.items()}


def _newer(time: int | None, other: int | None) -> bool:
    return time is not None and (other is None or time > other)


class _Mark:
    """How far this file, as it is now, has been loaded; lives in the store under `{profile}.load`."""

    def __init__(self, store: ProfileStore, profile: Profile, path: Path) -> None:
        facts = path.stat()
        identity = [path.name, facts.st_size, facts.st_mtime_ns, msgspec.to_builtins(profile)]
        self._key = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]
        self._name = f"{profile.name}.load"
        self._store = store

    def read(self) -> Loaded:
        (row,) = self._store.get_profiles(self._name, [self._key])
        if not row:
            return Loaded()
        read, written, rejected = msgspec.msgpack.decode(row, type=tuple[int, int, dict[str, int]])
        return Loaded(read, written, Counter(rejected), resumed=read)

    def write(self, loaded: Loaded) -> None:
        row = msgspec.msgpack.encode((loaded.read, loaded.written, dict(loaded.rejected)))
        self._store.put_profiles(self._name, {self._key: row})

    def clear(self) -> None:
        self._store.put_profiles(self._name, {self._key: b""})
