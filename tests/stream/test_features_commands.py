"""`riskstream features` and `riskstream profiles load`, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.profiles.joins import decode_row
from stream.cli.app import run
from stream.project.build import make_store
from stream.settings.config import load

EXAMPLES = Path(__file__).parents[2] / "examples"
PAYMENTS = str(EXAMPLES / "payments" / "definitions.py")


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_list_names_every_feature(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "features", "list", "--definitions", PAYMENTS)
    assert code == 0
    assert "amount_mean_7d_by_card " in out
    assert "27 features, fingerprint " in out
    config = str(EXAMPLES / "payments" / "riskstream.toml")
    code, as_json, _ = called(capsys, "features", "list", "--config", config, "--json")
    listed = json.loads(as_json)
    assert code == 0
    assert len(listed["features"]) == 27
    assert listed["fingerprint"] in out


def test_explain_shows_the_window(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "features", "explain", "amount_mean_7d_by_card", "--definitions", PAYMENTS)
    assert code == 0
    assert "(t - 7d, t]" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("features", "explain", "nothing", "--definitions", PAYMENTS), "there is no feature `nothing`"),
        (("features", "list", "--definitions", "none.py"), "definitions file `none.py` does not exist"),
        (("features", "list", "--config", "none.toml"), "none.toml"),
        (
            ("features", "materialize", "--definitions", PAYMENTS, "--input", "x", "--output", "o"),
            "expected NAME=FILE",
        ),
        (
            (
                "features",
                "materialize",
                "--definitions",
                PAYMENTS,
                "--input",
                "transactions=no.csv",
                "--output",
                "o",
            ),
            "file `no.csv` does not exist",
        ),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = called(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.startswith("riskstream: ")
    assert len(err.splitlines()) == 1


def test_a_mistake_in_definitions_points_at_the_word(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = (
        (EXAMPLES / "payments" / "definitions.py").read_text().replace("channel = 'ecom", "chanel = 'ecom", 1)
    )
    (tmp_path / "definitions.py").write_text(wrong)
    code, _, err = called(capsys, "features", "list", "--definitions", str(tmp_path / "definitions.py"))
    assert code == 2
    assert "views.card_activity.aggregations[8].of: unknown column `chanel`; did you mean `channel`?" in err
    assert err.splitlines()[-2:] == ["    chanel = 'ecommerce'", "    ^^^^^^"]


def test_materialize_writes_a_row_an_event(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    count = 500
    columns: dict[str, Any] = {
        "transaction_id": [f"t{n}" for n in range(count)],
        "event_time": [1_767_225_600_000 + n * 60_000 for n in range(count)],
        "card_id": [f"c{n % 17}" for n in range(count)],
        "customer_id": [f"p{n % 17}" for n in range(count)],
        "merchant_id": [f"m{n % 5}" for n in range(count)],
        "amount": [float(n % 90) for n in range(count)],
        **{name: ["x"] * count for name in ("currency", "country", "category", "channel")},
    }
    pl.DataFrame(columns).write_csv(tmp_path / "tx.csv")
    output = tmp_path / "features.parquet"
    code, out, err = called(
        capsys,
        *("features", "materialize", "--definitions", PAYMENTS),
        *("--input", f"transactions={tmp_path / 'tx.csv'}", "--output", str(output)),
    )
    assert (code, err) == (0, "")
    assert f"500 rows in {output}" in out
    written = pl.read_parquet(output)
    assert written.columns[:2] == ["event_id", "event_time"]
    assert written["transactions_count_7d_by_card"].max() == 30


def test_profiles_load_writes_to_redis(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "definitions.py").write_text((EXAMPLES / "lending" / "definitions.py").read_text())
    settings = f'[redis]\nurl = "{redis_url}"\n[profiles.applicant]\nfile = "people.csv"\n'
    config = tmp_path / "riskstream.toml"
    config.write_text(settings)
    people = tmp_path / "people.csv"
    people.write_text(
        "applicant_id,income,bureau_score,employed_months,age,updated_at\n"
        "a1,50000,700,12,40,2026-01-01\n"
        "a2,,650,,35,2026-01-01\n"
    )
    code, out, _ = called(capsys, "profiles", "load", "--config", str(config))
    assert code == 1
    assert "applicant: 2 rows read, 1 written" in out
    assert "1 rejected: income: is null, but required" in out
    people.write_text(people.read_text().replace("a2,,", "a2,1,"))
    code, out, _ = called(capsys, "profiles", "load", "applicant", "--config", str(config), "--json")
    assert code == 0
    assert json.loads(out) == {"applicant": {"read": 2, "written": 2, "rejected": {}}}
    store = make_store(load(config))
    try:
        (row,) = store.get_profiles("applicant", ["a1"])
    finally:
        store.close()
    assert row is not None
    assert decode_row(row)[1] == {"income": 50000.0, "bureau_score": 700.0, "employed_months": 12, "age": 40}


def test_profiles_load_names_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = str(EXAMPLES / "lending" / "riskstream.toml")
    code, _, err = called(capsys, "profiles", "load", "nobody", "--config", config)
    assert (code, "profile `nobody` is not defined; known: applicant" in err) == (2, True)
    code, _, err = called(capsys, "profiles", "load", "--config", config, "--file", str(tmp_path / "no.csv"))
    assert (code, "does not exist" in err) == (2, True)
