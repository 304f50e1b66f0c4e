"""What a backtest is asked for: settings, inputs and the times that are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from features.core.durations import parse_duration
from features.core.times import option_us

SHARDS = 4096


class BacktestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `inputs` are `SOURCE=FILE` or `kafka:TOPIC`; times are ISO 8601, UTC where they name no zone.

    `decisions` is a folder that gets a Parquet file a setting. `engine` is `local` or `ray`.
    """

    config: Path
    inputs: Sequence[str]
    start: str | None = None
    end: str | None = None
    warm_up: str = "30d"
    model: str | None = None
    policy: Path | None = None
    definitions: Path | None = None
    against: str | None = None
    work: Path = Path("build/backtest")
    decisions: Path | None = None
    segment_by: tuple[str, ...] = ()
    review_cost: float = 0.0
    with_features: bool = False
    profiles: Mapping[str, str] = {}
    processes: int = 1
    engine: str = "local"


class Setting(msgspec.Struct, frozen=True):
    """What was tried: the versions that make a result repeatable."""

    name: str
    models: dict[str, str]
    policy: str
    plan: str


@dataclass(frozen=True)
class Span:
    """Which events are reported; microseconds since 1970. Events of the warm-up before are folded only."""

    start: int | None = None
    end: int | None = None
    warm_up: int = 0


def span_of(request: BacktestRequest) -> Span:
    """The times of a request as numbers; ConfigurationError names the option that is wrong."""
    return Span(
        micros("--from", request.start),
        micros("--to", request.end),
        parse_duration(request.warm_up, "--warm-up"),
    )


def micros(option: str, text: str | None) -> int | None:
    """An ISO 8601 time as microseconds since 1970."""
    return None if text is None else option_us(option, text)
