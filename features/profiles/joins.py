"""Profiles joined to events: static facts of an entity, with their age, and flags where they lack.

Live, `StoredProfiles` reads the current row of each key. Offline, `FrameProfiles` takes the row that
was newest at the event's time, so that training sees nothing from the future. Both give the same
columns: `{field}_of_{entity}`, and `{profile}_age_of_{entity}` in seconds where times are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl

from features.core.batch import Bools, FeatureMatrix, Floats, Strings
from features.core.durations import parse_duration
from features.core.errors import ConfigurationError, FatalError
from features.core.times import SECOND_US
from features.definitions.naming import profile_feature_name
from features.definitions.plan import Plan, Reader
from features.definitions.profile_names import profile_fields
from features.definitions.spec import Profile
from features.engine.key_texts import key_texts
from features.profiles.table import read_table
from features.store.base import ProfileStore

ROW_VERSION = 1


class ProfileTable(Protocol):
    """Where profiles come from."""

    def join(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """Add the fields of all profiles that the matrix's source carries. May block on the store."""
        ...


@dataclass(slots=True)
class ProfileRows:
    """One profile's values for n events; NaN or None where unknown. `updated` in microseconds."""

    known: Bools
    updated: Floats
    numbers: dict[str, Floats]
    texts: dict[str, Strings]


def encode_row(updated: int | None, values: Mapping[str, float | str | None]) -> bytes:
    """A profile row as stored: MessagePack `[version, updated_us, {field: value}]`."""
    return msgspec.msgpack.encode([ROW_VERSION, updated, values])


def decode_row(row: bytes) -> tuple[int | None, dict[str, Any]]:
    """Time of update and values by field; FatalError for another version."""
    version, updated, values = msgspec.msgpack.decode(row)
    if version != ROW_VERSION:
        raise FatalError(
            f"a profile row has version {version}, this release reads {ROW_VERSION}; load it anew"
        )
    return updated, values


class StoredProfiles:
    """Joins what `riskstream profiles load` wrote."""

    def __init__(self, plan: Plan, store: ProfileStore) -> None:
        self._readers = plan.readers
        self._store = store

    def join(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """See ProfileTable; one round trip a profile. A row younger than the event has age 0."""
        reader = self._readers[matrix.batch.source.name]
        for profile in reader.profiles:
            keys = _keys(matrix, reader, profile)
            matrix = _with_profile(matrix, profile, self._rows(profile, keys))
        return matrix

    def _rows(self, profile: Profile, keys: list[str | None]) -> ProfileRows:
        wanted = list(dict.fromkeys(key for key in keys if key is not None))
        stored = self._store.get_profiles(profile.name, wanted) if wanted else []
        rows = {key: decode_row(row) for key, row in zip(wanted, stored, strict=True) if row is not None}
        hits = [rows.get(key) if key is not None else None for key in keys]
        updated = [nan if hit is None or hit[0] is None else float(hit[0]) for hit in hits]
        numbers: dict[str, Floats] = {}
        texts: dict[str, Strings] = {}
        for field in profile_fields(profile):
            values = [None if hit is None else hit[1].get(field.name) for hit in hits]
            if field.dtype == "string":
                texts[field.name] = values
            else:
                numbers[field.name] = np.array([nan if v is None else v for v in values], dtype=np.float64)
        known = np.array([hit is not None for hit in hits], dtype=np.bool_)
        return ProfileRows(known, np.array(updated, dtype=np.float64), numbers, texts)


class FrameProfiles:
    """Joins profiles from frames, as of each event's time.

    A frame has the entity's key columns and the profile's fields; with `updated_at` it may hold
    several rows a key. An event before the first row of its key has no profile.
    """

    def __init__(self, plan: Plan, frames: Mapping[str, pl.DataFrame]) -> None:
        self._readers = plan.readers
        self._tables: dict[str, pl.DataFrame] = {}
        entities = {entity.name: entity for entity in plan.definitions.entities}
        for profile in plan.definitions.profiles:
            if profile.name not in frames:
                raise ConfigurationError(f"profile `{profile.name}` is missing; give its table too")
            keys = entities[profile.entity].keys
            self._tables[profile.name] = _history(plan, profile, keys, frames[profile.name])

    def join(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """See ProfileTable; never blocks."""
        reader = self._readers[matrix.batch.source.name]
        for profile in reader.profiles:
            keys = _keys(matrix, reader, profile)
            times = matrix.batch.event_time
            matrix = _with_profile(matrix, profile, self._rows(profile, keys, times))
        return matrix

    def _rows(self, profile: Profile, keys: list[str | None], times: Floats | Any) -> ProfileRows:
        asked = pl.DataFrame(
            {"@key": pl.Series(keys, dtype=pl.String), "@at": times, "@row": range(len(keys))}
        )
        table = self._tables[profile.name]
        hits = asked.sort("@at", maintain_order=True).join_asof(
            table, on="@at", by="@key", strategy="backward", check_sortedness=False
        )
        hits = hits.sort("@row")
        numbers: dict[str, Floats] = {}
        texts: dict[str, Strings] = {}
        for field in profile_fields(profile):
            column = hits.get_column(field.name)
            if field.dtype == "string":
                texts[field.name] = column.to_list()
            else:
                numbers[field.name] = _floats(column)
        return ProfileRows(
            hits.get_column("@known").is_not_null().to_numpy(), _floats(hits["@updated"]), numbers, texts
        )


def _history(plan: Plan, profile: Profile, keys: Sequence[str], frame: pl.DataFrame) -> pl.DataFrame:
    """The table for as-of joins: `@key`, `@at` (microseconds; -1 without times), fields."""
    table, rejected = read_table(plan, profile, keys, frame, f"profile {profile.name}")
    if rejected:
        reason, count = next(iter(rejected.items()))
        raise ConfigurationError(f"profile `{profile.name}`: {count} rows are wrong: {reason}")
    at = pl.col("@updated").fill_null(np.iinfo(np.int64).min).alias("@at")
    if profile.updated_at is None:
        table = table.unique("@key", keep="last", maintain_order=True)
    return table.with_columns(at, pl.lit(True).alias("@known")).sort("@at", maintain_order=True)


def _keys(matrix: FeatureMatrix, reader: Reader, profile: Profile) -> list[str | None]:
    return key_texts([matrix.batch.columns[name] for name in reader.entity_keys[profile.entity]])


def _with_profile(matrix: FeatureMatrix, profile: Profile, rows: ProfileRows) -> FeatureMatrix:
    age = np.maximum(matrix.batch.event_time - rows.updated, 0) / SECOND_US
    stale = np.zeros(len(matrix), dtype=np.bool_)
    if profile.max_age is not None:
        stale = rows.known & (age > parse_duration(profile.max_age, "max_age") / SECOND_US)
    flags = dict(matrix.flags)
    flags[f"profile_missing:{profile.name}"] = ~rows.known
    flags[f"profile_stale:{profile.name}"] = stale
    usable = rows.known & ~stale
    names, strings = list(matrix.names), dict(matrix.strings)
    columns: list[Floats] = []
    for field in profile_fields(profile):
        name = profile_feature_name(field.name, profile.entity)
        fill = profile.fill.get(field.name)
        if field.dtype == "string":
            texts = rows.texts[field.name]
            strings[name] = _filled_texts(texts, usable, fill)
            lacking = np.array([text is None for text in texts], dtype=np.bool_)
        else:
            values = rows.numbers[field.name]
            lacking = np.isnan(values)
            names.append(name)
            columns.append(np.where(usable & ~lacking, values, nan if fill is None else float(fill)))
        if not field.required:
            flags[f"profile_missing:{profile.name}.{field.name}"] = rows.known & lacking
    if profile.updated_at is not None:
        names.append(profile_feature_name(f"{profile.name}_age", profile.entity))
        columns.append(age)
    values = np.column_stack([matrix.values, *columns])
    return replace(matrix, names=tuple(names), values=values, strings=strings, flags=flags)


def _filled_texts(texts: Strings, usable: Bools, fill: object) -> Strings:
    default = None if fill is None else str(fill)
    pairs = zip(texts, usable.tolist(), strict=True)
    return [text if use and text is not None else default for text, use in pairs]


def _floats(series: pl.Series) -> Floats:
    return series.cast(pl.Float64).fill_null(nan).to_numpy()
