"""A backtest killed at a random moment and run again gives the report of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import polars as pl
import pytest

from stream.replay.backtest import parts
from stream.replay.backtest.backtest import backtest
from stream.replay.backtest.request import BacktestRequest
from tests.servers.process import wait_until

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 20_000
PART = 500
CHILD = """
import sys
from functools import partial
from pathlib import Path
import msgspec
from stream.replay.backtest import inputs, parts
from stream.replay.backtest.backtest import backtest
from stream.replay.backtest.request import BacktestRequest
if __name__ == "__main__":
    parts.PART_ROWS = {part}
    inputs.batches = partial(inputs.batches, size=900)
    raw = Path(sys.argv[1]).read_bytes()
    asked = msgspec.json.decode(raw, type=BacktestRequest, dec_hook=lambda kind, text: kind(text))
    found = backtest(asked)
    Path(sys.argv[1]).with_name("figures.json").write_bytes(msgspec.json.encode(found.figures))
    sys.exit(0 if found.complete else 130)
"""
POLICY = """
[sources.transactions]
review = 0.5

[[sources.transactions.rules]]
name = "large"
when = "TX_AMOUNT > 150"
action = "review"

[sources.transactions.suppress]
entity = "customer"
period = "1d"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The handbook's definitions and rules that remember, on events made up here."""
    draw = random.Random(9)
    times = pl.from_epoch(pl.Series([1_772_323_200 + row * 20 for row in range(EVENTS)]), "s")
    paid = pl.DataFrame({
        "TRANSACTION_ID": range(EVENTS), "TX_DATETIME": times,
        "CUSTOMER_ID": [draw.randrange(400) for _ in range(EVENTS)],
        "TERMINAL_ID": [draw.randrange(500) for _ in range(EVENTS)],
        "TX_AMOUNT": [draw.expovariate(0.02) for _ in range(EVENTS)],
        "TX_FRAUD": [int(draw.random() < 0.03) for _ in range(EVENTS)],
    })  # fmt: skip
    known = paid.with_columns(
        KNOWN_DATETIME=pl.col("TX_DATETIME") + pl.duration(days=1), LABEL_ID="TRANSACTION_ID"
    )
    known.write_parquet(tmp_path / "labels.parquet")
    paid.drop("TX_FRAUD").write_parquet(tmp_path / "transactions.parquet")
    (tmp_path / "definitions.py").write_text((ROOT / "examples/handbook/definitions.py").read_text())
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "riskstream.toml").write_text('[project]\nname = "killed"\n')
    (tmp_path / "child.py").write_text(CHILD.format(part=PART))
    return tmp_path


def request(project: Path, name: str, processes: int = 1) -> BacktestRequest:
    inputs = [f"{source}={project}/{source}.parquet" for source in ("transactions", "labels")]
    return BacktestRequest(
        config=project / "riskstream.toml", inputs=inputs, work=project / f"work-{name}",
        decisions=project / name, with_features=True, processes=processes,
    )  # fmt: skip


def start(project: Path, asked: BacktestRequest) -> subprocess.Popen[bytes]:
    file = project / "request.json"
    file.write_bytes(msgspec.json.encode(asked, enc_hook=str))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, str(project / "child.py"), str(file)], env=environment)


def parts_in(folder: Path) -> int:
    """Parts written so far; folders come and go meanwhile, which `os.walk` does not mind."""
    names = [name for _, _, files in os.walk(folder) for name in files]
    return sum(name.startswith("part-") and name.endswith(".parquet") for name in names)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_and_run_again_the_report_is_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", PART)
    whole = backtest(request(project, "whole"))
    asked = request(project, "killed", processes)
    draw = random.Random()
    for moment in sorted(draw.sample(range(1, EVENTS // PART - 10), 3 - processes)):
        process = start(project, asked)
        wait_until(lambda: parts_in(asked.work) >= moment, 60, f"{moment} parts")  # noqa: B023
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    assert asked.work.exists()
    assert start(project, asked).wait(60) == 0
    assert not asked.work.exists()
    frames = [pl.read_parquet(project / name / "setting.parquet") for name in ("whole", "killed")]
    assert frames[0].height == EVENTS
    assert frames[0].equals(frames[1])
    assert (project / "figures.json").read_bytes() == msgspec.json.encode(whole.figures)


def test_an_interrupt_and_a_lost_share_cost_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C gives a valid report of what was done; a killed share ends the run with a clear word."""
    monkeypatch.setattr(parts, "PART_ROWS", PART)
    whole = backtest(request(project, "whole"))
    asked = request(project, "stopped", processes=2)
    process = start(project, asked)
    decided = asked.work / "setting" / "transactions"
    wait_until(lambda: len(list(decided.glob("part-*.parquet"))) >= 3, 60, "three parts of decisions")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    partial = json.loads((project / "figures.json").read_bytes())[0]
    assert (partial["complete"], 3 * PART <= partial["events"] < EVENTS) == (False, True)
    process = start(project, asked)
    wait_until(lambda: len(_shares(process.pid)) == 2, 60, "two shares")
    os.kill(_shares(process.pid)[0], signal.SIGKILL)
    assert process.wait(60) == 1
    assert start(project, asked).wait(60) == 0
    assert (project / "figures.json").read_bytes() == msgspec.json.encode(whole.figures)


def _shares(parent: int) -> list[int]:
    """Processes that multiprocessing started for shares."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
