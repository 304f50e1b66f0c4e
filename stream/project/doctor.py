"""Looks at everything that a worker needs, and says for each thing what is wrong and how to mend it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from features.core.durations import format_duration
from features.core.errors import RiskstreamError
from features.definitions.plan import Plan
from stream.kafka.client.brokers import OLDEST_CLIENT, Brokers, Topic, client_version
from stream.project import build
from stream.settings.checks import check_tls
from stream.settings.config import Config
from stream.settings.training import check_training

_LIBRARIES = ("riskstream", "confluent-kafka", "redis", "numpy", "numba", "polars", "onnxruntime", "msgspec")
# A dead letter is an event and some headers more.
_LETTER_ROOM = 64 * 1024


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is empty when it is well; `warning` when it is bearable."""

    name: str
    detail: str
    fix: str = ""
    warning: bool = False

    @property
    def well(self) -> bool:
        """Nothing has to be done."""
        return not self.fix or self.warning


def examine(config: Config) -> Iterator[Finding]:
    """Findings in the order in which one would mend them; later ones are left out where they would only follow."""
    yield Finding("versions", ", ".join(_versions()))
    yield from _try("settings", lambda: [_settings(config)])
    plans: list[Plan] = []
    yield from _try("definitions", lambda: _definitions(config, plans))
    if plans:
        plan = plans[0]
        yield from _try("policy", lambda: [_policy(config, plan)])
        yield from _try("models", lambda: _models(config, plan))
    yield from _try("kafka", lambda: _kafka(config, plans[0] if plans else None))
    yield from _try("redis", lambda: [_redis(config, plans[0] if plans else None)])


def missing_topics(config: Config, plan: Plan, brokers: Brokers, partitions: int) -> list[Topic]:
    """Topics that the settings and definitions name and the brokers do not have."""
    known = brokers.topics()
    retention = {"cleanup.policy": "delete"}
    roomy = {"max.message.bytes": str(config.worker.max_value_bytes + _LETTER_ROOM)}
    wanted = [Topic(source.topic, partitions, retention) for source in plan.sources.values()]
    topics = config.topics
    wanted += [Topic(name, partitions) for name in (topics.alerts, topics.decisions, topics.journal) if name]
    wanted.append(Topic(topics.dead_letters, partitions, roomy))
    return [topic for topic in wanted if topic.name not in known]


def create_missing_topics(config: Config, partitions: int) -> list[Topic]:
    """Create the topics that `missing_topics` names, with so many partitions, and return them."""
    brokers = Brokers(config.kafka)
    topics = missing_topics(config, build.make_plan(config), brokers, partitions)
    brokers.create(topics)
    return topics


def _try(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except RiskstreamError as error:
        yield Finding(name, str(error), "see the message")


def _settings(config: Config) -> Finding:
    check_training(config)
    check_tls(config, config.api)
    return Finding("settings", str(config.path))


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    for library in _LIBRARIES:
        try:
            yield f"{library} {version(library)}"
        except PackageNotFoundError:
            yield f"{library} missing"


def _definitions(config: Config, plans: list[Plan]) -> Iterator[Finding]:
    plan = build.make_plan(config)
    build.make_decoders(config, plan)
    plans.append(plan)
    features = sum(len(reader.names) + len(reader.text_names) for reader in plan.readers.values())
    yield Finding("definitions", f"{len(plan.sources)} sources, {features} features, plan {plan.fingerprint}")


def _policy(config: Config, plan: Plan) -> Finding:
    build.make_policy(config, plan)
    return Finding("policy", config.resolve(config.policy.file))


def _models(config: Config, plan: Plan) -> Iterator[Finding]:
    for source in plan.readers:
        if source not in config.models.routes:
            fix = f'train or import a model and name it: [models] routes = {{ {source} = "NAME@champion" }}'
            yield Finding(f"model of {source}", "none: rules alone decide", fix, warning=True)
    for source, model in build.load_models(config, plan).items():
        yield Finding(f"model of {source}", f"{model.version.name} {model.version.version}")


def _kafka(config: Config, plan: Plan | None) -> Iterator[Finding]:
    brokers = Brokers(config.kafka)
    known = brokers.topics()
    yield Finding("kafka", f"{config.kafka.bootstrap_servers} answers, {len(known)} topics")
    if client_version() < OLDEST_CLIENT:
        oldest = ".".join(map(str, OLDEST_CLIENT))
        fix = f"batch consuming has faults before {oldest}: pip install -U confluent-kafka"
        yield Finding("librdkafka", ".".join(map(str, client_version())), fix)
    if plan is None:
        return
    missing = missing_topics(config, plan, brokers, 1)
    for topic in missing:
        fix = "make it, or let `riskstream doctor --create-topics N` make it with N partitions"
        yield Finding(f"topic {topic.name}", "there is no such topic", fix)
    lacking = {topic.name for topic in missing}
    inputs = [source.topic for source in plan.sources.values() if source.topic not in lacking]
    settings = brokers.settings([*inputs, *({config.topics.dead_letters} - lacking)])
    for name in inputs:
        yield _input(name, known[name], settings[name], _horizon(plan, name))
    if config.topics.dead_letters in settings:
        yield _dead_letters(config, settings[config.topics.dead_letters])


def _horizon(plan: Plan, topic: str) -> int:
    """How far back the events of a topic are looked at, in microseconds."""
    names = {source.name for source in plan.sources.values() if source.topic == topic}
    return max((group.horizon for group in plan.groups if group.source in names), default=0)


def _input(name: str, topic: Topic, settings: dict[str, str], horizon: int) -> Finding:
    title = f"topic {name}"
    detail = f"{topic.partitions} partitions"
    if settings.get("cleanup.policy") != "delete":
        fix = "recovery replays the topic, so nothing may be compacted away: set cleanup.policy=delete"
        return Finding(title, f"cleanup.policy is {settings.get('cleanup.policy')}", fix)
    retention = int(settings.get("retention.ms", "-1"))
    if 0 <= retention < horizon // 1000:
        kept = format_duration(retention * 1000)
        fix = f"if Redis is lost, state is rebuilt from the topic: set retention.ms to {horizon // 1000} or more"
        detail = f"keeps {kept}, the longest window is {format_duration(horizon)}"
        return Finding(title, detail, fix, warning=True)
    return Finding(title, detail)


def _dead_letters(config: Config, settings: dict[str, str]) -> Finding:
    room = int(settings.get("max.message.bytes", "0"))
    needed = config.worker.max_value_bytes + _LETTER_ROOM
    title = f"topic {config.topics.dead_letters}"
    if room < needed:
        fix = f"longer dead letters are cut: set max.message.bytes to {needed} or more"
        return Finding(title, f"takes messages up to {room} bytes", fix, warning=True)
    return Finding(title, f"takes messages up to {room} bytes")


def _redis(config: Config, plan: Plan | None) -> Finding:
    store = build.make_store(config)
    try:
        store.check_health()
        manifest = store.manifest()
    finally:
        store.close()
    namespace = config.redis.namespace or config.project.name
    if manifest is None:
        return Finding("redis", f"answers, evicts nothing; namespace {namespace} is empty")
    if plan is not None and manifest.plan != plan.fingerprint:
        fix = "the definitions changed: name another redis.namespace, and state is rebuilt from the topics"
        return Finding("redis", f"namespace {namespace} holds state of plan {manifest.plan}", fix)
    return Finding("redis", f"answers, evicts nothing; namespace {namespace} holds state of this plan")
