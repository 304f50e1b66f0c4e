"""Whole backtests on a small project of rules: figures checked by hand, interruption, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from features.core.errors import ConfigurationError
from stream.cli.app import run
from stream.replay.backtest.backtest import Result, backtest
from stream.replay.backtest.report.page import write_page
from stream.replay.backtest.request import BacktestRequest

START = 1_772_323_200_000
HOUR = 3_600_000

DEFINITIONS = """
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, LabelOf, Source

definitions = Definitions(
    sources=(
        Source(
            name="payments", topic="payments", event_id="id", event_time="at",
            key="card", amount="amount",
            fields=(
                Field(name="id", dtype="string"), Field(name="at", dtype="timestamp"),
                Field(name="card", dtype="string"),
                Field(name="amount", dtype="float64"), Field(name="country", dtype="string"),
            ),
        ),
        Source(
            name="chargebacks", topic="chargebacks", event_id="id", event_time="known", key="card",
            fields=(
                Field(name="id", dtype="string"), Field(name="known", dtype="timestamp"),
                Field(name="card", dtype="string"),
                Field(name="payment", dtype="string"), Field(name="bad", dtype="int64"),
            ),
            labels=LabelOf(event_id="payment", value="bad"),
        ),
    ),
    entities=(Entity(name="card", keys=("card",)),),
    views=(
        FeatureView(
            name="spend", source="payments", entity="card", windows=("1d",),
            aggregations=(Aggregation(function="count"),),
        ),
        FeatureView(
            name="frauds", source="chargebacks", entity="card", windows=("30d",),
            aggregations=(Aggregation(function="rate"),),
        ),
    ),
)
"""


def policy(limit: float) -> str:
    rule = f'name = "large"\nwhen = "amount > {limit}"\naction = "review"\n'
    return f"[sources.payments]\nreview = 0.9\n\n[[sources.payments.rules]]\n{rule}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    (tmp_path / "riskstream.toml").write_text('[project]\nname = "small"\n')
    (tmp_path / "policy.toml").write_text(policy(80))
    (tmp_path / "stricter.toml").write_text(policy(50))
    rows = range(500)
    pl.DataFrame({
        "id": [f"p{row}" for row in rows], "at": [START + row * HOUR for row in rows],
        "card": [f"c{row % 7}" for row in rows],
        "amount": [float(row % 100) for row in rows], "country": [("NL", "DE")[row % 2] for row in rows],
    }).write_parquet(tmp_path / "payments.parquet")  # fmt: skip
    judged = range(0, 500, 3)
    pl.DataFrame({
        "id": [f"l{row}" for row in judged], "known": [START + row * HOUR + 72 * HOUR for row in judged],
        "card": [f"c{row % 7}" for row in judged], "payment": [f"p{row}" for row in judged],
        "bad": [int(row % 100 > 60) for row in judged],
    }).write_parquet(tmp_path / "chargebacks.parquet")  # fmt: skip
    return tmp_path


def request(project: Path, **more: object) -> BacktestRequest:
    inputs = [f"payments={project}/payments.parquet", f"chargebacks={project}/chargebacks.parquet"]
    made = {
        "config": project / "riskstream.toml",
        "inputs": inputs,
        "work": project / "work",
        "against": "live",
        **more,
    }
    return BacktestRequest(**made, policy=project / "stricter.toml")  # type: ignore[arg-type]


def test_two_policies_side_by_side(project: Path) -> None:
    found = backtest(request(project, segment_by=("country",))).figures[0]
    assert found.b is not None and found.overlap is not None
    assert (found.a.outcome.alerts, found.b.outcome.alerts) == (5 * 49, 5 * 19)
    assert (found.overlap.both, found.overlap.only_a, found.overlap.only_b) == (95, 150, 0)
    judged = list(range(0, 500, 3))
    assert found.a.outcome.labelled == len(judged)
    assert found.a.outcome.bad == sum(row % 100 > 60 for row in judged)
    assert found.a.outcome.recall == 1.0
    assert found.b.outcome.label_delay_days_median == pytest.approx(3.0)
    assert {one.segment for one in found.segments["country"]} == {"NL", "DE"}
    assert not (project / "work").exists()


def test_a_span_reports_only_its_events_with_windows_warmed_up(project: Path) -> None:
    backtest(request(project, decisions=project / "whole"))
    part = {"start": "2026-03-06", "end": "2026-03-10", "warm_up": "3d", "with_features": True}
    backtest(request(project, decisions=project / "part", **part))
    whole, frame = (pl.read_parquet(project / name / "candidate.parquet") for name in ("whole", "part"))
    assert frame["event_time"].min() == pl.Series(["2026-03-06"]).str.to_datetime()[0]
    assert frame.height == 96
    assert frame["payments_count_1d_by_card"].to_list()[0] == 4.0
    same = whole.join(frame, on="event_id", suffix="_part")
    assert (same["decision"] == same["decision_part"]).all()


def test_an_interrupted_run_goes_on_to_the_same_figures(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = backtest(request(project))
    partial = _interrupted(project, monkeypatch)
    assert not partial.complete
    assert 0 < partial.figures[0].events < 500
    resumed = backtest(request(project))
    assert resumed.complete
    assert resumed.figures == whole.figures


def _interrupted(project: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A run in batches of 50 events that Ctrl-C ends at the fourth."""
    with monkeypatch.context() as patch:
        calls = [0]

        def progress(_done: int, _total: int) -> None:
            calls[0] += 1
            if calls[0] == 4:
                raise KeyboardInterrupt

        patch.setattr("stream.replay.backtest.inputs.batches", _small_batches)
        return backtest(request(project), progress)


def _small_batches(plan: object, scans: object) -> object:
    from features.offline.merge import batches

    return batches(plan, scans, 50)  # type: ignore[arg-type]


def test_a_working_folder_of_another_run_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupted(project, monkeypatch)
    with pytest.raises(ConfigurationError, match="another interrupted run"):
        backtest(request(project, start="2026-03-02"))


def test_a_working_folder_with_anything_else_is_left_alone(project: Path) -> None:
    (project / "work").mkdir()
    (project / "work" / "precious.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        backtest(request(project))
    assert (project / "work" / "precious.txt").read_text() == "mine"


def test_the_command_writes_report_json_and_decisions(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "backtest", "--config", str(project / "riskstream.toml"), "--input", f"payments={project}/payments.parquet",
        "--input", f"chargebacks={project}/chargebacks.parquet", "--policy",
        str(project / "stricter.toml"), "--against", "live",
        "--report", str(project / "out.html"), "--json", str(project / "out.json"), "--decisions", str(project / "dec"),
        "--work", str(project / "work"),
    ]  # fmt: skip
    assert run(arguments) == 0
    page = (project / "out.html").read_text()
    assert "Alerts a day" in page and "http://" not in page.split("</script>")[-1]
    assert json.loads((project / "out.json").read_text())[0]["a"]["outcome"]["alerts"] == 245
    assert pl.read_parquet(project / "dec" / "candidate.parquet").height == 500
    assert "245 alerts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "payments.parquet"], "SOURCE=FILE"),
        (["--input", "payments={p}/nothere.parquet"], "nothere.parquet"),
        (["--input", "payments={p}/payments.parquet", "--from", "yesterday"], "--from"),
        (["--input", "payments={p}/payments.parquet", "--against", "nothere"], "--against"),
    ],
)
def test_a_mistake_is_one_clear_line(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    given = [text.replace("{p}", str(project)) for text in arguments]
    common = [
        "backtest",
        "--config",
        str(project / "riskstream.toml"),
        "--report",
        "x.html",
        "--work",
        str(project / "w"),
    ]
    assert run([*common, *given]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_report_of_one_setting_is_written_too(project: Path) -> None:
    found = backtest(request(project, against=None)).figures[0]
    write_page(found, project / "one.html")
    assert "In short" in (project / "one.html").read_text()
