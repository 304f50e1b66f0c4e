"""Every error of the client goes to exactly one class."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from features.core.errors import ConfigurationError, FatalError, FencedError, RetriableError
from stream.kafka.client.errors import FATAL, FENCED, FIXES, sort

CODES = sorted(
    {
        value
        for name, value in vars(KafkaError).items()
        if name.lstrip("_").isupper() and isinstance(value, int)
    }
)


def test_no_code_is_in_two_classes() -> None:
    assert not FENCED & FIXES.keys()
    assert not FENCED & FATAL
    assert not FATAL & FIXES.keys()


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_sorted(code: int) -> None:
    error = sort(KafkaException(KafkaError(code)), "testing")
    wanted: type[Exception] = RetriableError
    if code in FENCED:
        wanted = FencedError
    elif code in FIXES:
        wanted = ConfigurationError
    elif code in FATAL:
        wanted = FatalError
    assert type(error) is wanted
    assert str(error).startswith("testing: ")


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError._TIMED_OUT,
        KafkaError._PURGE_QUEUE,
        KafkaError._MSG_TIMED_OUT,
    ],
)
def test_what_passes_is_recovered_from(code: int) -> None:
    assert isinstance(sort(KafkaError(code), "testing"), RetriableError)
