"""`riskstream init --from`: definitions that fit a sample of one's own events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from features.core.errors import ConfigurationError
from features.definitions.spec import Source
from stream.cli.app import run
from stream.project import build
from stream.project.emit import emit_file
from stream.project.scaffold.guess import guess
from stream.project.scaffold.project import make_project
from stream.settings.config import load


def written(folder: Path, events: list[Any]) -> Path:
    file = folder / "sample.jsonl"
    file.write_text("\n".join(json.dumps(event, ensure_ascii=False) for event in events))
    return file


def source_of(folder: Path, events: list[Any]) -> Source:
    sample = written(folder, events)
    make_project(folder / "made", sample)
    config = load(folder / "made" / "riskstream.toml")
    plan = build.make_plan(config)
    build.make_policy(config, plan)
    done = emit_file(config.path, sample, None, send=False)
    assert (done.good, done.rejected) == (len(events), [])
    return plan.sources["events"]


HANDBOOK = [
    {
        "TRANSACTION_ID": row,
        "TX_DATETIME": f"2018-04-01 00:{row:02}:31",
        "CUSTOMER_ID": 596 + row % 7,
        "TERMINAL_ID": 3156 + row % 5,
        "TX_AMOUNT": 57.16 + row,
        "TX_FRAUD": 0,
    }
    for row in range(40)
]
NESTED = [
    {
        "meta": {"uuid": f"u-{row}", "emitted at": 1_772_323_200_382 + row, "tags": ["a"]},
        "payload": {"id": row % 3, "konto": f"k{row % 4}", "betrag (€)": 3 if row else 3.5},
        "id": None,
        "retry": row % 2 == 0,
        **({"note": "x"} if row == 5 else {}),
    }
    for row in range(30)
]


def test_the_handbook_s_columns(tmp_path):
    source = source_of(tmp_path, HANDBOOK)
    assert (source.event_id, source.event_time, source.key) == (
        "TRANSACTION_ID",
        "TX_DATETIME",
        "CUSTOMER_ID",
    )
    assert (source.amount, source.time_format) == ("TX_AMOUNT", "iso8601")


def test_nested_objects_odd_names_and_what_is_sometimes_there(tmp_path):
    source = source_of(tmp_path, NESTED)
    assert (source.event_id, source.event_time, source.key) == ("uuid", "emitted_at", "konto")
    assert (source.amount, source.time_format) == ("betrag", "ms")
    fields = {field.name: field for field in source.fields}
    assert fields["uuid"].alias == "meta.uuid"
    assert fields["betrag"].alias == "payload.betrag (€)"
    assert (fields["id"].alias, fields["retry"].dtype) == ("payload.id", "bool")
    assert (fields["note"].required, fields["konto"].required) == (False, True)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([{"id": 1}, {"id": 2}], "looks like a time"),
        ([{"id": 1, "at": "2026-01-01"}, {"id": 1, "at": "2026-01-01"}], "as an id would"),
        ([[1]], "expected an object"),
        ([], "holds no events"),
        ([{"id": 1, "at": "2026-01-01"}], "one event is too few"),
    ],
)
def test_what_cannot_be_guessed(tmp_path, events, said):
    with pytest.raises(ConfigurationError, match=said):
        guess(written(tmp_path, events))


def test_a_sample_that_is_not_there(tmp_path, capsys):
    assert run(["init", str(tmp_path / "p"), "--from", str(tmp_path / "nothing")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="."), min_size=1, max_size=6
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(-1e9, 1e9),
    st.text(max_size=5),
    st.just([1]),
)
more = st.dictionaries(names, st.one_of(values, st.dictionaries(names, values, max_size=2)), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.lists(more, min_size=2, max_size=8))
@example(extra=[{"0": "\x85"}, {}])
@example(extra=[{"0": [1]}, {"0": False}, {"0": {}}])
@example(extra=[{"0": {"a": 1}}, {"0": 1}])
@example(extra=[{"0": 2**60, "1": 1.5}, {"0": 2**60 + 1, "1": 2**60}])
def test_whatever_the_events_hold_the_draft_compiles_and_fits(tmp_path_factory, extra):
    events = [
        {"event": {"ref": f"r{row}"}, "time": f"2026-01-01T00:00:{row:02}Z", **one}
        for row, one in enumerate(extra)
    ]
    events = [one for one in events if isinstance(one["event"], dict) and isinstance(one["time"], str)]
    assume(len(events) > 1)
    source_of(tmp_path_factory.mktemp("guess"), events)


def test_long_numbers_are_ids_and_texts(tmp_path):
    """Numbers of 18 and 19 digits, and a free text that is different in every event."""
    events = [
        {
            "tx_id": 912_345_678_901_234_567 + row,
            "created_at": f"2026-01-01T00:00:{row:02}Z",
            "account": 4_394_731_217_271_551_880 + row % 5,
            "amount": 1.5 + row,
            "note": f"paid for order {row} at the till",
        }
        for row in range(30)
    ]
    source = source_of(tmp_path, events)
    fields = {field.name: field.dtype for field in source.fields}
    assert (source.event_id, source.key, source.amount) == ("tx_id", "account", "amount")
    assert (fields["tx_id"], fields["account"]) == ("string", "string")


def test_a_number_that_names_nothing_and_loses_digits_is_left_out(tmp_path):
    events = [
        {"id": f"e{row}", "at": f"2026-01-01T00:00:{row:02}Z", "card": f"c{row % 3}", "big": 10**18 + row % 2}
        for row in range(30)
    ]
    sample = written(tmp_path, events)
    result = guess(sample)
    assert "big" not in {member.name for member in result.members}
    assert any("`big` is left out: its numbers have more digits" in check for check in result.checks)


MONEY = ["$1,234.50", "EUR 12", "12.00", "1.234,50 €", "1,234,567"]


@pytest.mark.parametrize("text", MONEY)
def test_amounts_as_texts_are_recognized_and_are_no_keys(tmp_path, text):
    events = [
        {"id": f"e{row}", "at": f"2026-01-01T00:00:{row:02}Z", "card": f"c{row % 3}", "card_total": text}
        for row in range(30)
    ]
    result = guess(written(tmp_path, events))
    assert (result.owner.name, result.money) == ("card", None)
    assert any("`card_total` holds amounts as texts" in check for check in result.checks)


def test_names_count(tmp_path):
    events = [
        {
            "company": f"company {row}",
            "ref": f"r{row}",
            "booked_at": 1_772_323_200 + row,
            "acct": 10_000 + row % 7,
            "pan": f"p{row % 3}",
            "amt": 3 + row,
            "rate": 0.5,
            "is_fraud": row % 2,
        }
        for row in range(30)
    ]
    sample = written(tmp_path, events)
    result = guess(sample)
    assert (result.event_id.name, result.time_format) == ("ref", "s")
    assert result.owner.name in ("acct", "pan")
    assert (result.money.name if result.money else None) == "amt"
    assert result.label is not None and result.label.name == "is_fraud"


def test_a_verdict_is_proposed_as_a_label_source_and_is_no_feature(tmp_path, capsys):
    sample = written(tmp_path, HANDBOOK)
    assert run(["init", str(tmp_path / "p"), "--from", str(sample)]) == 0
    printed = capsys.readouterr().out
    assert "check  `TX_FRAUD` is a verdict that is known later" in printed
    draft = (tmp_path / "p" / "definitions.py").read_text()
    assert 'labels=LabelOf(event_id="TRANSACTION_ID", value="TX_FRAUD")' in draft
    assert 'Field(name="TX_FRAUD", dtype="int64"),\n#     )' in draft
    assert "- only 40 events were seen" in draft
    assert "- times of `TX_DATETIME` name no offset" in draft


def test_the_proposed_label_source_compiles(tmp_path):
    make_project(tmp_path / "p", written(tmp_path, HANDBOOK))
    file = tmp_path / "p" / "definitions.py"
    text = file.read_text().replace("import Aggregation", "import LabelOf, Aggregation")
    head, _, proposal = text.partition("#\n# labels = Source(")
    body = "\n".join(
        line.removeprefix("# ").removeprefix("#") for line in ("# labels = Source(" + proposal).splitlines()
    )
    definitions, _, rest = head.partition("definitions = Definitions(")
    file.write_text(
        definitions + body + "\ndefinitions = Definitions(" + rest.replace("(events,)", "(events, labels)")
    )
    assert set(build.make_plan(load(tmp_path / "p" / "riskstream.toml")).sources) == {"events", "labels"}


def test_day_and_month_that_cannot_be_told_apart_are_said(tmp_path):
    events = [{"id": f"e{row}", "when": f"0{row}/02/2026 10:00:00", "card": "c"} for row in range(1, 9)]
    result = guess(written(tmp_path, events))
    assert any("day and month of `when` can be read either way" in check for check in result.checks)
    events.append({"id": "e", "when": "25/02/2026 10:00:00", "card": "c"})
    result = guess(written(tmp_path, events))
    assert result.time_format == "%d/%m/%Y %H:%M:%S"
    assert not any("either way" in check for check in result.checks)


def test_a_check_cannot_break_the_draft(tmp_path):
    events = [{"id": f"e{row}", "at": "2026-01-01", 'x"""\\N{\x1b': 10**18 + row % 2} for row in range(9)]
    make_project(tmp_path / "p", written(tmp_path, events))
    build.make_plan(load(tmp_path / "p" / "riskstream.toml"))


def test_emit_groups_by_cause_and_nothing_is_well_that_loses_digits(tmp_path, capsys):
    make_project(tmp_path / "p", written(tmp_path, HANDBOOK))
    wrong = [{**HANDBOOK[0], "TX_AMOUNT": "12,0"}] * 3 + [
        {**HANDBOOK[1], "TX_AMOUNT": 2**53 + 1},
        HANDBOOK[2],
    ]
    sample = written(tmp_path, wrong)
    config = str(tmp_path / "p" / "riskstream.toml")
    assert run(["emit", str(sample), "--config", config, "--check"]) == 1
    streams = capsys.readouterr()
    first, second = streams.err.splitlines()
    assert first.startswith(f"{sample}:1 $.TX_AMOUNT: expected number") and first.endswith(
        "(and 2 more like it)"
    )
    assert second.startswith(f"{sample}:4 $.TX_AMOUNT: expected at most 2**53")
    assert streams.out == "1 well, 4 rejected\n"
