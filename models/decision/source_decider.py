"""Decides the rows of one source: thresholds, budget, rules, lists, release, suppression, reasons."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, FeatureMatrix, Floats, take_rows
from features.engine.key_texts import key_texts
from models.core.base import Model
from models.decision.decisions import SCORE_INVALID, DecisionCode, Decisions, Mode, Reason
from models.decision.memory.memory import SourceMemory
from models.decision.reasons import adverse_action, reasons
from models.decision.reasons.catalogue import Catalogue
from models.decision.reasons.reasons import Explained, Limits
from models.decision.rules import thresholds
from models.decision.rules.rules import NO_ACTION, RuleOutcome, RuleSet
from models.decision.settings import LEVELS, SourcePolicy

_HASH_RANGE = float(2**64)


@dataclass(frozen=True, kw_only=True)
class SourceDecider:
    """One source's part of a policy, compiled against a plan."""

    policy: SourcePolicy
    rules: RuleSet
    catalogue: Catalogue
    limits: Limits
    suppress_keys: tuple[str, ...]
    memory: SourceMemory

    def decide(
        self, features: FeatureMatrix, score: Floats, model: Model, mode: Mode, remember: bool
    ) -> Decisions:
        """One decision a row; `remember` keeps what suppression and budget need."""
        features, score, invalid = _checked(features, score)
        outcome = self.rules.evaluate(features, score)
        decision, threshold = self._by_score(features, score, model, outcome, remember)
        released = self._release(features, decision, outcome)
        decision[released] = DecisionCode.APPROVE
        _apply_rules(decision, outcome)
        decision[invalid] = np.maximum(decision[invalid], DecisionCode.REVIEW)
        by_row = self._unscored_reasons(invalid, outcome)
        rows = np.flatnonzero((decision > DecisionCode.APPROVE) & ~invalid)
        if len(rows):
            explained = reasons.explain(features, score, rows, model)
            by_row |= self._reasons(decision, rows, explained, outcome)
        suppressed = self._suppress(features, decision, np.flatnonzero(decision), remember)
        return Decisions(
            features=features,
            model=model.version,
            mode=mode,
            policy="",
            score=score,
            threshold=threshold,
            decision=decision,
            severity=self._severity(features, score, decision),
            alert=(decision > DecisionCode.APPROVE) & ~suppressed,
            suppressed=suppressed,
            rules_hit=self._hits(outcome),
            reasons=by_row,
            released=released if self.policy.release else None,
        )

    def _by_score(
        self, features: FeatureMatrix, score: Floats, model: Model, outcome: RuleOutcome, remember: bool
    ) -> tuple[NDArray[np.int8], Floats]:
        review, decline = thresholds.rows(self.policy, features, model, outcome.segments)
        scored = ~np.isnan(score)
        declined = score >= decline
        if self.memory.budgets is not None:
            free = scored & ~declined & (outcome.action == NO_ACTION)
            reviewed, review = self.memory.budgets.decide(features, score, free, remember)
        else:
            reviewed = score >= review
        decision = reviewed.astype(np.int8)
        decision[declined] = DecisionCode.DECLINE
        return decision, np.where(scored, np.minimum(review, decline), thresholds.NEVER)

    def _release(self, features: FeatureMatrix, decision: NDArray[np.int8], outcome: RuleOutcome) -> Bools:
        released = np.zeros(len(decision), dtype=np.bool_)
        release = self.policy.release
        if release is not None and release.share > 0.0:
            for row in np.flatnonzero(
                (decision == DecisionCode.DECLINE) & (outcome.action != DecisionCode.DECLINE)
            ).tolist():
                released[row] = _draw(features.batch.event_ids[row], release.salt) < release.share
        return released

    def _reasons(
        self, decision: NDArray[np.int8], rows: NDArray[np.intp], explained: Explained, outcome: RuleOutcome
    ) -> dict[int, tuple[Reason, ...]]:
        by_row: dict[int, tuple[Reason, ...]] = {}
        for index, row in enumerate(rows.tolist()):
            by_rule = self._rule_reasons(outcome, row)
            ranked = reasons.rank(explained, index, self.catalogue, self.limits)
            if self.policy.adverse_action is not None and decision[row] == DecisionCode.DECLINE:
                most = self.policy.adverse_action.most
                ranked = adverse_action.hold_together(explained, index, ranked[:most])
                if not ranked and not by_rule:
                    decision[row] = DecisionCode.REVIEW
                    ranked = (reasons.COMBINATION_REASON,)
            if by_rule and not any(reason.feature for reason in ranked):
                ranked = ()
            by_row[row] = by_rule + ranked
        return by_row

    def _unscored_reasons(self, invalid: Bools, outcome: RuleOutcome) -> dict[int, tuple[Reason, ...]]:
        """Reasons of the rows that have no valid score: the rules that hold, and that there is none."""
        return {
            row: (*self._rule_reasons(outcome, row), reasons.SCORE_INVALID_REASON)
            for row in np.flatnonzero(invalid).tolist()
        }

    def _rule_reasons(self, outcome: RuleOutcome, row: int) -> tuple[Reason, ...]:
        return tuple(
            replace(reasons.COMBINATION_REASON, code=self.rules.names[k], text=self.rules.texts[k])
            for k in reversed(self.rules.order)
            if outcome.hits[k][row] and self.rules.actions[k] > DecisionCode.APPROVE
        )

    def _suppress(
        self, features: FeatureMatrix, decision: NDArray[np.int8], rows: NDArray[np.intp], remember: bool
    ) -> Bools:
        suppressed = np.zeros(len(decision), dtype=np.bool_)
        keyed = all(name in features.batch.columns for name in self.suppress_keys)
        if self.memory.alerts is not None and keyed and len(rows):
            picked = {name: take_rows(features.batch.columns[name], rows) for name in self.suppress_keys}
            keys = key_texts([picked[name] for name in self.suppress_keys])
            ids = [features.batch.event_ids[row] for row in rows.tolist()]
            times = features.batch.event_time[rows]
            suppressed[rows] = self.memory.alerts.suppress(keys, ids, times, decision[rows], remember)
        return suppressed

    def _severity(
        self, features: FeatureMatrix, score: Floats, decision: NDArray[np.int8]
    ) -> NDArray[np.int8]:
        bands = self.policy.severity
        edges = [bands.medium, bands.high, bands.critical]
        severity = 1 + np.searchsorted(edges, np.nan_to_num(score), side="right")
        exposure = thresholds.exposure_of(features) if bands.exposure else None
        if exposure is not None:
            for level, name in enumerate(LEVELS, start=2):
                edge = bands.exposure.get(name, np.inf)
                severity = np.where(exposure >= edge, np.maximum(severity, level), severity)
        return np.where(decision > DecisionCode.APPROVE, severity, 0).astype(np.int8)

    def _hits(self, outcome: RuleOutcome) -> dict[int, tuple[str, ...]]:
        hits: dict[int, tuple[str, ...]] = {}
        for name, held in zip(self.rules.names, outcome.hits, strict=True):
            for row in np.flatnonzero(held).tolist():
                hits[row] = (*hits.get(row, ()), name)
        return hits


def _checked(features: FeatureMatrix, score: Floats) -> tuple[FeatureMatrix, Floats, Bools]:
    """Scores outside of 0 to 1 become NaN and raise a flag: nothing downstream takes them for a number.

    The flag is put on a copy: challengers in another thread share the matrix.
    """
    invalid = ~((score >= 0.0) & (score <= 1.0))
    if invalid.any():
        score = np.where(invalid, np.nan, score)
        features = replace(features, flags={**features.flags, SCORE_INVALID: invalid})
    return features, score, invalid


def _apply_rules(decision: NDArray[np.int8], outcome: RuleOutcome) -> None:
    decision[outcome.action == DecisionCode.APPROVE] = DecisionCode.APPROVE
    np.maximum(decision, outcome.action, out=decision)


def _draw(event_id: str, salt: str) -> float:
    """A number in [0, 1) that the event's id alone decides."""
    digest = hashlib.blake2b(event_id.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / _HASH_RANGE
