"""The tables of `riskstream.toml`, one structure each.

docs/reference/settings.md is generated from this file: the docstrings hold one line a setting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from stream.settings.service import ApiSettings

Positive = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Ratio = Annotated[float, Meta(gt=0.0, le=1.0)]
Properties = dict[str, str | int | float | bool]


class Project(Struct, frozen=True, kw_only=True):
    """What the project is.

    name: Name of the project; the consumer group when `kafka.group_id` is not given.
    definitions: Python file with the `definitions` of sources, entities and features.
    """

    name: Annotated[str, Meta(min_length=1)] = "riskstream"
    definitions: str = "definitions.py"


class Kafka(Struct, frozen=True, kw_only=True):
    """Brokers and clients.

    bootstrap_servers: Brokers, as `host:port,host:port`.
    group_id: Consumer group; also the prefix of transactional ids. Default: `project.name`.
    properties: librdkafka properties of all clients, passed through: TLS, SASL, ...
    consumer: librdkafka properties of consumers only.
    producer: librdkafka properties of producers only.
    """

    bootstrap_servers: Annotated[str, Meta(min_length=1)] = "localhost:9092"
    group_id: str = ""
    properties: Properties = {}
    consumer: Properties = {}
    producer: Properties = {}

    def client_properties(self) -> Properties:
        """What every client of these brokers needs."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.properties}

    def __repr__(self) -> str:
        return f"Kafka(bootstrap_servers={self.bootstrap_servers!r}, group_id={self.group_id!r}, ...)"


class Sentinel(Struct, frozen=True, kw_only=True):
    """Redis found through Sentinel.

    service: Name of the monitored primary.
    nodes: Sentinels, as `host:port`.
    """

    service: str
    nodes: Annotated[list[str], Meta(min_length=1)]


class Redis(Struct, frozen=True, kw_only=True):
    """Where state is kept: one of a single server, Sentinel or Cluster.

    url: One server: `redis://host:port/db`, `rediss://` for TLS, `unix:///path`; `memory://` keeps nothing.
    sentinel: Table with the sentinels; replaces `url`.
    cluster: Nodes of a cluster to start from, as `host:port`; replaces `url`.
    namespace: Prefix of all keys; other definitions need another one. Default: `project.name`.
    username: ACL user.
    password: Password; from the environment: `"${REDIS_PASSWORD}"`.
    password_file: File with the password, read at every connection so that it can be rotated.
    tls: Encrypt connections (implied by `rediss://`).
    tls_ca_file: Authorities to trust; default: the system's.
    tls_cert_file: Certificate of this client.
    tls_key_file: Key of this client.
    timeout_ms: How long one command may take.
    """

    url: str = "redis://localhost:6379/0"
    sentinel: Sentinel | None = None
    cluster: list[str] = []
    namespace: str = ""
    username: str = ""
    password: str = ""
    password_file: str = ""
    tls: bool = False
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    timeout_ms: Positive = 5000

    def __repr__(self) -> str:
        return f"Redis(namespace={self.namespace!r}, ...)"


class Topics(Struct, frozen=True, kw_only=True):
    """Where results go. Input topics are named by the sources.

    alerts: Alerts: review or decline.
    decisions: Every decision; nothing is written when empty.
    dead_letters: Events that cannot be used.
    journal: One record a unit of work, for exact replay; nothing is written when empty.
    """

    alerts: Annotated[str, Meta(min_length=1)] = "alerts"
    decisions: str = ""
    dead_letters: Annotated[str, Meta(min_length=1)] = "dead-letters"
    journal: str = ""


class Models(Struct, frozen=True, kw_only=True):
    """Which models score what.

    registry: Directory or object-store URL of the model registry.
    routes: Source to model, as `NAME@ALIAS` or `NAME@VERSION`; rules alone decide a source without one.
    shadow: Source to a challenger that scores beside, for comparison only.
    trusted_keys: Public keys whose signatures count: PEM files, or `env:NAME`.
    allow_unsigned: Names of models that may come without a signature.
    allow_protected: Protected attributes that may be model inputs all the same.
    decryption_key: Key of encrypted bundles: file with 64 hex digits, or `env:NAME`.
    poll_ms: How often aliases are looked up, so that a promotion takes effect; 0 never.
    """

    registry: str = "registry"
    routes: dict[str, str] = {}
    shadow: dict[str, str] = {}
    trusted_keys: list[str] = []
    allow_unsigned: list[str] = []
    allow_protected: list[str] = []
    decryption_key: str = ""
    poll_ms: Whole = 1000


class PolicySettings(Struct, frozen=True, kw_only=True):
    """How scores become decisions.

    file: Policy file: thresholds, rules, suppression, reasons.
    """

    file: str = "policy.toml"


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """How the worker runs.

    delivery: `exactly_once` (a transaction a batch) or `at_least_once` (quicker; a crash repeats alerts).
    ordinal: Number of this worker among those of the group, kept over restarts; makes its transactional id.
    start: Where a group without offsets begins: `earliest` or `latest`.
    batch_size: Most events of one unit of work.
    linger_ms: How long to wait for more while events wait for a slower partition; in the Faust face, for a batch.
    order_wait_ms: How long to wait for a silent partition so that inputs are merged by event time.
    shards: Shards of the state in Redis; changing it starts a new namespace.
    memory_limit_mb: Cache of state in this worker.
    pending_limit_mb: Committed state not yet in Redis; at the limit consuming stops.
    flush_interval_ms: How often state is flushed at the latest.
    foreign_max_age_ms: Age at which another worker's state is read again, or else flagged as stale.
    on_redis_loss: `wait`, or `degrade`: go on with the state at hand, flagged in every decision.
    max_value_bytes: Values of this size or more are dead-lettered unread.
    dead_letter_ratio: Stop when more than this share of a window of events was dead-lettered.
    dead_letter_window: How many events that window holds.
    dead_letter_consecutive: Stop after so many dead letters without a good event between them; 0 never.
    log_interval_s: Seconds between two progress lines in the log.
    metrics_host: Address that serves /metrics.
    metrics_port: Port that serves /metrics; 0 serves none.
    """

    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    ordinal: Whole = 0
    start: Literal["earliest", "latest"] = "earliest"
    batch_size: Positive = 4000
    linger_ms: Whole = 5
    order_wait_ms: Whole = 0
    shards: Annotated[int, Meta(ge=1, le=16384)] = 16
    memory_limit_mb: Positive = 1024
    pending_limit_mb: Positive = 64
    flush_interval_ms: Annotated[int, Meta(ge=1, le=2000)] = 1000
    foreign_max_age_ms: Positive = 5000
    on_redis_loss: Literal["wait", "degrade"] = "wait"
    max_value_bytes: Positive = 1 << 20
    dead_letter_ratio: Ratio = 0.5
    dead_letter_window: Positive = 10_000
    dead_letter_consecutive: Whole = 1000
    log_interval_s: Annotated[float, Meta(gt=0)] = 10.0
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0


class ProfileFile(Struct, frozen=True, kw_only=True):
    """One profile's data.

    file: CSV or Parquet that `riskstream profiles load` reads.
    """

    file: str


class Settings(Struct, frozen=True, kw_only=True):
    """All tables of `riskstream.toml`. `train` is read by `stream.settings.training`, where training is wanted."""

    project: Project = Project()
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    topics: Topics = Topics()
    models: Models = Models()
    policy: PolicySettings = PolicySettings()
    worker: WorkerSettings = WorkerSettings()
    profiles: dict[str, ProfileFile] = {}
    train: dict[str, Any] = {}
    api: ApiSettings = ApiSettings()
