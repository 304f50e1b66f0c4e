"""Profile tables (Parquet, CSV, frames) read and checked; rejected rows are counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import polars as pl

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.definitions.profile_names import profile_fields
from features.definitions.spec import Field, Profile
from features.engine.key_texts import key_texts
from features.offline.table_columns import typed_column


def read_table(
    plan: Plan, profile: Profile, keys: Sequence[str], frame: pl.DataFrame, label: str
) -> tuple[pl.DataFrame, Counter[str]]:
    """Rows that fit: `@key`, `@updated` (microseconds or null), one column a field; and why others do not.

    Times are timestamps, ISO 8601 texts, or whole numbers of milliseconds.
    """
    rejected: Counter[str] = Counter()
    bad = pl.repeat(False, len(frame), dtype=pl.Boolean, eager=True)
    columns: dict[str, pl.Series] = {}
    wanted = [_key_field(plan, profile, name) for name in keys]
    wanted += profile_fields(profile)
    if profile.updated_at is not None:
        wanted.append(_updated_field(profile))
    for field in wanted:
        column = typed_column(frame, field, _time_format(frame, field), label)
        for reason, wrong in column.faults:
            fresh = wrong & ~bad
            if count := int(fresh.sum()):
                rejected[f"{field.name}: {reason}"] += count
            bad |= wrong
        columns[field.name] = column.series
    table = pl.DataFrame([series.alias(name) for name, series in columns.items()]).filter(~bad)
    updated = table.get_column(profile.updated_at).cast(pl.Int64) if profile.updated_at else None
    result = table.select(field.name for field in profile_fields(profile)).with_columns(
        pl.Series("@key", key_texts([_key_column(table[name]) for name in keys]), dtype=pl.String),
        updated.alias("@updated") if updated is not None else pl.lit(None, dtype=pl.Int64).alias("@updated"),
    )
    times = [field.name for field in profile_fields(profile) if field.dtype == "timestamp"]
    return result.with_columns(pl.col(name).cast(pl.Int64) for name in times), rejected


def _key_column(series: pl.Series) -> list[str | None]:
    return series.cast(pl.String).to_list()


def _key_field(plan: Plan, profile: Profile, name: str) -> Field:
    """A key column, typed as the sources that carry the entity have it."""
    index = next(e.keys.index(name) for e in plan.definitions.entities if e.name == profile.entity)
    for reader in plan.readers.values():
        if profile.entity in reader.entity_keys:
            column = reader.entity_keys[profile.entity][index]
            fields = {field.name: field for field in plan.sources[reader.source].fields}
            return Field(name=name, dtype=fields[column].dtype)
    raise ConfigurationError(
        f"no scored source carries entity `{profile.entity}` of profile `{profile.name}`"
    )


def _updated_field(profile: Profile) -> Field:
    declared = {field.name: field for field in profile.fields}
    name = str(profile.updated_at)
    return declared.get(name, Field(name=name, dtype="timestamp"))


def _time_format(frame: pl.DataFrame, field: Field) -> str:
    name = field.name if field.name in frame.columns else field.alias
    texts = field.dtype == "timestamp" and name in frame.columns and frame.schema[name] == pl.String
    return "iso8601" if texts else "ms"
