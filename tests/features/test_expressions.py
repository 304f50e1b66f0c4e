"""SQL on one event at a time: what it gives, what is refused, and where a message points."""

from __future__ import annotations

import numpy as np
import pytest

from features.core.batch import SourceBatch
from features.core.errors import DefinitionError
from features.definitions.expressions import (
    Conditions,
    check_condition,
    check_value,
    references,
    source_types,
)
from tests.definitions import make_source

SOURCE = make_source(
    "payments",
    {
        "id": "string",
        "at": "timestamp",
        "amount": "float64",
        "items": "int64",
        "shop": "string",
        "declined": "bool",
    },
    optional=("amount", "items", "shop", "declined"),
    topic="p",
)
TYPES = source_types(SOURCE)
MONDAY_6H = 1_522_648_800_000_000  # 2018-04-02 06:00:00 UTC


def batch() -> SourceBatch:
    times = np.array([MONDAY_6H, MONDAY_6H + 3_600_000_000, MONDAY_6H - 86_400_000_000], dtype=np.int64)
    zeros = np.zeros(3, dtype=np.int64)
    return SourceBatch(
        source=SOURCE,
        event_ids=["a", "b", "c"],
        event_time=times,
        received_time=times,
        partition=zeros.astype(np.int32),
        offset=zeros,
        position=np.arange(3, dtype=np.int64),
        columns={
            "id": ["a", "b", "c"],
            "at": times.astype(np.float64),
            "amount": np.array([10.0, np.nan, -1.5]),
            "items": np.array([1.0, 2.0, np.nan]),
            "shop": ["x", None, "it's"],
            "declined": np.array([1.0, 0.0, np.nan]),
        },
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("amount > 0", [1, 0, 0]),
        ("amount IS NULL", [0, 1, 0]),
        ("NOT (amount > 0)", [0, 0, 1]),
        ("declined", [1, 0, 0]),
        ("NOT declined", [0, 1, 0]),
        ("shop = 'it''s'", [0, 0, 1]),
        ("shop IN ('x', 'y') OR items = 2", [1, 1, 0]),
        ("shop LIKE 'it%'", [0, 0, 1]),
        ("amount BETWEEN -2 AND 0", [0, 0, 1]),
        ("EXTRACT(hour FROM event_time) = 6", [1, 0, 1]),
        ("EXTRACT(isodow FROM at) = 7", [0, 0, 1]),
        ("event_time >= TIMESTAMP '2018-04-02 06:30:00'", [0, 1, 0]),
        ("items % 2 = 0", [0, 1, 0]),
        ("COALESCE(items, 7) = 7", [0, 0, 1]),
    ],
)
def test_condition_bits(sql: str, expected: list[int]) -> None:
    check_condition(sql, TYPES, "here")
    assert Conditions(SOURCE, [sql]).bits(batch()).tolist() == expected


def test_each_condition_has_its_bit() -> None:
    bits = Conditions(SOURCE, ["amount > 0", "items = 2", "TRUE"]).bits(batch())
    assert bits.tolist() == [0b101, 0b110, 0b100]


def test_no_condition_and_no_events_give_no_bits() -> None:
    assert Conditions(SOURCE, []).bits(batch()).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("sql", "words", "marked"),
    [
        ("amuont > 3", "did you mean `amount`", "amuont"),
        ("amount > 3 AND shp = 'x'", "did you mean `shop`", "shp"),
        ('shop = "x"', "single quotes", '"x"'),
        ("amount >", "needs a value after it", ">"),
        ("AND amount > 1", "needs a value before it", "AND"),
        ("amount > 1 AND OR declined", "needs a value after it", "AND"),
        ("amount == 1", "write `=`", "=="),
        ("amount shop", "operator is missing", "shop"),
        ("(amount > 1", "never closed", "("),
        ("amount > 1)", "closes nothing", ")"),
        ("shop = 'x", "never closed", "'x"),
        ("fluor(amount) > 1", "did you mean `FLOOR`", "fluor"),
        ("SUM(amount) > 1", "over several events", "SUM"),
        ("ROW_NUMBER() OVER () = 1", "over several events", "ROW_NUMBER"),
        ("(SELECT 1) = 1", "does not belong", "SELECT"),
        ("amount > 1; DROP", "does not belong", ";"),
        ("amount > 1 -- all", "does not belong", "--"),
        ("amount AS a", "only into CAST", "AS"),
        ("CAST(shop AS DOUBLE) > 1", "TRY_CAST", "CAST"),
        ("EXTRACT(fortnight FROM at) = 1", "unknown column `fortnight`", "fortnight"),
        ("", "is empty", ""),
    ],
)
def test_a_message_points_at_the_word(sql: str, words: str, marked: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_condition(sql, TYPES, "views.v.where")
    assert caught.value.path == "views.v.where"
    reason, line, marks = caught.value.reason.split("\n")
    assert words in reason
    assert line == f"    {sql}"
    start = marks.index("^")
    assert line[start : len(marks)] == marked


@pytest.mark.parametrize("sql", ["shop > 3", "shop * 2 > 1", "amount = 'x'", "LN(shop) > 1", "shop ~ shop"])
def test_wrong_types_are_refused_at_load(sql: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_condition(sql, TYPES, "here")
    assert "^" in caught.value.reason


def test_the_line_of_a_long_expression_is_shown() -> None:
    with pytest.raises(DefinitionError) as caught:
        check_condition("amount > 1\n  AND amuont < 3\n  AND declined", TYPES, "here")
    assert caught.value.reason.endswith("      AND amuont < 3\n          ^^^^^^")


def test_values_are_numbers_or_texts() -> None:
    assert check_value("UPPER(shop)", TYPES, "here")
    assert not check_value("amount * 2", TYPES, "here")
    assert not check_value("amount > 2", TYPES, "here")
    with pytest.raises(DefinitionError, match="expected a number or a text, got a time"):
        check_value("at", TYPES, "here")


def test_references_are_columns_not_texts() -> None:
    assert references("a + \"b\" + LENGTH('c')", "here", ["a", "b", "c", "length"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (" OR ".join(["amount > 1"] * 200), "more than 128 conditions are joined"),
        (" AND ".join(["amount > 1"] * 129), "more than 128 conditions are joined"),
        ("NOT " * 1_000 + "declined", "at most 1,000 are taken"),
        ("amount IN (" + ", ".join(map(str, range(600))) + ")", "a list of the policy holds many values"),
        ("(" * 17 + "amount" + ")" * 17 + " > 1", "parentheses stand more than 16 deep"),
        ("ABS(" * 17 + "amount" + ")" * 17 + " > 1", "parentheses stand more than 16 deep"),
        ("shop = '" + "x" * 10_000 + "'", "at most 10,000 are taken"),
        ("LENGTH(RPAD(shop, 2000000000, 'x')) > 1", "a number of at most 1,000"),
        ("LENGTH(LPAD(shop, items, 'x')) > 1", "a number of at most 1,000"),
        ("LENGTH(RPAD(shop, 9 * 999, 'x')) > 1", "a number of at most 1,000"),
    ],
    ids=lambda value: value[:20],
)
def test_what_would_grow_beyond_bounds_is_refused_before_any_engine_sees_it(sql, reason):
    with pytest.raises(DefinitionError, match=reason):
        check_condition(sql, TYPES, "rule")


@pytest.mark.parametrize(
    "sql",
    [
        " OR ".join(["amount > 1"] * 128),
        "amount IN (" + ", ".join(map(str, range(490))) + ")",
        "LENGTH(RPAD(CONCAT(shop, 'a,b('), 1000, 'x')) > 1",
    ],
    ids=lambda value: value[:20],
)
def test_what_stays_within_bounds_is_taken(sql):
    check_condition(sql, TYPES, "rule")
