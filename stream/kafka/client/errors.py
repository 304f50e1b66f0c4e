"""Sorts every error of the Kafka client by what the loop does about it (DESIGN 7, PROTOCOL 2.5).

fenced         another instance has this worker's name: FencedError
configuration  a topic, a right or a setting is not as it must be: ConfigurationError
fatal          the same will happen again: FatalError
the rest       passes: RetriableError, so abort and recover
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from features.core.errors import ConfigurationError, FatalError, FencedError, RetriableError, RiskstreamError

FENCED = frozenset({
    KafkaError._FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.TRANSACTION_COORDINATOR_FENCED,
})  # fmt: skip

FIXES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic, or correct its name",
    KafkaError._UNKNOWN_TOPIC: "create the topic, or correct its name",
    KafkaError._UNKNOWN_PARTITION: "create the topic anew with the partitions it had",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant this user READ on inputs and WRITE on outputs",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant this user READ on the group `kafka.group_id`",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant this user WRITE on transactional ids of the group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this user IDEMPOTENT_WRITE on the cluster",
    KafkaError._AUTHENTICATION: "correct kafka.properties: user, password, mechanism",
    KafkaError.SASL_AUTHENTICATION_FAILED: "correct kafka.properties: user, password, mechanism",
    KafkaError.UNSUPPORTED_SASL_MECHANISM: "correct kafka.properties: sasl.mechanism",
    KafkaError.ILLEGAL_SASL_STATE: "correct kafka.properties: security.protocol",
    KafkaError._SSL: "correct kafka.properties: ssl.ca.location, ssl.certificate.location",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "raise the broker's transaction.max.timeout.ms to 10000",
    KafkaError.INVALID_SESSION_TIMEOUT: "correct kafka.consumer session.timeout.ms",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "give kafka.group_id to riskstream alone",
    KafkaError.INVALID_GROUP_ID: "correct kafka.group_id",
    KafkaError.GROUP_MAX_SIZE_REACHED: "run fewer workers, or raise the broker's group.max.size",
    KafkaError.UNSUPPORTED_VERSION: "use a broker of version 2.5 or later",
    KafkaError._UNSUPPORTED_FEATURE: "use a broker of version 2.5 or later",
}

PASSING = frozenset({
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
})  # fmt: skip
"""What a consumer reports of troubles that it goes on through by itself."""

FATAL = frozenset({
    KafkaError._FATAL,
    KafkaError._INVALID_ARG,
    KafkaError._READ_ONLY,
    KafkaError._NOT_IMPLEMENTED,
    KafkaError._CRIT_SYS_RESOURCE,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
    KafkaError.SECURITY_DISABLED,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.OFFSET_METADATA_TOO_LARGE,
})  # fmt: skip


def kafka_error(raised: KafkaException | KafkaError) -> KafkaError:
    """The error inside an exception of the client."""
    error = raised.args[0] if isinstance(raised, KafkaException) else raised
    assert isinstance(error, KafkaError)
    return error


def sort(raised: KafkaException | KafkaError, doing: str) -> RiskstreamError:
    """What to raise in place of an error that the client met while `doing` something."""
    error = kafka_error(raised)
    code = error.code()
    text = f"{doing}: {error.str()} ({error.name()})"
    if code in FENCED:
        return FencedError(
            f"{text}: another worker runs with the same worker.ordinal, or this one was paused"
        )
    if code in FIXES:
        return ConfigurationError(f"{text}. Fix: {FIXES[code]}.")
    if code in FATAL:
        return FatalError(text)
    return RetriableError(text)
