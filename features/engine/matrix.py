"""Results of the kernel on their way to a FeatureMatrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.core.batch import FeatureMatrix, SliceStamps, SourceBatch, Strings
from features.definitions.plan import Feature, Group, Plan
from features.kernel.tables import Results


class MatrixSchema:
    """What all matrices of one source share: names of numbers and of texts, and values where nothing is known."""

    def __init__(self, plan: Plan, name: str) -> None:
        features = plan.readers[name].features
        self.names = tuple(f.name for f in features if not f.text)
        self.texts = tuple(f.name for f in features if f.text)
        self.fills = np.array([f.fill for f in features if not f.text], np.float64)


class MatrixBuilder:
    """A matrix of one source that the kernel is filling, row by row."""

    def __init__(self, schema: MatrixSchema, batch: SourceBatch) -> None:
        self.batch = batch
        self.names, self.texts = schema.names, schema.texts
        self.values = np.tile(schema.fills, (len(batch), 1))
        self.tokens = np.zeros((len(batch), len(self.texts)), np.int64)
        self.duplicate = np.zeros(len(batch), np.bool_)
        self.late = np.zeros(len(batch), np.bool_)
        self.stamps: list[SliceStamps] = []

    def matrix(self, texts: Mapping[int, str]) -> FeatureMatrix:
        """The finished matrix; `texts` holds the text of each token."""
        strings: dict[str, Strings] = {
            name: [texts.get(token) for token in self.tokens[:, column].tolist()]
            for column, name in enumerate(self.texts)
        }
        return FeatureMatrix(
            self.batch, self.names, self.values, strings, {}, self.duplicate, self.late, tuple(self.stamps)
        )


def features_of(plan: Plan, reader: str, group: Group) -> list[tuple[Feature, int]]:
    """A reader's features of one group, each with its column among the numbers or the texts."""
    numbers, texts, out = 0, 0, []
    for feature in plan.readers[reader].features:
        column = texts if feature.text else numbers
        texts, numbers = texts + feature.text, numbers + (not feature.text)
        if feature.group == group.index:
            out.append((feature, column))
    return out


def no_results(events: int) -> Results:
    """Results of events that no source reads: their status alone."""
    empty = np.zeros((0, 0), np.int64)
    return Results(np.zeros((0, 0)), empty, np.zeros(events, np.int64), empty, np.zeros(0, np.int64))
