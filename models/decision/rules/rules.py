"""SQL conditions and lists of a policy, evaluated over whole batches.

The rule of highest priority that holds decides; of several with one priority the strictest.
`approve` overrules the score, `review` and `decline` only ever raise what the score says, `flag`
is recorded and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core import files
from features.core.batch import Bools, Column, FeatureMatrix, Floats
from features.definitions import expressions
from features.definitions.plan import Plan
from models.core.errors import PolicyError
from models.core.inputs import as_texts
from models.decision.decisions import DecisionCode
from models.decision.rules.thresholds import exposure_of
from models.decision.settings import ListRule, Rule, SourcePolicy

SCORE = "score"
EXPOSURE = "exposure"
NO_ACTION = -1
_STRICTNESS = {
    "flag": NO_ACTION,
    "approve": DecisionCode.APPROVE,
    "review": DecisionCode.REVIEW,
    "decline": DecisionCode.DECLINE,
}


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """Which rules hold: `hits[k]` for rule k, and the action of the deciding rule, NO_ACTION where none decides."""

    segments: list[Bools]
    hits: list[Bools]
    action: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """Conditions of one source, checked and compiled; `names` are rules first, then lists."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    actions: tuple[int, ...]
    order: tuple[int, ...]
    conditions: tuple[pl.Expr, ...]
    segments: int
    used: tuple[str, ...]
    types: expressions.Types
    lists: tuple[tuple[str, frozenset[str]], ...] = field(repr=False)

    def evaluate(self, features: FeatureMatrix, score: Floats) -> RuleOutcome:
        """Evaluate everything; a null condition does not hold."""
        held = self._evaluated(features, score) if self.conditions else []
        held += [_member(features, column, values) for column, values in self.lists]
        hits = held[self.segments :]
        action = np.full(len(features), NO_ACTION, dtype=np.int8)
        for rule in self.order:
            action[hits[rule]] = self.actions[rule]
        return RuleOutcome(segments=held[: self.segments], hits=hits, action=action)

    def _evaluated(self, features: FeatureMatrix, score: Floats) -> list[Bools]:
        columns: dict[str, Column] = {name: self._column(features, score, name) for name in self.used}
        frame = expressions.frame_of(self.types, columns, features.batch.event_time, self.used)
        results = frame.select(self.conditions)
        wide = [results[str(number)].fill_null(False) for number in range(len(self.conditions))]
        full = [w if len(w) == len(features) else w.new_from_index(0, len(features)) for w in wide]
        return [series.to_numpy(writable=False).astype(np.bool_) for series in full]

    def _column(self, features: FeatureMatrix, score: Floats, name: str) -> Column:
        """A column by name; null where a question (unlike an event) brings none."""
        if name == "event_time":
            return features.batch.event_time
        try:
            return features.column(name)
        except KeyError:
            if name == SCORE:
                return score
        exposure = exposure_of(features) if name == EXPOSURE else None
        if exposure is not None:
            return exposure
        text = self.types[name] == pl.String
        return [None] * len(features) if text else np.full(len(features), np.nan)


def compile_rules(
    policy: SourcePolicy, source: str, plan: Plan, content: Mapping[Path, bytes], where: str
) -> RuleSet:
    """Check a source's conditions and lists against the plan; `content` holds the policy's files, itself first."""
    reader = plan.readers[source]
    types = expressions.source_types(plan.sources[source], reader.names, reader.text_names)
    for extra in (SCORE, EXPOSURE):
        types.setdefault(extra, pl.Float64())
    sqls = [(s.when, f"{where}.segments[{i}].when") for i, s in enumerate(policy.segments)]
    sqls += [(r.when, f"{where}.rules[{i}].when") for i, r in enumerate(policy.rules)]
    for sql, where in sqls:
        expressions.check_condition(sql, types, where)
    compiled = [pl.sql_expr(sql).alias(str(number)) for number, (sql, _) in enumerate(sqls)]
    rules: list[Rule | ListRule] = [*policy.rules, *policy.lists]
    return RuleSet(
        names=tuple(rule.name for rule in rules),
        texts=tuple(rule.text or rule.name.replace("_", " ") for rule in rules),
        actions=tuple(_STRICTNESS[rule.action] for rule in rules),
        order=_order([(rule.priority, _STRICTNESS[rule.action]) for rule in rules]),
        conditions=tuple(compiled),
        segments=len(policy.segments),
        used=tuple(sorted({name for expression in compiled for name in expression.meta.root_names()})),
        types=types,
        lists=tuple(
            (listed.column, _values(listed, types, content, f"{where}.lists[{number}]"))
            for number, listed in enumerate(policy.lists)
        ),
    )


def _order(ranks: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Deciding rules, weakest first, so that the strongest is written last."""
    deciding = [number for number, (_, strictness) in enumerate(ranks) if strictness >= 0]
    return tuple(sorted(deciding, key=lambda number: ranks[number]))


def _values(
    listed: ListRule, types: expressions.Types, content: Mapping[Path, bytes], where: str
) -> frozenset[str]:
    if listed.column not in types:
        raise PolicyError(f"{where}.column", f"there is no column `{listed.column}`")
    if listed.file is None:
        return frozenset(listed.values)
    file = next(iter(content)).parent / listed.file
    lines = map(str.strip, files.lines(files.decode(content[file], file)))
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _member(features: FeatureMatrix, column: str, values: frozenset[str]) -> Bools:
    try:
        values_by_row = features.column(column)
    except KeyError:
        return np.zeros(len(features), dtype=np.bool_)
    texts = values_by_row if isinstance(values_by_row, list) else as_texts(values_by_row).tolist()
    return np.fromiter((text in values for text in texts), dtype=np.bool_, count=len(features))
