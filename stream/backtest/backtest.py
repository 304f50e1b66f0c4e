"""The command `riskstream backtest`: settings to scorers, inputs to batches, decisions to a report."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from features.batch import MicroBatch
from features.compile import compile_plan
from features.durations import parse_duration
from features.engine import FeatureEngine
from features.errors import ConfigurationError
from features.frames import scan
from features.materialize import batches
from features.plan import Plan
from features.profiles import FrameProfiles
from features.project import load_definitions
from stream import build
from stream import config as configs
from stream.backtest.figures import Figures, Setting, figures
from stream.backtest.recorded import with_labels
from stream.backtest.run import Progress, Side, Span, decisions_of, run
from stream.config import Config
from stream.scorer import Scorer

KAFKA = "kafka:"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to run. `inputs` are `SOURCE=FILE` or `kafka:TOPIC`; times are ISO 8601, UTC where they name no zone."""

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
    keep_work: bool = False
    segment_by: tuple[str, ...] = ()
    review_cost: float = 0.0
    with_features: bool = False
    profiles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Figures a scored source, and the decisions of each setting by its name."""

    figures: list[Figures]
    decisions: dict[str, pl.DataFrame]
    complete: bool


def backtest(request: Request, progress: Progress | None = None) -> Result:
    """Run and compare. Blocks until done; Ctrl-C gives what is done, and the same request goes on from there."""
    sides = _sides(request)
    plan = sides[0].scorer.plan
    with _opened(request, plan) as (feed, total):
        ran = run(
            feed, sides, _span(request), total=total, progress=progress, with_features=request.with_features
        )
    decisions = {side.setting.name: with_labels(decisions_of(side), ran.labels) for side in sides}
    sources = decisions[sides[0].setting.name]["source"].unique().sort().to_list()
    found = [
        figures(
            source,
            [side.setting for side in sides],
            [frame.filter(pl.col("source") == source) for frame in decisions.values()],
            segment_by=request.segment_by,
            complete=ran.complete,
            review_cost=request.review_cost,
        )
        for source in sources
    ]
    if ran.complete and not request.keep_work:
        shutil.rmtree(request.work, ignore_errors=True)
    return Result(found, decisions, ran.complete)


def _sides(request: Request) -> list[Side]:
    config = configs.load(request.config)
    candidate = _changed(config, request)
    settings = {"candidate" if request.against else "setting": (candidate, request.model)}
    if request.against is not None:
        other = config if request.against == "live" else configs.load(_config_of(request.against))
        settings["against"] = (other, None)
    sides = [_side(name, one, model, request) for name, (one, model) in settings.items()]
    _check_work(request, sides)
    return sides


def _changed(config: Config, request: Request) -> Config:
    changed = config
    if request.policy is not None:
        changed = msgspec.structs.replace(
            changed, policy=configs.PolicySettings(file=str(request.policy.resolve()))
        )
    if request.definitions is not None:
        project = msgspec.structs.replace(changed.project, definitions=str(request.definitions.resolve()))
        changed = msgspec.structs.replace(changed, project=project)
    return changed


def _config_of(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise ConfigurationError(f"--against {text}: expected `live` or the settings file of another project")
    return path / "riskstream.toml" if path.is_dir() else path


def _side(name: str, config: Config, model: str | None, request: Request) -> Side:
    plan = compile_plan(load_definitions(config.resolve(config.project.definitions)))
    routes = dict(config.models.routes)
    if model is not None:
        source, _, reference = model.rpartition("=")
        routes[source or _only_source(plan)] = reference
    config = msgspec.structs.replace(config, models=msgspec.structs.replace(config.models, routes=routes))
    scorer = Scorer(
        FeatureEngine(plan),
        build.make_policy(config, plan),
        build.load_models(config, plan),
        _profiles(config, plan, request),
        "replay",
    )
    models = {source: f"{one.version.name}@{one.version.version}" for source, one in scorer.routes.items()}
    setting = Setting(name, models, scorer.policy.version, plan.fingerprint)  # type: ignore[attr-defined]
    return Side(setting, scorer, request.work / name)


def _only_source(plan: Plan) -> str:
    if len(plan.readers) != 1:
        raise ConfigurationError(
            f"--model: sources {', '.join(plan.readers)} are scored; write SOURCE=NAME@VERSION"
        )
    return next(iter(plan.readers))


def _profiles(config: Config, plan: Plan, request: Request) -> FrameProfiles:
    files = {name: config.resolve(one.file) for name, one in config.profiles.items()} | dict(request.profiles)
    needed = {profile.name for reader in plan.readers.values() for profile in reader.profiles}
    missing = sorted(needed - set(files))
    if missing:
        raise ConfigurationError(
            f"profiles.{missing[0]}.file is not set; give it, or --profile {missing[0]}=FILE"
        )
    return FrameProfiles(plan, {name: scan(files[name]).collect() for name in needed})


def _check_work(request: Request, sides: Sequence[Side]) -> None:
    """A working folder of another run is refused: its decisions are not ours."""
    mark = request.work / "request.json"
    said = msgspec.json.encode([
        [side.setting for side in sides], list(request.inputs), request.start, request.end, request.warm_up,
    ])  # fmt: skip
    if mark.exists() and mark.read_bytes() != said:
        raise ConfigurationError(
            f"{request.work} holds another interrupted run; remove it, or choose another --work"
        )
    request.work.mkdir(parents=True, exist_ok=True)
    mark.write_bytes(said)


@contextmanager
def _opened(request: Request, plan: Plan) -> Iterator[tuple[Iterable[MicroBatch], int]]:
    kafka = [text.removeprefix(KAFKA) for text in request.inputs if text.startswith(KAFKA)]
    files = [text for text in request.inputs if not text.startswith(KAFKA)]
    if kafka and files:
        raise ConfigurationError("--input: files and topics cannot be mixed in one run")
    if files:
        pairs = dict(text.partition("=")[::2] for text in files)
        wrong = [text for text in files if "=" not in text]
        if wrong:
            raise ConfigurationError(f"--input {wrong[0]}: expected SOURCE=FILE or kafka:TOPIC")
        missing = [path for path in pairs.values() if "*" not in path and not Path(path).exists()]
        if missing:
            raise ConfigurationError(f"--input {missing[0]}: no such file")
        scans = {source: scan(path) for source, path in pairs.items()}
        yield batches(plan, scans), sum(int(one.select(pl.len()).collect().item()) for one in scans.values())
        return
    from stream.kafka.range_reader import RangeReader

    config = configs.load(request.config)
    decoders = build.make_decoders(config, plan)
    unknown = [topic for topic in kafka if topic not in decoders]
    if unknown:
        raise ConfigurationError(
            f"--input kafka:{unknown[0]}: no source; topics: {', '.join(sorted(decoders))}"
        )
    reader = RangeReader(config.kafka.client_properties(), {topic: decoders[topic] for topic in kafka})
    try:
        yield reader, reader.total
    finally:
        reader.close()


def _span(request: Request) -> Span:
    return Span(
        _micros("--from", request.start),
        _micros("--to", request.end),
        parse_duration(request.warm_up, "--warm-up"),
    )


def _micros(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{option}: expected a time such as 2026-05-01T12:00:00, got {text!r}"
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)
