"""The policy file as data: what `policy.toml` may say (docs/reference/policy.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from features.core.durations import parse_duration
from features.core.files import decode
from features.core.toml import convert, parse_toml
from models.core.errors import PolicyError

Action = Literal["flag", "approve", "review", "decline"]
Level = Literal["medium", "high", "critical"]
LEVELS: tuple[Level, ...] = ("medium", "high", "critical")
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]


class CostThreshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=False):
    """Acting pays when score * loss > cost: the threshold is cost / loss, for each event.

    `cost` is what acting costs. The loss is `loss_share` of the event's exposure, or `loss` where the
    event has none.
    """

    cost: Positive
    loss_share: Positive = 1.0
    loss: Positive | None = None


Threshold = float | str | CostThreshold


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """K alerts a day, best first: a controller sets the review threshold (models.decision.memory.budget).

    `partitions` is the number of the topic's partitions: each gets its share of the budget and its own
    controller, so that results do not depend on how partitions are spread over workers.
    """

    alerts_per_day: Annotated[int, Meta(ge=1)]
    start: Share = 0.5
    overshoot: Share = 0.1
    interval: str = "15m"
    half_life: str = "12h"
    partitions: Annotated[int, Meta(ge=1)] = 1


class ThresholdSegment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other thresholds for the events for which `when` holds; the first segment that fits counts."""

    name: str
    when: str
    review: Threshold | None = None
    decline: Threshold | None = None


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An SQL condition over event columns, features, `score` and `exposure`; `text` is its reason."""

    name: str
    when: str
    action: Action
    priority: int = 0
    text: str = ""


class ListRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block or allow list: one value of `column` a line in `file`, or `values` in place."""

    name: str
    column: str
    action: Action
    file: str | None = None
    values: tuple[str, ...] = ()
    priority: int = 100
    text: str = ""


class Suppression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most one alert per entity and period of event time; a decline still passes a mere review."""

    entity: str
    period: str


class Severity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores, and optionally exposures, from which an alert has a severity; the higher of the two."""

    medium: float = 0.5
    high: float = 0.8
    critical: float = 0.95
    exposure: dict[Level, float] = {}


class Release(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let a share of the score's declines through, to learn what would have become of them."""

    share: Share
    salt: str = ""


class AdverseAction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Declines carry up to `most` reasons that pass the machine check; one without any is reviewed."""

    most: Annotated[int, Meta(ge=1, le=4)] = 4


class SourcePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is decided about one source's events."""

    review: Threshold | None = None
    decline: Threshold | None = None
    budget: Budget | None = None
    segments: tuple[ThresholdSegment, ...] = ()
    rules: tuple[Rule, ...] = ()
    lists: tuple[ListRule, ...] = ()
    suppress: Suppression | None = None
    severity: Severity = Severity()
    release: Release | None = None
    adverse_action: AdverseAction | None = None


class ReasonSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How alerts are explained: at most `most` reasons that move the score by `least` or more."""

    catalogue: str | None = None
    most: Annotated[int, Meta(ge=1)] = 4
    least: float = 0.001
    allow_protected: tuple[str, ...] = ()


class PolicyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole policy file."""

    sources: dict[str, SourcePolicy]
    reasons: ReasonSettings = ReasonSettings()


def parse(data: bytes, path: Path) -> PolicyFile:
    """Read a policy file's bytes; ConfigurationError names file and setting."""
    settings = convert(parse_toml(decode(data, path), path), PolicyFile, path, strict=True)
    for name, source in settings.sources.items():
        _check(source, f"{path}: sources.{name}")
    return settings


def _check(source: SourcePolicy, where: str) -> None:
    if source.budget is not None:
        parse_duration(source.budget.interval, f"{where}.budget.interval")
        parse_duration(source.budget.half_life, f"{where}.budget.half_life")
        if source.review is not None or any(segment.review is not None for segment in source.segments):
            raise PolicyError(f"{where}.budget", "a budget sets the review threshold; take `review` out")
    if source.suppress is not None:
        parse_duration(source.suppress.period, f"{where}.suppress.period")
    named: list[Rule | ListRule] = [*source.rules, *source.lists]
    names = [item.name for item in named]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise PolicyError(where, f"two rules or lists are named `{name}`")
    for number, listed in enumerate(source.lists):
        if (listed.file is None) == (not listed.values):
            raise PolicyError(f"{where}.lists[{number}]", "give either `file` or `values`")
    for threshold in _thresholds(source):
        if isinstance(threshold, float) and not 0.0 <= threshold <= 1.0:
            raise PolicyError(where, f"threshold {threshold} is no probability")


def _thresholds(source: SourcePolicy) -> list[Threshold | None]:
    thresholds = [source.review, source.decline]
    for segment in source.segments:
        thresholds += [segment.review, segment.decline]
    return thresholds
