"""The one place that makes Kafka clients: each role's settings, and one line for a property that is wrong.

A client's settings are, each over the one before: what suits its role, `kafka.properties`, `kafka.consumer` or
`kafka.producer`, and what the role cannot do without (for the worker: PROTOCOL 0.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from features.core.errors import ConfigurationError
from stream.kafka.client.errors import kafka_error
from stream.settings.tables import Kafka, Properties

Client = TypeVar("Client")

ConsumerRole = Literal["group", "offsets", "reader", "open_end", "follower", "redrive"]
"""What a consumer is for.

group      a worker: joins `kafka.group_id`
offsets    asks for what `kafka.group_id` has committed; never joins it
reader     reads committed records between given offsets; belongs to no group
open_end   as `reader`, and sees where open transactions end
follower   reads committed records from an offset on, and goes on at the end where retention overtook it
redrive    reads dead letters; its group remembers how many were sent back
"""

ProducerRole = Literal["worker", "side", "tool", "redrive"]
"""What a producer is for.

worker     results of a worker; transactional where it is given a transactional id
side       what may be lost: decisions of challengers
tool       a handful of messages from a command
redrive    sends dead letters back, in transactions
"""

_GROUP_DEFAULTS = {
    # How long a crashed worker holds its partitions; the first alert after a crash comes a little later.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "fetch.wait.max.ms": 100,
    "queued.min.messages": 20_000,
    "fetch.message.max.bytes": 4 << 20,
    # How long librdkafka waits before it looks at a full queue again; its default of a second would stall a backlog.
    "fetch.queue.backoff.ms": 5,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 3,
}
_GROUP_REQUIRED = {
    # PROTOCOL 0.3
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "partition.assignment.strategy": "range",
    "group.protocol": "classic",
}
_READER_REQUIRED = {
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
}
_PRODUCER_DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": 0,
    "queue.buffering.max.messages": 500_000,
    # The brokers judge what is too large, after compression.
    "message.max.bytes": 16_000_000,
    "log_level": 3,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    # While the coordinator completes one transaction it answers the next with CONCURRENT_TRANSACTIONS; with
    # librdkafka's default back-off of 100 ms every transaction would wait that long.
    "retry.backoff.ms": 1,
    "retry.backoff.max.ms": 5,
}


def consumer(kafka: Kafka, role: ConsumerRole, on_commit: Callable[..., None] | None = None) -> Consumer:
    """A consumer of the role; `on_commit` hears of asynchronous commits. ConfigurationError for a bad property."""
    settings = consumer_settings(kafka, role)
    if on_commit is not None:
        settings["on_commit"] = on_commit
    return _connected(Consumer, settings, kafka, "consumer")


def producer(
    kafka: Kafka, role: ProducerRole, transactional_id: str | None = None, message_bytes: int | None = None
) -> Producer:
    """A producer of the role, always idempotent, that takes messages of at most `message_bytes`.

    ConfigurationError for a bad property.
    """
    settings = producer_settings(kafka, role, transactional_id, message_bytes)
    return _connected(Producer, settings, kafka, "producer")


def admin(kafka: Kafka) -> AdminClient:
    """An admin client. ConfigurationError for a bad property."""
    return _connected(AdminClient, {"log_level": 0, **kafka.client_properties()}, kafka, None)


def consumer_settings(kafka: Kafka, role: ConsumerRole) -> dict[str, Any]:
    """librdkafka's settings of a consumer."""
    chosen = {**kafka.client_properties(), **kafka.consumer}
    if role == "group":
        return {**_GROUP_DEFAULTS, **chosen, **_GROUP_REQUIRED, "group.id": kafka.group_id}
    return {
        "log_level": 2,
        **chosen,
        **_READER_REQUIRED,
        "group.id": "riskstream-reader",
        **_own(kafka)[role],
    }


def _own(kafka: Kafka) -> dict[ConsumerRole, dict[str, Any]]:
    """What tells the roles of readers apart."""
    return {
        "reader": {},
        "offsets": {"group.id": kafka.group_id},
        "open_end": {"isolation.level": "read_uncommitted"},
        "follower": {"auto.offset.reset": "latest"},
        "redrive": {"group.id": f"{kafka.group_id}-redrive", "auto.offset.reset": "earliest"},
    }


def producer_settings(
    kafka: Kafka, role: ProducerRole, transactional_id: str | None = None, message_bytes: int | None = None
) -> dict[str, Any]:
    """librdkafka's settings of a producer; `transactional_id` is stable per worker (PROTOCOL 0.3)."""
    required: dict[str, Any] = {"enable.idempotence": True, "acks": "all"}
    if transactional_id is not None:
        required["transactional.id"] = transactional_id
    if transactional_id is not None and role == "worker":
        required["transaction.timeout.ms"] = 10_000
    if message_bytes:
        required["message.max.bytes"] = message_bytes
    quiet = {"log_level": 0} if role in ("tool", "redrive") else {}
    return {**_PRODUCER_DEFAULTS, **quiet, **kafka.client_properties(), **kafka.producer, **required}


def _connected(
    client: Callable[[dict[str, Any]], Client],
    settings: dict[str, Any],
    kafka: Kafka,
    own: Literal["consumer", "producer"] | None,
) -> Client:
    try:
        return client(settings)
    except (KafkaException, TypeError, ValueError) as error:
        tables = {"kafka.properties": kafka.properties}
        if own is not None:  # it counts more, so it is looked at first
            tables = {f"kafka.{own}": getattr(kafka, own), **tables}
        raise ConfigurationError(_bad_property(error, client, settings, tables)) from error


def _bad_property(
    error: Exception,
    client: Callable[[dict[str, Any]], object],
    settings: dict[str, Any],
    tables: Mapping[str, Properties],
) -> str:
    """One line that names table and property."""
    reason = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
    reason = " ".join(reason.split())
    named = [(table, name) for table, properties in tables.items() for name in properties]
    for table, name in named:
        if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", reason):
            return f"{table}: {name}: {reason}. Fix: correct or remove this property."
    for table, name in named:  # librdkafka says another name, an alias of it, or none
        with suppress(KafkaException, TypeError, ValueError):
            client({other: value for other, value in settings.items() if other != name})
            return f"{table}: {name}: {reason}. Fix: correct or remove this property."
    return f"{' and '.join(tables)}: the Kafka client does not take these properties together: {reason}"
