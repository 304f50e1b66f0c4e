"""Reasons of declines that must be true: chosen so that they pass a check, and the check itself.

A named feature is an input of the model, is not protected, raised the score of this very
application, and at its baseline would have lowered it; all named features together at their
baselines lower it too. `violations` takes nothing on trust: it scores again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.core.batch import Floats
from models.core.base import Model, ModelInputs
from models.core.inputs import from_rows
from models.decision.decisions import DecisionCode, Decisions, Reason
from models.decision.reasons.reasons import Explained, at_baseline

MOST = 4
_TOLERANCE = 1e-6


def hold_together(explained: Explained, row: int, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """The longest leading part of ranked reasons that, together at baseline, lower the score."""
    named = [reason for reason in reasons if reason.feature]
    leading = [tuple(reason.feature for reason in named[:size]) for size in range(1, len(named) + 1)]
    if not leading:
        return ()
    rows = np.full(len(leading), row, dtype=np.intp)
    moved = explained.model.score_inputs(at_baseline(explained.inputs, rows, leading, explained.model))
    holding = np.flatnonzero(moved < explained.score[row])
    return tuple(named[: int(holding[-1]) + 1]) if len(holding) else ()


def violations(decisions: Decisions, model: Model, protected: frozenset[str] = frozenset()) -> list[str]:
    """What is wrong with the declines' reasons; empty when all hold.

    A decline for a rule names the rule; features named beside it are checked all the same.
    """
    rows = np.flatnonzero(decisions.decision == DecisionCode.DECLINE)
    inputs = from_rows(decisions.features, model.signature, rows)
    score = model.score_inputs(inputs)
    faults: list[str] = []
    for index, row in enumerate(rows.tolist()):
        published = decisions.reasons.get(row, ())
        reasons = [reason for reason in published if reason.feature]
        if not reasons and any(reason.code in decisions.rules_hit.get(row, ()) for reason in published):
            continue
        event = decisions.features.batch.event_ids[row]
        faults += [f"{event}: {fault}" for fault in _faults(reasons, inputs, index, score, model, protected)]
    return faults


def _faults(
    reasons: Sequence[Reason],
    inputs: ModelInputs,
    row: int,
    score: Floats,
    model: Model,
    protected: frozenset[str],
) -> list[str]:
    if not 1 <= len(reasons) <= MOST:
        return [f"{len(reasons)} reasons, expected 1 to {MOST}"]
    known = {*model.signature.numeric, *model.signature.categorical}
    faults = [f"{r.feature} is no input of the model" for r in reasons if r.feature not in known]
    faults += [f"{r.feature} is protected" for r in reasons if r.feature in protected]
    if faults:
        return faults
    sets: list[tuple[str, ...]] = [(reason.feature,) for reason in reasons]
    sets.append(tuple(reason.feature for reason in reasons))
    rows = np.full(len(sets), row, dtype=np.intp)
    moved = score[row] - model.score_inputs(at_baseline(inputs, rows, sets, model))
    for reason, change in zip(reasons, moved[:-1].tolist(), strict=True):
        if change <= 0.0:
            faults.append(f"{reason.feature} at its baseline does not lower the score")
        if abs(change - reason.contribution) > _TOLERANCE:
            faults.append(f"{reason.feature} contributes {change:.6g}, said {reason.contribution:.6g}")
        if reason.baseline != model.baseline[reason.feature]:
            faults.append(f"{reason.feature}: the baseline is not the bundle's")
    if moved[-1] <= 0.0:
        faults.append("all reasons together at their baselines do not lower the score")
    return faults
