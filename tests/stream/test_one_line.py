"""No command ends in a traceback: whatever is wrong with files, settings or environment is one line, exit 2."""

from __future__ import annotations

import codecs
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.main import get_command

from stream.cli.app import app, run
from stream.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "payments"
PROJECT = ("definitions.py", "riskstream.toml", "policy.toml", "reasons.toml")

# How each command is called in a project's folder; files that a case breaks are named here.
COMMANDS: dict[str, list[str]] = {
    "api": [],
    "api keys create": [],
    "api keys list": [],
    "api keys revoke": ["unknown"],
    "backtest": ["--input", "transactions=events.csv", "--report", "report.html"],
    "certify": [],
    "doctor": [],
    "dlq list": [],
    "dlq redrive": ["--yes"],
    "dlq show": ["transactions[0]@1"],
    "emit": ["events.jsonl", "--source", "transactions"],
    "evaluate": ["--model", "fraud@champion", "--config", "train.toml"],
    "faust": [],
    "features explain": ["nothing"],
    "features list": [],
    "features materialize": ["--input", "transactions=events.csv", "--output", "features.parquet"],
    "model import": ["model.onnx", "--signature", "model.toml"],
    "model list": [],
    "model promote": ["fraud@1"],
    "model rollback": ["fraud"],
    "model show": ["fraud@1"],
    "model sign": ["fraud@1", "--key", "key.pem"],
    "model verify": ["fraud@1"],
    "policy check": [],
    "policy dry-run": ["policy.toml", "--input", "transactions=events.csv"],
    "profiles load": [],
    "state drop": ["--yes"],
    "state rebuild": ["--yes"],
    "state show": ["card", "1"],
    "state verify": [],
    "train": ["--model", "fraud", "--config", "train.toml"],
    "worker": [],
}
WITHOUT_SETTINGS = {"demo", "init", "model keygen"}
LATIN = "name = 'café'\n".encode("latin-1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The payments example, with files of every kind that its commands read; state is in memory."""
    for name in PROJECT:
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    settings = (tmp_path / "riskstream.toml").read_text()
    settings = re.sub(r"(?m)^url = .*$", 'url = "memory://"', settings)
    (tmp_path / "riskstream.toml").write_text(re.sub(r"(?m)^routes = .*$", "", settings))
    (tmp_path / "events.csv").write_text("transaction_id\n1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stream.kafka.client.brokers.TIMEOUT_S", 0.1)
    return tmp_path


def called(capsys: pytest.CaptureFixture[str], command: str, arguments: list[str]) -> str:
    """Run a command that must fail; returns its one line on stderr."""
    code = run([*command.split(), *arguments])
    streams = capsys.readouterr()
    errors = streams.err.strip().splitlines()
    assert code in (1, 2), streams
    if code == 1:  # doctor and policy check say what is wrong as their answer
        return streams.out + streams.err
    assert len(errors) == 1, errors
    return errors[0]


def test_the_table_has_every_command():
    def paths(command: object, path: str) -> list[str]:
        nested = getattr(command, "commands", {})
        return [deep for name, sub in nested.items() for deep in paths(sub, f"{path} {name}".strip())] or [
            path
        ]

    known = {*paths(get_command(app), ""), "api"}
    assert set(COMMANDS) | WITHOUT_SETTINGS == known


SETTINGS = {
    "absent": (None, "there is no such file"),
    "latin-1": (LATIN, ":1: byte 0xe9 is not UTF-8"),
    "not TOML": (b"[project\n", ":1: not TOML"),
    "unknown": (b"[projct]\n", "`projct` is no setting"),
    "wrong type": (b"project = 3\n", "project: expected a table"),
    "UTF-16 cut": (codecs.BOM_UTF16_LE + b"[", "is not UTF-16"),
}


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_broken_settings(project, capsys, command, case):
    data, message = SETTINGS[case]
    arguments = COMMANDS[command]
    name = "train.toml" if "train.toml" in arguments else "riskstream.toml"
    file = project / name
    file.unlink(missing_ok=True)
    if data is not None:
        file.write_bytes(data)
    line = called(capsys, command, arguments)
    assert name in line
    if name == "riskstream.toml":
        assert message in line


DEFINITIONS = {
    "absent": None,
    "latin-1": LATIN,
    "not Python": b"definitions = (",
    "raises": b"raise ValueError()",
    "exits": b"import sys; sys.exit('no')",
    "imports nothing": b"import nothing_of_this_name",
    "no definitions": b"x = 1",
    "NUL": b"\0",
    "recursion": b"def f(): f()\nf()",
}
READ_DEFINITIONS = (
    "api",
    "backtest",
    "certify",
    "doctor",
    "emit",
    "features explain",
    "features list",
    "features materialize",
    "policy check",
    "policy dry-run",
    "profiles load",
    "worker",
)


@pytest.mark.parametrize("case", DEFINITIONS)
@pytest.mark.parametrize("command", READ_DEFINITIONS)
def test_broken_definitions(project, capsys, command, case):
    if command == "api":
        (project / "api_keys.json").write_text("[]")
    (project / "events.jsonl").write_text("{}\n")
    data = DEFINITIONS[case]
    (project / "definitions.py").unlink()
    if data is not None:
        (project / "definitions.py").write_bytes(data)
    assert "definitions" in called(capsys, command, COMMANDS[command])


@pytest.mark.parametrize("data", [LATIN, b"[sources\n", b"\0", b"sources = 3\n", codecs.BOM_UTF16_BE + b"\0"])
@pytest.mark.parametrize("command", ["doctor", "policy check", "policy dry-run", "backtest", "worker"])
def test_broken_policies(project, capsys, command, data):
    (project / "policy.toml").write_bytes(data)
    assert "policy.toml" in called(capsys, command, COMMANDS[command])


def parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"transaction_id": np.arange(1000)}).write_parquet(out)
    return out.getvalue()


EVENTS: dict[str, bytes] = {
    "latin.csv": "transaction_id\ncafé\n".encode("latin-1"),
    "ragged.csv": b"transaction_id,card_id\n1,2\n3,4,5\n",
    "quote.csv": b'transaction_id,card_id\n1,"2\n',
    "empty.csv": b"",
    "cut.parquet": parquet()[:-50],
    "text.parquet": b"transaction_id\n1\n",
    "events.xlsx": b"PK",
}
READ_EVENTS: dict[str, Callable[[str], list[str]]] = {
    "backtest": lambda file: ["--input", f"transactions={file}", "--report", "report.html"],
    "features materialize": lambda file: ["--input", f"transactions={file}", "--output", "features.parquet"],
    "policy dry-run": lambda file: ["policy.toml", "--input", f"transactions={file}"],
}


@pytest.mark.parametrize("file", EVENTS)
@pytest.mark.parametrize("command", READ_EVENTS)
def test_broken_recorded_events(project, capsys, command, file):
    (project / file).write_bytes(EVENTS[file])
    assert file in called(capsys, command, READ_EVENTS[command](file))


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("init", ["new", "--from", "sample.jsonl"]),
        ("emit", ["sample.jsonl", "--source", "transactions", "--check"]),
    ],
)
@pytest.mark.parametrize("data", [LATIN, b"\0\n", b'{"a": ', b"[" * 100_000])
def test_broken_samples(project, capsys, command, arguments, data):
    (project / "sample.jsonl").write_bytes(data)
    assert "sample.jsonl" in called(capsys, command, arguments)


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("fastapi", "api", "api"),
        ("faust", "faust", "faust"),
        ("sklearn", "train", "train"),
        ("skl2onnx", "demo", "demo"),
    ],
)
def test_a_missing_extra_names_it(project, extra, module, command):
    (project / "train.toml").write_text(
        '[data]\nfeatures = "features.parquet"\nevent_time = "event_time"\n[models.fraud]\nalgorithm = "logistic"'
    )
    times = pl.Series("event_time", range(0, 10**12, 10**9)).cast(pl.Datetime("us", "UTC"))
    count = len(times)
    pl.DataFrame(
        {"event_id": range(count), "event_time": times, "x": range(count), "label": [0, 1] * (count // 2)}
    ).write_parquet("features.parquet")
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from stream.cli.app import run; sys.exit(run({[*command.split(), *COMMANDS.get(command, [])]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2, done.stderr
    assert f"riskstream[{extra}]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_busy_metrics_port_is_one_line(project, capsys):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(
            Exception, match=f"metrics cannot be served at 127.0.0.1:{port}.*worker.metrics_port"
        ):
            Metrics().serve("127.0.0.1", port)


def test_what_may_not_be_written_is_one_line(project, capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/sys/report.html")

    monkeypatch.setattr("stream.project.scaffold.project.make_project", refuse)
    assert called(capsys, "init", ["new"]) == "riskstream: /sys/report.html: Permission denied"


def test_json_keys_file_that_is_none(project, capsys):
    (project / "api_keys.json").write_bytes(b"{")
    assert "api_keys.json" in called(capsys, "api keys list", [])
