"""Times on the wire."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.core.times import BAD, NULL, TimeFormat, rfc3339

MOMENT = 1_522_540_831_000_000


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("s", 1_522_540_831),
        ("s", 1_522_540_831.0),
        ("ms", 1_522_540_831_000),
        ("us", MOMENT),
        ("ns", MOMENT * 1000 + 999),
        ("iso8601", "2018-04-01T00:00:31Z"),
        ("iso8601", "2018-04-01 02:00:31+02:00"),
        ("iso8601", "20180401T000031"),
        ("%Y-%m-%d %H:%M:%S", "2018-04-01 00:00:31"),
        ("%Y-%m-%d %H:%M:%S", "2018-4-1 0:0:31"),
        ("%Y-%m-%dT%H:%M:%SZ", "2018-04-01T00:00:31Z"),
        ("%d.%m.%Y %H:%M:%S", "01.04.2018 00:00:31"),
        ("%d/%b/%Y:%H:%M:%S %z", "01/Apr/2018:02:00:31 +0200"),
    ],
)
def test_every_format_names_the_same_moment(name, wire):
    assert TimeFormat(name).convert([wire]).tolist() == [MOMENT]


def test_nulls_and_what_is_no_time():
    assert TimeFormat("ms").convert([None, 1, 2.5]).tolist() == [NULL, 1000, 2500]
    assert TimeFormat("iso8601").convert([None, "yesterday", "1970-01-01"]).tolist() == [NULL, BAD, 0]
    wrong = ["2018-W13-7 00:00:31", "2018-04-01T00:00:31", "2018-04-01"]
    assert TimeFormat("%Y-%m-%d %H:%M:%S").convert(wrong).tolist() == [BAD] * 3


@given(st.lists(st.one_of(st.integers(-(10**10), 10**10), st.floats(-1e9, 1e9)), min_size=1))
def test_neighbours_do_not_change_a_time(values):
    together = TimeFormat("s").convert(values).tolist()
    assert together == [TimeFormat("s").convert([value])[0] for value in values]


@given(st.datetimes())
def test_text_comes_back(moment):
    micros = round((moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)
    exact = TimeFormat("iso8601").convert([moment.isoformat()])[0]
    assert abs(int(exact) - micros) <= 64
    assert TimeFormat("iso8601").convert([rfc3339(int(exact))])[0] == exact
