"""Derived features: SQL over an event's columns, its aggregations and its profile fields.

The last step before a model: aggregations come from the engine, profile fields from
`features.profiles.joins`, then `DerivedFeatures.add` computes the rest and puts all in the plan's order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from features.core.batch import Column, FeatureMatrix
from features.definitions.expressions import Types, frame_of, source_types, to_floats, to_strings
from features.definitions.plan import Plan, Reader


class DerivedFeatures:
    """The derived features of all sources of a plan, compiled once."""

    def __init__(self, plan: Plan) -> None:
        self._readers = {name: _Compiled(plan, reader) for name, reader in plan.readers.items()}

    def add(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """The matrix with derived features, its columns in the order of the source's `Reader.names`.

        Every aggregation and profile field of the reader must be there. Without derived features the
        same matrix comes back. A result that is null or not finite (a division by zero) is missing.
        """
        return self._readers[matrix.batch.source.name].add(matrix)


class _Compiled:
    def __init__(self, plan: Plan, reader: Reader) -> None:
        self._text_names = set(reader.text_names)
        self._levels = _levels(reader)
        types = source_types(plan.sources[reader.source], reader.names, reader.text_names)
        self._types: Types = types
        derived = {feature.name for feature in reader.derived}
        used = {name for level in self._levels for e in level for name in e.meta.root_names()}
        self._inputs = sorted(used - derived)
        self._derived = [feature.name for feature in reader.derived]

    def add(self, matrix: FeatureMatrix) -> FeatureMatrix:
        if not self._derived:
            return matrix
        batch = matrix.batch
        columns: dict[str, Column] = {n: matrix.column(n) for n in self._inputs if n != "event_time"}
        frame = frame_of(self._types, columns, batch.event_time, self._inputs or ["event_time"])
        for level in self._levels:
            frame = frame.with_columns(level)
        numbers = [name for name in self._derived if name not in self._text_names]
        strings = {n: to_strings(frame[n]) for n in self._derived if n in self._text_names}
        added = np.empty((len(batch), len(numbers)), dtype=np.float64)
        for column, name in enumerate(numbers):
            added[:, column] = to_floats(frame[name])
        return replace(
            matrix,
            names=(*matrix.names, *numbers),
            values=np.hstack([matrix.values, added]),
            strings={**matrix.strings, **strings},
        )


def _levels(reader: Reader) -> list[list[pl.Expr]]:
    """Expressions by depth: those of one level do not use each other."""
    depth: dict[str, int] = {}
    levels: list[list[pl.Expr]] = []
    for feature in reader.derived:
        expression = pl.sql_expr(feature.sql).alias(feature.name)
        level = max((depth[name] + 1 for name in expression.meta.root_names() if name in depth), default=0)
        depth[feature.name] = level
        if level == len(levels):
            levels.append([])
        levels[level].append(expression)
    return levels
