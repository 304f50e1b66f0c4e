"""The settings of a backtest as scorers, grouped by the features that they read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.project import load_definitions
from features.engine.engine import FeatureEngine
from features.offline.recorded import read_frame
from features.profiles.joins import FrameProfiles
from stream.project import build
from stream.replay.backtest.request import SHARDS, BacktestRequest, Setting
from stream.replay.backtest.scoring import SettingGroup, SettingScorer
from stream.scoring.scorer import Scorer
from stream.settings import config as configs
from stream.settings.config import Config
from stream.settings.tables import PolicySettings


def setting_groups(request: BacktestRequest) -> list[SettingGroup]:
    """The candidate and, where asked for, what it is compared with, in this order."""
    groups: dict[object, SettingGroup] = {}
    for name, config, model in _settings(request):
        plan = compile_plan(load_definitions(config.resolve(config.project.definitions)))
        files = _profile_files(config, plan, request)
        alike = (plan.fingerprint, tuple(sorted(files.items())))
        if alike not in groups:
            groups[alike] = SettingGroup(len(groups), FeatureEngine(plan, shards=SHARDS))
        group = groups[alike]
        group.sides.append(_side(name, config, model, group, files))
    return list(groups.values())


def _settings(request: BacktestRequest) -> list[tuple[str, Config, str | None]]:
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


def _changed(config: Config, request: BacktestRequest) -> Config:
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


def _side(
    name: str, config: Config, model: str | None, group: SettingGroup, files: Mapping[str, str]
) -> SettingScorer:
    plan = group.plan
    routes = dict(config.models.routes)
    if model is not None:
        source, _, reference = model.rpartition("=")
        routes[source or _only_source(plan)] = reference
    config = msgspec.structs.replace(config, models=msgspec.structs.replace(config.models, routes=routes))
    policy = build.make_policy(config, plan)
    tables = FrameProfiles(plan, {name: read_frame(file) for name, file in files.items()})
    scorer = Scorer(group.engine, policy, build.load_models(config, plan), tables, "replay")
    models = {source: f"{one.version.name}@{one.version.version}" for source, one in scorer.routes.items()}
    return SettingScorer(Setting(name, models, policy.version, plan.fingerprint), scorer, policy)


def _only_source(plan: Plan) -> str:
    if len(plan.readers) != 1:
        raise ConfigurationError(
            f"--model: sources {', '.join(plan.readers)} are scored; write SOURCE=NAME@VERSION"
        )
    return next(iter(plan.readers))


def _profile_files(config: Config, plan: Plan, request: BacktestRequest) -> dict[str, str]:
    files = {name: config.resolve(one.file) for name, one in config.profiles.items()} | dict(request.profiles)
    needed = {profile.name for reader in plan.readers.values() for profile in reader.profiles}
    missing = sorted(needed - set(files))
    if missing:
        raise ConfigurationError(
            f"profiles.{missing[0]}.file is not set; give it, or --profile {missing[0]}=FILE"
        )
    return {name: files[name] for name in sorted(needed)}
