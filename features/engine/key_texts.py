"""Entity keys as texts: what stores and profile files name an entity by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.core.batch import Column


def key_texts(columns: Sequence[Column]) -> list[str | None]:
    """One text a row: the value itself, whole numbers as decimals, several columns joined with `|`.

    A backslash or `|` within a value of a composite key is escaped; None where any column is null.

    >>> key_texts([["a|b", None], np.array([3.0, 4.0])])
    ['a\\\\|b|3', None]
    """
    texts = [_texts(column) for column in columns]
    if len(texts) == 1:
        return texts[0]
    return [_joined(row) for row in zip(*texts, strict=True)]


def _texts(column: Column) -> list[str | None]:
    if isinstance(column, list):
        return column
    known = np.isfinite(column)
    whole = np.where(known, column, 0).astype(np.int64)
    texts: list[str | None] = list(map(str, whole.tolist()))
    for row in np.flatnonzero(~known).tolist():
        texts[row] = None
    return texts


def _joined(row: tuple[str | None, ...]) -> str | None:
    escaped = [value.replace("\\", "\\\\").replace("|", "\\|") for value in row if value is not None]
    return "|".join(escaped) if len(escaped) == len(row) else None
