"""Dead letters travel whole, and too many of them stop the worker."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.core.errors import FatalError
from stream.codecs.contracts import DeadLetter
from stream.codecs.dead_letters import DlqLimit, from_record, to_record

nullable = st.none() | st.binary(max_size=20)
headers = st.lists(st.tuples(st.text(max_size=5), nullable), max_size=3)


def letter(**changes: object) -> DeadLetter:
    made: dict[str, Any] = {
        "source": "payments",
        "stage": "decode",
        "path": "$.amount",
        "reason": 'expected number, got "4000-1234"',
        "topic": "transactions",
        "partition": 3,
        "offset": 18234,
        "timestamp_ms": 1_700_000_000_000,
        "key": b"k",
        "value": b"\xff",
        "headers": [("traceparent", b"00-1")],
    }
    return DeadLetter(**{**made, **changes})


@given(nullable, nullable, headers, st.text(max_size=20).filter(lambda text: text.isprintable()))
def test_a_letter_comes_back_as_it_went(key, value, own, reason):
    sent = letter(key=key, value=value, headers=own, reason=reason)
    record = to_record(sent)
    assert (record.key, record.value) == (key, value)
    assert from_record(*record) == sent


def test_a_second_failure_replaces_what_was_said_of_the_first():
    again = letter(headers=to_record(letter()).headers, offset=99)
    back = from_record(*to_record(again))
    assert back is not None
    assert (back.offset, back.headers) == (99, [("traceparent", b"00-1")])


def test_other_records_are_no_dead_letters():
    assert from_record(b"k", b"v", None) is None
    assert from_record(b"k", b"v", [("riskstream-source", b"s")]) is None
    broken = [(n, b"x" if n == "riskstream-offset" else v) for n, v in to_record(letter()).headers]
    assert from_record(b"k", b"v", broken) is None


def test_a_value_too_long_for_the_topic_is_cut_and_says_so():
    value = random.Random(1).randbytes(100_000)
    record = to_record(letter(value=value), room=60_000)
    assert record.value == value[: len(record.value or b"")]
    assert 40_000 < len(record.value) < 60_000
    back = from_record(*record)
    assert back is not None
    assert ("riskstream-truncated", b"100000") in back.headers


def test_a_long_value_that_compresses_stays_whole():
    assert to_record(letter(value=b"x" * 100_000), room=60_000).value == b"x" * 100_000


def test_many_in_a_row_stop_without_telling_values():
    limit = DlqLimit(ratio=1.0, window=10**9, consecutive=5)
    limit.check(0, [letter()] * 4)
    limit.check(1, [letter()] * 4)
    limit.check(0, [letter()] * 4)
    with pytest.raises(FatalError) as caught:
        limit.check(0, [letter()])
    said = str(caught.value)
    assert "5 events in a row could not be used" in said
    assert "transactions[3]@18234 $.amount: expected number" in said
    assert "worker.dead_letter_consecutive" in said
    assert "4000" not in said


def test_a_ratio_over_the_window_stops():
    limit = DlqLimit(ratio=0.1, window=100, consecutive=0)
    for _ in range(20):
        limit.check(9, [letter()])
    limit.check(9, [letter()])
    with pytest.raises(FatalError, match=r"11 of the last 100 events.*dead_letter_ratio"):
        for _ in range(2):
            limit.check(8, [letter()] * 2)


def test_a_few_at_the_start_are_not_a_ratio():
    limit = DlqLimit(ratio=0.1, window=100, consecutive=0)
    limit.check(0, [letter()] * 99)
