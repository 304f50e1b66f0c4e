"""What a policy would change: recorded events, decided by two policies on the same features and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.times import DAY_US
from features.definitions.plan import Plan
from features.engine.engine import FeatureEngine
from features.offline.merge import batches
from features.offline.recorded import read_frame, reading, scan
from features.profiles.joins import FrameProfiles
from models.decision.decisions import DECISIONS, Decisions
from models.decision.policy import Policy, load_policy
from stream.project import build
from stream.scoring.scorer import Scorer
from stream.settings.config import Config

_EXAMPLES = 10


class PolicyTally(msgspec.Struct, kw_only=True):
    """What one policy did to one source."""

    policy: str
    decisions: dict[str, int]
    alerts: int = 0
    suppressed: int = 0
    released: int = 0
    rules: dict[str, int] = {}


class ChangedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event that the two decide differently."""

    event_id: str
    score: float
    before: str
    after: str


class SourceChange(msgspec.Struct, kw_only=True):
    """One source under both policies; `moves["approve"]["review"]` counts events by decision before and after."""

    source: str
    current: PolicyTally
    candidate: PolicyTally
    events: int = 0
    days: int = 0
    moves: dict[str, dict[str, int]] = {}
    examples: list[ChangedEvent] = []


class Comparison(msgspec.Struct, kw_only=True):
    """The result of a dry run."""

    sources: list[SourceChange]

    def text(self) -> str:
        """For people."""
        return "\n".join(line for change in self.sources for line in _lines(change))


def compare(
    config: Config, candidate: Path, inputs: Mapping[str, str], profiles: Mapping[str, str]
) -> Comparison:
    """Run the events of `inputs` (source to file) through the project's models and both policies."""
    plan = build.make_plan(config)
    tables = FrameProfiles(plan, {n: read_frame(f) for n, f in profiles.items()}) if profiles else None
    current = build.make_policy(config, plan)
    scorer = Scorer(FeatureEngine(plan), current, build.load_models(config, plan), tables, "replay")
    other = load_policy(candidate, plan)
    for source, model in scorer.routes.items():
        other.check_model(source, model)
    changes: dict[str, SourceChange] = {}
    days: dict[str, NDArray[np.int64]] = {}
    for before in _decided(scorer, plan, inputs):
        events = before.features.batch
        name = events.source.name
        after = other.decide(before.features, before.score, scorer.model(name), "replay")
        change = changes.setdefault(name, _blank(name, current, other))
        _add(change, before, after)
        seen = events.event_time // DAY_US
        days[name] = np.union1d(days.get(name, seen[:0]), seen)
        change.days = len(days[name])
    return Comparison(sources=list(changes.values()))


def _decided(scorer: Scorer, plan: Plan, inputs: Mapping[str, str]) -> Iterator[Decisions]:
    with reading(*inputs.values()):
        for batch in batches(plan, {name: scan(file) for name, file in inputs.items()}):
            yield from scorer.score(batch)


def _blank(source: str, current: Policy, other: Policy) -> SourceChange:
    return SourceChange(
        source=source,
        current=PolicyTally(policy=current.version, decisions=dict.fromkeys(DECISIONS, 0)),
        candidate=PolicyTally(policy=other.version, decisions=dict.fromkeys(DECISIONS, 0)),
        moves={before: dict.fromkeys(DECISIONS, 0) for before in DECISIONS},
    )


def _add(change: SourceChange, before: Decisions, after: Decisions) -> None:
    change.events += len(before)
    for tally, decisions in ((change.current, before), (change.candidate, after)):
        for number, name in enumerate(DECISIONS):
            tally.decisions[name] += int((decisions.decision == number).sum())
        tally.alerts += int(decisions.alert.sum())
        tally.suppressed += int(decisions.suppressed.sum())
        tally.released += 0 if decisions.released is None else int(decisions.released.sum())
        for names in decisions.rules_hit.values():
            for name in names:
                tally.rules[name] = tally.rules.get(name, 0) + 1
    pairs = pl.DataFrame({"before": before.decision, "after": after.decision})
    for b, a, count in pairs.group_by("before", "after").len().rows():
        change.moves[DECISIONS[b]][DECISIONS[a]] += count
    for row in np.flatnonzero(before.decision != after.decision).tolist():
        if len(change.examples) == _EXAMPLES:
            break
        change.examples.append(
            ChangedEvent(
                event_id=before.features.batch.event_ids[row],
                score=float(before.score[row]),
                before=DECISIONS[before.decision[row]],
                after=DECISIONS[after.decision[row]],
            )
        )


def _lines(change: SourceChange) -> list[str]:
    current, other = change.current, change.candidate
    lines = [
        f"{change.source}: {change.events:,} events on {change.days} days",
        f"  {'':<12} {'current':>12} {'candidate':>12}",
    ]
    rows = [(name, current.decisions[name], other.decisions[name]) for name in DECISIONS]
    counted = ("alerts", "suppressed", "released")
    rows += [(name, getattr(current, name), getattr(other, name)) for name in counted]
    rows += [
        (f"rule {name}", current.rules.get(name, 0), other.rules.get(name, 0))
        for name in sorted({*current.rules, *other.rules})
    ]
    lines += [f"  {name:<12} {before:>12,} {after:>12,}" for name, before, after in rows]
    for before, moved in change.moves.items():
        lines += [
            f"  {before} -> {after}: {count:,}" for after, count in moved.items() if count and after != before
        ]
    lines += [f"  {e.event_id} ({e.score:.4f}): {e.before} -> {e.after}" for e in change.examples]
    return lines
