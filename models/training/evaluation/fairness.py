"""Are groups treated alike? Approval and error rates by each protected attribute.

Protected attributes are no inputs of the model, but other inputs may stand for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from features.core.batch import Bools, Floats
from models.training.evaluation.metrics import Labels, roc_auc

FOUR_FIFTHS = 0.8
FEW = 30


def fairness_table(
    frame: pl.DataFrame, attributes: Sequence[str], label: Labels, score: Floats, threshold: float
) -> dict[str, Any]:
    """For each attribute its groups: rows, share bad, approval rate, errors, AUC; and the lowest ratio
    of approval rates between groups of at least 30 rows (below 0.8: look closer).

    A row is declined when score >= threshold. `false_decline` is the share of good rows declined,
    `false_approval` of bad rows approved. Numbers with more than ten values are cut into quarters.
    """
    declined = score >= threshold
    return {
        name: _attribute(_groups(frame[name]), label, score, declined)
        for name in attributes
        if name in frame.columns
    }


def _attribute(groups: list[str], label: Labels, score: Floats, declined: Bools) -> dict[str, Any]:
    names = np.array(groups, dtype=object)
    rows = [_group(name, names == name, label, score, declined) for name in sorted(set(groups))]
    rates = [row["approval_rate"] for row in rows if row["rows"] >= FEW]
    ratio = min(rates) / max(rates) if rates and max(rates) > 0 else None
    return {"groups": rows, "approval_ratio": ratio, "look_closer": ratio is not None and ratio < FOUR_FIFTHS}


def _group(name: str, members: Bools, label: Labels, score: Floats, declined: Bools) -> dict[str, Any]:
    good, bad = members & (label == 0), members & (label == 1)
    both = good.any() and bad.any()
    return {
        "group": name,
        "rows": int(members.sum()),
        "share_bad": float(label[members].mean()),
        "approval_rate": float(1 - declined[members].mean()),
        "false_decline": float(declined[good].mean()) if good.any() else None,
        "false_approval": float(1 - declined[bad].mean()) if bad.any() else None,
        "roc_auc": roc_auc(label[members], score[members]) if both else None,
    }


def _groups(column: pl.Series) -> list[str]:
    if column.dtype.is_numeric() and column.n_unique() > 10:
        values = column.cast(pl.Float64).to_numpy()
        edges = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75]))
        quarters = np.searchsorted(edges, values, "right")
        bounds = ["", *(f"{edge:g}" for edge in edges), ""]
        return [
            f"{quarter + 1}: {_range(bounds[quarter], bounds[quarter + 1])}" if value == value else "missing"
            for quarter, value in zip(quarters.tolist(), values.tolist(), strict=True)
        ]
    return ["missing" if value is None else str(value) for value in column.to_list()]


def _range(low: str, high: str) -> str:
    if not low:
        return f"below {high}" if high else "all"
    return f"{low} up to below {high}" if high else f"{low} and above"
