"""A training set: model inputs, labels, and what folds and costs need beside them.

Inputs are float32 before anything is learned, because float32 is what serving feeds the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.batch import Floats, Ints
from features.core.errors import ConfigurationError
from models.core.base import ModelInputs, Texts
from models.core.inputs import as_texts
from models.training.evaluation.metrics import Labels
from models.training.settings import DataSettings

_EVENT_COLUMNS = ("event_id", "event_time", "duplicate", "late")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """`len(label)` rows in time order. `card` is dense (0, 1, ...), for removing known cards;
    `frame` keeps the source's columns, for fairness and reports. `plan` and `source` go into the
    signature."""

    inputs: ModelInputs
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    label: Labels
    time: Ints | None
    card: Ints | None
    amount: Floats | None
    frame: pl.DataFrame
    plan: str = ""
    source: str = ""

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Ints) -> Dataset:
        """The given rows."""
        return replace(
            self,
            inputs=self.inputs.take(rows),
            label=self.label[rows],
            time=None if self.time is None else self.time[rows],
            card=None if self.card is None else self.card[rows],
            amount=None if self.amount is None else self.amount[rows],
            frame=self.frame[rows],
        )


def make_dataset(
    frame: pl.DataFrame,
    settings: DataSettings,
    *,
    inputs: Sequence[str] = (),
    plan: str = "",
    source: str = "",
) -> Dataset:
    """Turn a frame of features and a label column into a training set.

    Inputs are `settings.inputs`, or else `inputs` (the plan's features), or else every column that is
    not the label, an id, a time, the card or protected. Text columns become categorical inputs.
    ConfigurationError names the column that is missing, protected or of no use.
    """
    chosen = _choose_inputs(frame, settings, inputs)
    frame = _learnable(frame, settings)
    texts = tuple(n for n in chosen if n in settings.categorical or _is_text(frame.schema[n]))
    numbers = tuple(name for name in chosen if name not in texts)
    return Dataset(
        inputs=ModelInputs(_matrix(frame, numbers), {name: _texts(frame[name]) for name in texts}),
        numeric=numbers,
        categorical=texts,
        label=_label(frame, settings.label),
        time=_time(frame, settings.event_time),
        card=_dense(frame, settings.card, "data.card"),
        amount=_optional(frame, settings.amount, "data.amount"),
        frame=frame,
        plan=plan,
        source=source or settings.source or "",
    )


def _learnable(frame: pl.DataFrame, settings: DataSettings) -> pl.DataFrame:
    """The labelled events of the period, each once, in order of time."""
    if settings.label not in frame.columns:
        raise ConfigurationError(f"data.label: the training set has no column `{settings.label}`")
    frame = frame.filter(pl.col(settings.label).is_not_null())
    if "duplicate" in frame.columns:
        frame = frame.filter(~pl.col("duplicate"))
    frame = _in_period(frame, settings)
    if settings.event_time in frame.columns:
        frame = frame.sort(settings.event_time, maintain_order=True)
    return frame


def _label(frame: pl.DataFrame, name: str) -> NDArray[np.int8]:
    label: NDArray[np.int8] = frame[name].cast(pl.Int8).to_numpy()
    if set(np.unique(label).tolist()) != {0, 1}:
        raise ConfigurationError(f"data.label: `{name}` must hold both 0 and 1")
    return label


def _choose_inputs(frame: pl.DataFrame, settings: DataSettings, inputs: Sequence[str]) -> tuple[str, ...]:
    named = settings.inputs or tuple(inputs)
    other = {settings.label, settings.event_id, settings.event_time, settings.card, *_EVENT_COLUMNS}
    left_out = {*settings.exclude, *settings.protected}
    if not named:
        named = tuple(
            name for name, kind in frame.schema.items() if name not in other and not kind.is_temporal()
        )
    for name in settings.inputs:
        if name in settings.protected:
            raise ConfigurationError(f"data.inputs: `{name}` is protected: it cannot be a model's input")
    chosen = tuple(name for name in named if name not in left_out)
    missing = [name for name in chosen if name not in frame.columns]
    if missing:
        raise ConfigurationError(f"data.inputs: the training set has no column {', '.join(missing)}")
    if not chosen:
        raise ConfigurationError("data.inputs: no column is left as a model's input")
    return chosen


def _in_period(frame: pl.DataFrame, settings: DataSettings) -> pl.DataFrame:
    name = settings.event_time
    if name is None or name not in frame.columns or (settings.start is None and settings.end is None):
        return frame
    time = _time(frame, name)
    keep = np.ones(len(frame), dtype=np.bool_)
    if time is not None and settings.start is not None:
        keep &= time >= parse_day(settings.start, "data.start")
    if time is not None and settings.end is not None:
        keep &= time < parse_day(settings.end, "data.end")
    return frame.filter(pl.Series(keep))


def parse_day(text: str, where: str) -> int:
    """Microseconds since 1970 of a date or date and time (UTC)."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)
    except ValueError as error:
        raise ConfigurationError(f"{where}: `{text}` is not a date such as 2018-07-25") from error


def _is_text(kind: pl.DataType) -> bool:
    return kind in (pl.String, pl.Categorical, pl.Enum)


def _matrix(frame: pl.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    out = np.empty((len(frame), len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        out[:, index] = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return out


def _texts(column: pl.Series) -> Texts:
    if _is_text(column.dtype):
        return as_texts(column.cast(pl.String).to_list())
    return as_texts(column.cast(pl.Float64).fill_null(np.nan).to_numpy())


def _time(frame: pl.DataFrame, name: str | None) -> Ints | None:
    if name is None or name not in frame.columns:
        return None
    column = frame[name]
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).cast(pl.Int64).to_numpy()
    return column.cast(pl.Int64).to_numpy()


def _dense(frame: pl.DataFrame, name: str | None, where: str) -> Ints | None:
    if name is None:
        return None
    if name not in frame.columns:
        raise ConfigurationError(f"{where}: the training set has no column `{name}`")
    return frame[name].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _optional(frame: pl.DataFrame, name: str | None, where: str) -> Floats | None:
    if name is None:
        return None
    if name not in frame.columns:
        raise ConfigurationError(f"{where}: the training set has no column `{name}`")
    return frame[name].cast(pl.Float64).to_numpy()
