"""The decoder against `json` and a slow, obvious oracle; and every kind of bad input by name."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.core.errors import DefinitionError
from features.definitions.spec import Field, LabelOf, Source
from stream.codecs.json import JsonDecoder
from stream.codecs.messages import RawBatch, RawMessage

T0 = 1_700_000_000_000

SOURCE = Source(
    name="payments",
    topic="transactions",
    event_id="id",
    event_time="at",
    key="card",
    amount="amount",
    event_type="kind",
    event_types=("purchase", "refund"),
    max_age="30d",
    max_ahead="10m",
    fields=(
        Field(name="id", dtype="string"),
        Field(name="at", dtype="timestamp"),
        Field(name="kind", dtype="string"),
        Field(name="amount", dtype="float64", minimum=0),
        Field(name="card", dtype="string", alias="card.number"),
        Field(name="country", dtype="string", alias="card.issuer.country", required=False),
        Field(name="mcc", dtype="int64", required=False),
        Field(name="online", dtype="bool", required=False),
        Field(name="opened", dtype="timestamp", required=False),
    ),
)


def event(**changes: Any) -> dict[str, Any]:
    made = {"id": "t-1", "at": T0, "kind": "purchase", "amount": 12.5, "card": {"number": "c-1"}}
    return {**made, **changes}


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def batch(values: list[bytes | None], key: bytes | None = b"c-1", topic: str = "transactions") -> RawBatch:
    rows = (RawMessage(topic, 3, 18_234 + row, T0, key, value, None) for row, value in enumerate(values))
    return RawBatch.of(topic, rows)


def decode(values: list[bytes | None], source: Source = SOURCE, **options: Any):
    return JsonDecoder(source, **options).decode(batch(values))


def error_of(value: bytes | None, **options: Any) -> str:
    good, letters = decode([value], **options)
    assert len(good) == 0
    return letters[0].error


BAD = {
    "not json": (b"hello", "$: expected JSON, got something else: invalid character (byte 0)"),
    "empty": (b"", "$: expected JSON, got something else: Input data was truncated"),
    "cut": (as_bytes(event())[:-3], "$: expected JSON"),
    "two documents": (as_bytes(event()) * 2, "$: expected JSON"),
    "array": (b"[1]", "$: expected object, got an array"),
    "not UTF-8": (as_bytes(event(id="x")).replace(b"x", b"\xff"), "$: expected UTF-8, got byte 0xff at 8"),
    "not UTF-8 in an unknown field": (as_bytes(event(more="?")).replace(b"?", b"\xff"), "$: expected UTF-8"),
    "wrong type": (as_bytes(event(amount="12,0")), '$.amount: expected number of at least 0, got "12,0"'),
    "wrong type deep inside": (
        as_bytes(event(card={"number": True})),
        "$.card.number: expected text, got true",
    ),
    "object for text": (as_bytes(event(id={})), "$.id: expected text that is not empty, got an object"),
    "missing": (as_bytes({"id": "a"}), "expected a value, but the field is missing"),
    "missing inside": (as_bytes(event(card={})), "$.card.number: expected a value, but the field is missing"),
    "null": (as_bytes(event(amount=None)), "$.amount: expected number of at least 0, got null"),
    "NaN": (as_bytes(event(amount=math.nan)), "$.amount: expected number of at least 0, got NaN"),
    "infinite": (as_bytes(event(amount=-math.inf)), "$.amount: expected number of at least 0, got -Infinity"),
    "overflow": (
        as_bytes(event()).replace(b"12.5", b"1e999"),
        "$.amount: expected number of at least 0, got a number too",
    ),
    "below minimum": (as_bytes(event(amount=-1)), "$.amount: expected number of at least 0, got -1"),
    "fraction for int": (as_bytes(event(mcc=1.5)), "$.mcc: expected whole number within 2**53, got 1.5"),
    "int past 2**53": (as_bytes(event(mcc=2**53 + 1)), "$.mcc: expected whole number within 2**53"),
    "number for bool": (as_bytes(event(online=1)), "$.online: expected true or false, got 1"),
    "unknown event type": (
        as_bytes(event(kind="gift")),
        '$.kind: expected one of "purchase", "refund", got "gift"',
    ),
    "empty id": (as_bytes(event(id="")), '$.id: expected text that is not empty, got ""'),
    "years back": (
        as_bytes(event(at=0)),
        "$.at: expected an event at most 30d old when sent, got 1970-01-01T",
    ),
    "years ahead": (
        as_bytes(event(at=T0 * 2)),
        "$.at: expected an event at most 10m ahead when sent, got 2077",
    ),
    "another unit": (as_bytes(event(at=T0 * 100)), "$.at: expected a year from 1900 to 2199"),
    "no time at all": (as_bytes(event(at=10**30)), "$.at: expected time in ms since 1970 (a number)"),
    "deep": (
        b'{"more":' + b"[" * 100 + b"]" * 100 + b"}",
        "$: expected at most 64 levels of nesting, got more",
    ),
    "very deep": (b'{"more":' + b"[" * 200_000, "$: expected at most 64 levels of nesting, got more"),
    "1 MiB": (as_bytes(event(more="x" * (1 << 20))), "$: expected fewer than 1048576 bytes, got"),
    "tombstone": (None, "$: expected an event, got a tombstone (no value)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_by_place_path_and_reason(name):
    value, said = BAD[name]
    error = error_of(value)
    assert error.startswith("transactions[3]@18234 $")
    assert said in error


def test_only_the_bad_ones_of_a_batch_are_rejected():
    values = [value for value, _ in BAD.values()]
    mixed: list[bytes | None] = []
    for row, value in enumerate(values):
        mixed += [as_bytes(event(id=f"good-{row}", amount=row)), value]
    good, letters = decode(mixed)
    assert good.event_ids == [f"good-{row}" for row in range(len(values))]
    assert good.columns["amount"].tolist() == list(range(len(values)))
    assert good.offset.tolist() == [18_234 + 2 * row for row in range(len(values))]
    assert [letter.offset for letter in letters] == [18_235 + 2 * row for row in range(len(values))]
    assert [letter.value for letter in letters] == values


def test_a_dead_letter_keeps_the_message_as_it_came():
    raw = RawBatch.of("transactions", [RawMessage("transactions", 1, 7, T0, b"k", b"\x00", [("h", b"\xff")])])
    _, (letter,) = JsonDecoder(SOURCE).decode(raw)
    assert (letter.key, letter.value, letter.headers) == (b"k", b"\x00", [("h", b"\xff")])
    assert (letter.source, letter.stage, letter.place) == ("payments", "decode", "transactions[1]@7")


def test_a_null_key_is_rejected_where_the_topic_is_keyed():
    good, letters = JsonDecoder(SOURCE).decode(batch([as_bytes(event())], key=None))
    assert len(good) == 0
    assert "expected a message keyed by `card`, got a null key" in letters[0].error


def test_values_that_only_together_are_json_are_rejected():
    # Joined, these four would be four documents; each alone is none or two.
    one = as_bytes(event())
    values = [one[:-1] + b',"a":[{}', b"{}]}", one + b"\n" + one, one]
    good, letters = decode(list(values))
    assert good.offset.tolist() == [18_237]
    assert len(letters) == 3


def test_the_strict_form_is_left_for_good_only_when_identifiers_are_numbers():
    decoder = JsonDecoder(SOURCE)
    good, letters = decoder.decode(batch([as_bytes(event(id=77, card={"number": 4000}))]))
    assert (good.event_ids, good.columns["card"], letters) == (["77"], ["4000"], [])
    good, _ = decoder.decode(batch([as_bytes(event(id="a"))]))
    assert good.event_ids == ["a"]


def test_optional_objects_may_be_null_or_absent():
    source = Source(
        name="s",
        topic="t",
        event_id="id",
        event_time="at",
        fields=(
            Field(name="id", dtype="int64"),
            Field(name="at", dtype="timestamp"),
            Field(name="lat", dtype="float64", alias="where.lat", required=False),
            Field(name="lon", dtype="float64", alias="where.lon", required=False),
        ),
    )
    bodies: list[dict[str, Any]] = [
        {},
        {"where": None},
        {"where": {"lat": 1}},
        {"where": {"lat": 1, "lon": 2}},
    ]
    good, letters = decode([as_bytes({"id": n, "at": T0, **body}) for n, body in enumerate(bodies)], source)
    assert letters == []
    np.testing.assert_array_equal(good.columns["lat"], [np.nan, np.nan, 1, 1])
    np.testing.assert_array_equal(good.columns["lon"], [np.nan, np.nan, np.nan, 2])
    assert good.event_ids == ["0", "1", "2", "3"]


def test_spaces_and_newlines_around_values_do_no_harm():
    values = [
        b" " + as_bytes(event(id="a")),
        as_bytes(event(id="b")) + b"\n",
        json.dumps(event(id="c"), indent=1).encode(),
    ]
    good, letters = decode(list(values))
    assert (good.event_ids, letters) == (["a", "b", "c"], [])


def test_headers_keys_and_times_come_along():
    raw = RawBatch.of(
        "transactions",
        [
            RawMessage("transactions", 0, 5, T0 + 1, b"k", as_bytes(event()), [("traceparent", b"00-1")]),
            RawMessage("transactions", 0, 6, -1, b"k", as_bytes(event(at=T0 + 2)), None),
        ],
    )
    good, _ = JsonDecoder(SOURCE).decode(raw)
    assert good.headers == [[("traceparent", b"00-1")], None]
    assert good.keys == [b"k", b"k"]
    assert good.received_time.tolist() == [(T0 + 1) * 1000, (T0 + 2) * 1000]


def test_an_empty_batch_is_an_empty_batch():
    good, letters = decode([])
    assert (len(good), letters, good.event_ids) == (0, [], [])
    assert set(good.columns) == {field.name for field in SOURCE.fields}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            (Field(name="a", dtype="string", alias="x"), Field(name="b", dtype="string", alias="x")),
            "another field",
        ),
        (
            (Field(name="a", dtype="string", alias="x"), Field(name="b", dtype="string", alias="x.y")),
            "cannot be an object",
        ),
        ((Field(name="a", dtype="string", alias="x..y"),), "has an empty part"),
        ((Field(name="a", dtype="string", alias='x"y'),), "with quotes"),
    ],
)
def test_aliases_that_cannot_be(fields, said):
    base = (Field(name="id", dtype="string"), Field(name="at", dtype="timestamp"))
    with pytest.raises(DefinitionError, match=said):
        JsonDecoder(Source(name="s", topic="t", event_id="id", event_time="at", fields=base + fields))


def test_labels_need_what_they_are_made_of():
    source = Source(
        name="s",
        topic="t",
        event_id="id",
        event_time="at",
        labels=LabelOf(event_id="of", value="bad"),
        fields=(
            Field(name="id", dtype="string"),
            Field(name="at", dtype="timestamp"),
            Field(name="of", dtype="string", required=False),
            Field(name="bad", dtype="bool", required=False),
        ),
    )
    body = {"id": "1", "at": T0, "of": 12, "bad": True}
    good, letters = decode(
        [as_bytes(body), as_bytes({**body, "bad": None}), as_bytes({**body, "of": None})], source
    )
    assert good.columns["of"] == ["12"]
    assert [letter.path for letter in letters] == ["$.bad", "$.of"]


# --- against the oracle --------------------------------------------------------------------------------------


def naive(value: bytes) -> dict[str, Any] | None:
    """What an event is, by the rules of the source, or None; no speed, no messages."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        document = json.loads(value.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    out: dict[str, Any] = {}
    for field in SOURCE.fields:
        found: Any = document
        for part in (field.alias or field.name).split("."):
            if found is not None and not isinstance(found, dict):
                return None
            found = None if found is None else found.get(part)
        if found is None:
            if field.required:
                return None
        elif not fits(field, found):
            return None
        out[field.name] = found
    if out["id"] == "" or out["kind"] not in SOURCE.event_types or out["amount"] < 0:
        return None
    if not T0 - 30 * 86_400_000 <= out["at"] <= T0 + 600_000:
        return None
    return out


def fits(field: Field, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if field.dtype == "string":
        return isinstance(value, str) or (field.name in ("id", "card") and number and isinstance(value, int))
    if field.dtype == "bool":
        return isinstance(value, bool)
    if field.dtype == "int64":
        return number and isinstance(value, int) and abs(value) <= 2**53
    return number and math.isfinite(value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
numbers = st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6), st.integers(2**53 - 1, 2**53 + 2))
anything = st.one_of(st.none(), st.booleans(), numbers, texts, st.just([]), st.just({}), st.just(math.nan))
changes = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(texts, anything),
        "at": st.one_of(st.integers(T0 - 10, T0 + 700_000), st.floats(T0 - 10, T0), anything),
        "kind": st.one_of(st.sampled_from(["purchase", "refund", "gift"]), anything),
        "amount": st.one_of(numbers, anything),
        "card": st.one_of(
            anything,
            st.fixed_dictionaries({}, optional={"number": anything, "issuer": anything, "more": anything}),
        ),
        "mcc": anything,
        "online": anything,
        "opened": st.one_of(st.none(), st.integers(0, T0)),
        "unknown": anything,
    },
)
bodies = st.one_of(
    changes.map(lambda change: as_bytes(event(**change))),
    changes.map(lambda change: json.dumps(event(**change), ensure_ascii=False, indent=1).encode()),
    st.binary(max_size=8),
    changes.map(lambda change: as_bytes(event(**change))[:-1]),
)
good_bodies = changes.map(lambda change: as_bytes(event(**change))).filter(
    lambda value: naive(value) is not None
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(bodies, good_bodies), max_size=12))
def test_agrees_with_the_oracle(values):
    good, letters = decode(list(values))
    expected = {row: event for row, value in enumerate(values) if (event := naive(value)) is not None}
    assert (good.offset - 18_234).tolist() == list(expected)
    assert [letter.offset - 18_234 for letter in letters] == [
        r for r in range(len(values)) if r not in expected
    ]
    for place, one in enumerate(expected.values()):
        assert good.event_ids[place] == str(one["id"])
        assert good.event_time[place] == round(one["at"] * 1000)
        for field in SOURCE.fields:
            compare(field, good.columns[field.name][place], one[field.name])


def compare(field: Field, got: Any, wanted: Any) -> None:
    if field.dtype == "string":
        assert got == (None if wanted is None else str(wanted))
    elif wanted is None:
        assert math.isnan(got)
    else:
        assert got == (round(wanted * 1000) if field.dtype == "timestamp" else float(wanted))


# Most changes make an event bad, and a bad one says nothing here.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(good_bodies, min_size=1, max_size=10), st.integers(0, 9))
def test_a_batch_cut_anywhere_gives_the_same(values, cut):
    whole, _ = decode(list(values))
    for name in whole.columns:
        parts = [decode(list(piece))[0].columns[name] for piece in (values[:cut], values[cut:])]
        assert repr([*parts[0], *parts[1]]) == repr([*whole.columns[name]])
