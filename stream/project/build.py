"""Builds the parts of a project from its settings: the one place where everything meets.

Every face (worker, HTTP, backtest, Faust, demo) calls these functions, so that all of them score alike.
Imports that cost much happen inside the functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.project import load_definitions
from features.definitions.spec import Source
from stream.codecs.decoder import Decoder
from stream.codecs.json import JsonDecoder
from stream.settings.config import Config

if TYPE_CHECKING:
    from features.profiles.joins import ProfileTable
    from features.store.base import ProfileStore, Store
    from models.bundles.bundle import LoadedModel
    from models.bundles.signing import Trust
    from models.core.base import Model
    from models.decision.decisions import Mode
    from models.decision.policy import Policy
    from stream.scoring.scorer import Scorer
    from stream.scoring.swap import Watched


def make_plan(config: Config) -> Plan:
    """The project's definitions, compiled."""
    file = _file(
        config, "project.definitions", config.project.definitions, "the Python file that sets `definitions`"
    )
    return compile_plan(load_definitions(file))


def make_decoders(config: Config, plan: Plan) -> dict[str, Decoder]:
    """A decoder for each source, by topic; two sources cannot share one."""
    out: dict[str, Decoder] = {}
    for source in plan.sources.values():
        if source.topic in out:
            other = out[source.topic].source.name
            fix = "give each its own topic"
            raise ConfigurationError(
                f"sources `{other}` and `{source.name}` both read topic {source.topic!r}; {fix}"
            )
        out[source.topic] = _json_decoder(config, plan, source)
    return out


def make_json_decoders(config: Config, plan: Plan) -> dict[str, Decoder]:
    """A decoder of JSON for each source, by name: for events that come over HTTP, whatever their topic holds."""
    return {name: _json_decoder(config, plan, source) for name, source in plan.sources.items()}


def _json_decoder(config: Config, plan: Plan, source: Source) -> JsonDecoder:
    keys = {column for group in plan.groups if group.source == source.name for column in group.key_columns}
    if source.name in plan.readers:
        for columns in plan.readers[source.name].entity_keys.values():
            keys.update(columns)
    return JsonDecoder(source, identifiers=keys, max_bytes=config.worker.max_value_bytes)


def make_store(config: Config) -> Store:
    """Where state is kept. Connects at first use."""
    redis = config.redis
    if redis.url.startswith("memory://"):
        from features.store.memory import MemoryStore

        return MemoryStore(shards=config.worker.shards)
    from features.store.redis_settings import RedisSettings
    from features.store.redis_store import RedisStore

    elsewhere = redis.sentinel is not None or bool(redis.cluster)
    settings = RedisSettings(
        url=None if elsewhere else redis.url,
        sentinels=() if redis.sentinel is None else tuple(redis.sentinel.nodes),
        service="" if redis.sentinel is None else redis.sentinel.service,
        cluster=tuple(redis.cluster),
        namespace=redis.namespace or config.project.name,
        username=redis.username or None,
        password=redis.password or None,
        password_file=_path(config, redis.password_file),
        tls=redis.tls,
        tls_ca_file=_path(config, redis.tls_ca_file),
        tls_cert_file=_path(config, redis.tls_cert_file),
        tls_key_file=_path(config, redis.tls_key_file),
        timeout_s=redis.timeout_ms / 1000,
    )
    return RedisStore(settings, shards=config.worker.shards)


def make_trust(config: Config) -> Trust:
    """Whose signatures on models count."""
    from models.bundles.signing import trust

    return trust(
        keys=[config.resolve(key) for key in config.models.trusted_keys],
        allow_unsigned=config.models.allow_unsigned,
        allow_protected=config.models.allow_protected,
        decryption_key=config.resolve(config.models.decryption_key) if config.models.decryption_key else None,
    )


def make_watched(config: Config, plan: Plan, routes: dict[str, str]) -> Watched:
    """What a swapper looks at: the models of these routes and the policy."""
    from models.bundles.registry import Registry
    from stream.scoring.swap import Watched

    return Watched(
        registry=Registry(config.resolve(config.models.registry)),
        routes=routes,
        trust=make_trust(config),
        plan=plan,
        policy_file=config.resolve(config.policy.file),
    )


def load_model(config: Config, plan: Plan, reference: str) -> LoadedModel:
    """A model of the registry by `NAME@ALIAS` or `NAME@VERSION`, verified; refused ones raise."""
    from models.bundles import bundle
    from models.bundles.registry import Registry

    version = Registry(config.resolve(config.models.registry)).resolve(reference)
    identity = bundle.Identity(name=version.name, version=version.version)
    return bundle.load(version.path, make_trust(config), plan, identity=identity)


def load_models(config: Config, plan: Plan) -> dict[str, Model]:
    """The model of each routed source."""
    for source in config.models.routes:
        if source not in plan.readers:
            known = ", ".join(sorted(plan.readers)) or "none"
            raise ConfigurationError(
                f"{config.path}: models.routes.{source}: no scored source; known: {known}"
            )
    return {source: _routed(config, plan, source, model) for source, model in config.models.routes.items()}


def _routed(config: Config, plan: Plan, source: str, reference: str) -> Model:
    try:
        return load_model(config, plan, reference)
    except ConfigurationError as error:
        fix = "`riskstream model list` shows what there is, `riskstream train` and `riskstream model import` add"
        raise ConfigurationError(f"{config.path}: models.routes.{source}: {error}; {fix}") from error


def make_policy(config: Config, plan: Plan) -> Policy:
    """The project's policy file, checked against the plan."""
    from models.decision.policy import load_policy

    return load_policy(_file(config, "policy.file", config.policy.file, "your policy"), plan)


def make_profiles(plan: Plan, store: ProfileStore) -> ProfileTable:
    """Profiles as `riskstream profiles load` left them in the store."""
    from features.profiles.joins import StoredProfiles

    return StoredProfiles(plan, store)


def make_scorer(config: Config, plan: Plan, store: ProfileStore, mode: Mode = "live") -> Scorer:
    """An engine without state yet, and models, policy and profiles as the settings name them."""
    from features.engine.engine import FeatureEngine
    from stream.scoring.scorer import Scorer

    return Scorer(
        FeatureEngine(plan, shards=config.worker.shards),
        make_policy(config, plan),
        load_models(config, plan),
        make_profiles(plan, _optional(store) if config.worker.on_redis_loss == "degrade" else store),
        mode,
    )


def _optional(store: ProfileStore) -> ProfileStore:
    from features.store.optional import OptionalProfiles

    return OptionalProfiles(store)


def _file(config: Config, setting: str, name: str, what: str) -> str:
    path = config.resolve(name)
    if not Path(path).is_file():
        raise ConfigurationError(f"{config.path}: {setting}: {path} does not exist; name {what}")
    return path


def _path(config: Config, name: str) -> str | None:
    return config.resolve(name) if name else None
