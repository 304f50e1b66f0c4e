"""`riskstream init --from`: definitions that fit a sample of one's own events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
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
        ([{"id": 1, "at": "2026-01-01"}, {"id": 1, "at": "2026-01-01"}], "as an id would be"),
        ([[1]], "expected an object"),
        ([], "holds no events"),
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
@given(extra=st.lists(more, min_size=1, max_size=8))
@example(extra=[{"0": "\x85"}])
@example(extra=[{"0": [1]}, {"0": False}, {"0": {}}])
@example(extra=[{"0": {"a": 1}}, {"0": 1}])
def test_whatever_the_events_hold_the_draft_compiles_and_fits(tmp_path_factory, extra):
    events = [
        {"event": {"ref": f"r{row}"}, "time": f"2026-01-01T00:00:{row:02}Z", **one}
        for row, one in enumerate(extra)
    ]
    events = [one for one in events if isinstance(one["event"], dict) and isinstance(one["time"], str)]
    source_of(tmp_path_factory.mktemp("guess"), events)
