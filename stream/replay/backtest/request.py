"""What a backtest is asked for, and the scorers that its settings make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from features.core.durations import parse_duration
from features.core.errors import ConfigurationError
from features.core.times import option_us
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.project import load_definitions
from features.engine.engine import FeatureEngine
from features.offline.recorded import read_frame
from features.profiles.joins import FrameProfiles
from models.decision.policy import Policy
from stream.project import build
from stream.replay.backtest.report.figures import Setting
from stream.scoring.scorer import Scorer
from stream.settings import config as configs
from stream.settings.config import Config
from stream.settings.tables import PolicySettings

SHARDS = 4096


class Request(msgspec.Struct, frozen=True, kw_only=True):
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


@dataclass(frozen=True)
class Span:
    """Which events are reported; microseconds since 1970. Events of the warm-up before are folded only."""

    start: int | None = None
    end: int | None = None
    warm_up: int = 0


@dataclass(frozen=True)
class Side:
    """One setting and its policy; its model is that of `scorer.model(source)`."""

    setting: Setting
    scorer: Scorer
    policy: Policy


@dataclass(frozen=True)
class Lane:
    """Settings that read the same features, so that these are computed once. `number` names it on disk."""

    number: int
    engine: FeatureEngine
    sides: list[Side] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """The plan of all its settings."""
        return self.engine.plan


def lanes_of(request: Request) -> list[Lane]:
    """The candidate and, where asked for, what it is compared with, in this order."""
    lanes: dict[object, Lane] = {}
    for name, config, model in _settings(request):
        plan = compile_plan(load_definitions(config.resolve(config.project.definitions)))
        files = _profile_files(config, plan, request)
        alike = (plan.fingerprint, tuple(sorted(files.items())))
        if alike not in lanes:
            lanes[alike] = Lane(len(lanes), FeatureEngine(plan, shards=SHARDS))
        lane = lanes[alike]
        lane.sides.append(_side(name, config, model, lane, files))
    return list(lanes.values())


def span_of(request: Request) -> Span:
    """The times of a request as numbers; ConfigurationError names the option that is wrong."""
    return Span(
        micros("--from", request.start),
        micros("--to", request.end),
        parse_duration(request.warm_up, "--warm-up"),
    )


def micros(option: str, text: str | None) -> int | None:
    """An ISO 8601 time as microseconds since 1970."""
    return None if text is None else option_us(option, text)


def _settings(request: Request) -> list[tuple[str, Config, str | None]]:
    config = configs.load(request.config)
    first = "candidate" if request.against else "setting"
    found = [(first, _changed(config, request), request.model)]
    if request.against == "live":
        found.append(("against", config, None))
    elif request.against is not None and "@" in request.against and not Path(request.against).exists():
        found.append(("against", config, request.against))
    elif request.against is not None:
        found.append(("against", configs.load(_config_of(request.against)), None))
    return found


def _changed(config: Config, request: Request) -> Config:
    changed = config
    if request.policy is not None:
        changed = msgspec.structs.replace(changed, policy=PolicySettings(file=str(request.policy.resolve())))
    if request.definitions is not None:
        project = msgspec.structs.replace(changed.project, definitions=str(request.definitions.resolve()))
        changed = msgspec.structs.replace(changed, project=project)
    return changed


def _config_of(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise ConfigurationError(
            f"--against {text}: expected `live`, NAME@VERSION, or the settings file of another project"
        )
    return path / "riskstream.toml" if path.is_dir() else path


def _side(name: str, config: Config, model: str | None, lane: Lane, files: Mapping[str, str]) -> Side:
    plan = lane.plan
    routes = dict(config.models.routes)
    if model is not None:
        source, _, reference = model.rpartition("=")
        routes[source or _only_source(plan)] = reference
    config = msgspec.structs.replace(config, models=msgspec.structs.replace(config.models, routes=routes))
    policy = build.make_policy(config, plan)
    tables = FrameProfiles(plan, {name: read_frame(file) for name, file in files.items()})
    scorer = Scorer(lane.engine, policy, build.load_models(config, plan), tables, "replay")
    models = {source: f"{one.version.name}@{one.version.version}" for source, one in scorer.routes.items()}
    return Side(Setting(name, models, policy.version, plan.fingerprint), scorer, policy)


def _only_source(plan: Plan) -> str:
    if len(plan.readers) != 1:
        raise ConfigurationError(
            f"--model: sources {', '.join(plan.readers)} are scored; write SOURCE=NAME@VERSION"
        )
    return next(iter(plan.readers))


def _profile_files(config: Config, plan: Plan, request: Request) -> dict[str, str]:
    files = {name: config.resolve(one.file) for name, one in config.profiles.items()} | dict(request.profiles)
    needed = {profile.name for reader in plan.readers.values() for profile in reader.profiles}
    missing = sorted(needed - set(files))
    if missing:
        raise ConfigurationError(
            f"profiles.{missing[0]}.file is not set; give it, or --profile {missing[0]}=FILE"
        )
    return {name: files[name] for name in sorted(needed)}
