"""Decisions as tables: what a backtest keeps of each scored event, and the labels it is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.batch import SourceBatch
from features.offline.reader import typed_series
from models.decision.decisions import DECISIONS, SEVERITIES, Decisions

LABELS: dict[str, pl.DataType] = {
    "labelled": pl.String(),
    "label": pl.Float64(),
    "label_known": pl.Datetime("us"),
}


def decision_frame(
    decisions: Decisions, *, primary_key: tuple[str, ...], with_features: bool
) -> pl.DataFrame:
    """One row a scored event; `primary_key` are the source's columns of its primary entity.

    Columns: id, time, source, partition, offset, case key, score, threshold, decision, severity, alert,
    suppressed, released, duplicate, exposure, rules, reasons (texts), the event's own columns (where no
    name clashes) and, where asked for, features.
    """
    features = decisions.features
    columns = _decided(decisions, primary_key)
    for field in features.batch.source.fields:
        if field.name not in columns:
            values = features.batch.columns[field.name]
            columns[field.name] = typed_series(field.name, values, field.dtype)
    if with_features:
        for column, name in enumerate(features.names):
            columns.setdefault(name, pl.Series(features.values[:, column]))
        for name, texts in features.strings.items():
            columns.setdefault(name, pl.Series(texts, dtype=pl.String))
    return pl.DataFrame(columns)


def _decided(decisions: Decisions, primary_key: tuple[str, ...]) -> dict[str, pl.Series]:
    """The columns that every decision has."""
    features = decisions.features
    batch = features.batch
    return {
        "event_id": pl.Series(batch.event_ids, dtype=pl.String),
        "event_time": pl.Series(batch.event_time).cast(pl.Datetime("us")),
        "source": pl.repeat(batch.source.name, len(decisions), eager=True),
        "partition": pl.Series(batch.partition),
        "offset": pl.Series(batch.offset),
        "case_key": _case_key(batch, primary_key),
        "score": pl.Series(decisions.score),
        "threshold": pl.Series(decisions.threshold),
        "decision": _named(decisions.decision, DECISIONS),
        "severity": _named(decisions.severity, SEVERITIES),
        "alert": pl.Series(decisions.alert),
        "suppressed": pl.Series(decisions.suppressed),
        "released": pl.Series(_released(decisions)),
        "duplicate": pl.Series(features.duplicate),
        "exposure": _exposure(batch),
        "model": pl.repeat(f"{decisions.model.name}@{decisions.model.version}", len(decisions), eager=True),
        "rules": _texts(len(decisions), {row: ", ".join(hit) for row, hit in decisions.rules_hit.items()}),
        "reasons": _texts(
            len(decisions),
            {row: "; ".join(reason.text for reason in reasons) for row, reasons in decisions.reasons.items()},
        ),
    }


def label_frame(parts: Iterable[SourceBatch]) -> pl.DataFrame:
    """`labelled` (event id), `label`, `label_known` (when) of every label event, corrections included."""
    frames = [_labels(part) for part in parts if part.source.labels is not None and len(part)]
    return pl.concat(frames) if frames else pl.DataFrame(schema=LABELS)


def _labels(part: SourceBatch) -> pl.DataFrame:
    spec = part.source.labels
    if spec is None:
        raise ValueError(f"{part.source.name} is no label source")
    types = {field.name: field.dtype for field in part.source.fields}
    return pl.DataFrame(
        {
            "labelled": typed_series("labelled", part.columns[spec.event_id], types[spec.event_id]).cast(
                pl.String
            ),
            "label": typed_series("label", part.columns[spec.value], types[spec.value]).cast(pl.Float64),
            "label_known": pl.Series(part.event_time).cast(pl.Datetime("us")),
        }
    )


def _case_key(batch: SourceBatch, primary_key: tuple[str, ...]) -> pl.Series:
    types = {field.name: field.dtype for field in batch.source.fields}
    parts = [typed_series(name, batch.columns[name], types[name]).cast(pl.String) for name in primary_key]
    if not parts:
        return pl.Series(batch.event_ids, dtype=pl.String)
    return pl.select(pl.concat_str(parts, separator="|")).to_series()


def _exposure(batch: SourceBatch) -> pl.Series:
    if batch.source.amount is None:
        return pl.repeat(None, len(batch), dtype=pl.Float64, eager=True)
    return typed_series("exposure", batch.columns[batch.source.amount], "float64")


def _named(codes: NDArray[np.int8], names: tuple[str, ...]) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(codes)


def _texts(rows: int, known: Mapping[int, str]) -> pl.Series:
    texts = [""] * rows
    for row, text in known.items():
        texts[row] = text
    return pl.Series(texts, dtype=pl.String)


def _released(decisions: Decisions) -> NDArray[np.bool_]:
    return np.zeros(len(decisions), dtype=np.bool_) if decisions.released is None else decisions.released
