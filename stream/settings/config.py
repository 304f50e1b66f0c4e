"""Settings of a project: `riskstream.toml`, read once, typed and frozen.

The tables are in stream/settings/tables.py. Secrets come from the environment (`"${NAME}"`) or from files
(`password_file`; any Kafka property ending in `_file`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from features.core.errors import ConfigurationError
from features.core.toml import convert, read_secret, read_toml
from stream.settings.service import check_api
from stream.settings.tables import Kafka, Models, Properties, Settings, Topics


class Config(Settings, frozen=True, kw_only=True):
    """Settings and the file they came from; paths in it are relative to that file."""

    path: Path

    @property
    def root(self) -> Path:
        """The project's directory."""
        return self.path.parent

    def resolve(self, name: str) -> str:
        """A path of the settings as an absolute one; URLs and `env:` references stay."""
        if "://" in name or name.startswith("env:"):
            return name
        return str((self.root / Path(name).expanduser()).resolve())


def load(path: Path | str = "riskstream.toml") -> Config:
    """Read and check a settings file; ConfigurationError names the setting and the fix."""
    file = Path(path)
    if not file.exists():
        fix = "name the settings file by --config, or make a project with `riskstream init DIR`"
        raise ConfigurationError(f"{file}: there is no such file; {fix}")
    settings = convert(read_toml(file), Settings, file)
    settings = msgspec.structs.replace(settings, kafka=_kafka(settings, file))
    _check(settings, file)
    return Config(
        path=file.resolve(), **{name: getattr(settings, name) for name in settings.__struct_fields__}
    )


def _kafka(settings: Settings, file: Path) -> Kafka:
    kafka = settings.kafka
    return msgspec.structs.replace(
        kafka,
        group_id=kafka.group_id or settings.project.name,
        properties=_with_secrets(kafka.properties, file, "kafka.properties"),
        consumer=_with_secrets(kafka.consumer, file, "kafka.consumer"),
        producer=_with_secrets(kafka.producer, file, "kafka.producer"),
    )


def _with_secrets(properties: Properties, file: Path, table: str) -> Properties:
    """`"sasl.password_file" = "f"` becomes `sasl.password` with the file's text."""
    out: Properties = {}
    for name, value in properties.items():
        if name.endswith("_file"):
            out[name.removesuffix("_file")] = read_secret(file, f"{table}.{name}", str(value))
        else:
            out[name] = value
    return out


def _check(settings: Settings, file: Path) -> None:
    check_api(settings.api, file)
    _check_topics(settings.topics, file)
    _check_routes(settings.models, file)
    redis = settings.redis
    if redis.password_file:
        read_secret(file, "redis.password_file", redis.password_file)
    if redis.sentinel is not None and redis.cluster:
        raise ConfigurationError(f"{file}: redis.sentinel and redis.cluster exclude each other; keep one")
    schemes = ("redis://", "rediss://", "unix://", "memory://")
    if not redis.url.startswith(schemes):
        raise ConfigurationError(
            f"{file}: redis.url: expected one of {', '.join(schemes)}; write redis://host:port/0"
        )


def _check_topics(topics: Topics, file: Path) -> None:
    named: dict[str, str] = {}
    for setting in ("alerts", "decisions", "dead_letters", "journal"):
        topic = getattr(topics, setting)
        if topic and topic in named:
            raise ConfigurationError(f"{file}: topics.{setting} and topics.{named[topic]} are both {topic!r}")
        named[topic] = setting


def _check_routes(models: Models, file: Path) -> None:
    for setting, routes in (("routes", models.routes), ("shadow", models.shadow)):
        for source, model in routes.items():
            name, _, alias = model.partition("@")
            if not name or not alias:
                fix = "write NAME@ALIAS or NAME@VERSION, such as fraud@champion"
                raise ConfigurationError(
                    f"{file}: models.{setting}.{source}: {model!r} names no version; {fix}"
                )
