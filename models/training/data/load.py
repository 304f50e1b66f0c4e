"""Brings a training set together: materialized features, and the labels that became known."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl

from features.core.errors import ConfigurationError
from features.core.files import read_text
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.project import load_definitions
from features.definitions.spec import Source
from features.offline.recorded import reading
from models.training.settings import DataSettings

Progress = Callable[[int, int], None]


def load_frame(
    data: DataSettings, folder: Path, progress: Progress | None = None
) -> tuple[pl.DataFrame, Plan | None]:
    """The frame with its label column, and the plan of the project's definitions (None without any)."""
    plan = None
    if data.definitions is not None:
        plan = compile_plan(load_definitions(folder / data.definitions))
    frame = _features(data, folder, plan, progress)
    return _with_labels(frame, data, folder, plan), plan


def _features(data: DataSettings, folder: Path, plan: Plan | None, progress: Progress | None) -> pl.DataFrame:
    if data.features is None:
        raise ConfigurationError("data.features: name the Parquet file of materialized features")
    path = folder / data.features
    if not path.exists() and data.events:
        if plan is None:
            raise ConfigurationError("data.definitions: needed to compute features of data.events")
        _materialize(data, folder, path, plan, progress)
    if not path.exists():
        raise ConfigurationError(
            f"data.features: {path} does not exist; `riskstream features materialize` makes it"
        )
    with reading(str(path)):
        return pl.read_parquet(path)


def _materialize(data: DataSettings, folder: Path, path: Path, plan: Plan, progress: Progress | None) -> None:
    from features.offline.materialize import run
    from features.profiles.joins import FrameProfiles

    profiles = None
    if plan.definitions.profiles:
        profiles = FrameProfiles(plan, {name: read_table(folder / f) for name, f in data.profiles.items()})
    inputs = {source: folder / file for source, file in data.events.items()}
    run(plan.definitions, inputs, path, progress, source=data.source, profiles=profiles)


def _with_labels(frame: pl.DataFrame, data: DataSettings, folder: Path, plan: Plan | None) -> pl.DataFrame:
    labels = _labels(data, folder, plan)
    if labels is None:
        return frame
    named = labels.select(
        pl.col(labels.columns[0]).cast(pl.String).alias("event_id_text"),
        pl.col(labels.columns[1]).alias(data.label),
    )
    joined = (
        frame.drop(data.label, strict=False)
        .with_columns(pl.col(data.event_id).cast(pl.String).alias("event_id_text"))
        .join(named.unique("event_id_text", keep="last", maintain_order=True), on="event_id_text", how="left")
        .drop("event_id_text")
    )
    if data.unlabelled == "good":
        joined = joined.with_columns(pl.col(data.label).fill_null(0))
    return joined


def _labels(data: DataSettings, folder: Path, plan: Plan | None) -> pl.DataFrame | None:
    """Event id and label of each labelled event, the newest word last; None when features hold the label."""
    sources = {} if plan is None else {n: s for n, s in plan.sources.items() if s.labels and n in data.events}
    if data.labels is None and len(sources) != 1:
        return None
    name = data.labels or next(iter(sources))
    if name in sources:
        return _of_source(sources[name], read_table(folder / data.events[name]))
    table = read_table(folder / name)
    for column in (data.event_id, data.label):
        if column not in table.columns:
            raise ConfigurationError(f"data.labels: {name} has no column `{column}`")
    return table.select(data.event_id, data.label)


def _of_source(source: Source, table: pl.DataFrame) -> pl.DataFrame:
    if source.labels is None:
        raise ConfigurationError(f"data.labels: `{source.name}` is no label source")
    aliases = {
        field.alias: field.name for field in source.fields if field.alias in table.columns and field.alias
    }
    table = table.rename(aliases).sort(source.event_time, maintain_order=True)
    return table.select(source.labels.event_id, pl.col(source.labels.value).cast(pl.Int8))


def read_table(path: Path) -> pl.DataFrame:
    """A Parquet or CSV file."""
    if not path.exists():
        raise ConfigurationError(f"{path} does not exist")
    with reading(str(path)):
        if path.suffix == ".csv":
            return pl.read_csv(io.StringIO(read_text(path)), try_parse_dates=True)
        return pl.read_parquet(path)
