"""The command line: help that teaches, one line for a mistake, exit codes; init makes a project that is well."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer

from features.core.errors import ConfigurationError, FatalError, FencedError
from stream.cli.app import app, run
from stream.project import build
from stream.settings.config import load


def test_help_teaches(capsys):
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    for word in ("riskstream demo", "riskstream init", "riskstream worker", "Kafka", "Redis"):
        assert word in said


def test_wrong_use_is_2(capsys):
    assert run(["nonsense"]) == 2
    assert "No such command" in capsys.readouterr().err
    assert run(["worker", "--ordinal", "-1"]) == 2
    assert run(["worker", "--log-level", "loud"]) == 2
    assert "expected one of debug, info" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("a setting"), 2),
        (FatalError("an end"), 2),
        (FencedError("another"), 3),
        (KeyboardInterrupt(), 130),
        (typer.Exit(1), 1),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("stream.project.scaffold.project.make_project", fail)
    assert run(["init", "somewhere"]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if code in (2, 3):
        assert said == f"riskstream: {error}\n"


def test_a_bug_is_not_hidden(monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stream.project.scaffold.project.make_project", fail)
    with pytest.raises(ZeroDivisionError):
        run(["init", "somewhere"])


def test_every_command_says_what_it_does():
    from typer.main import get_command

    def silent(command: object, path: str) -> list[str]:
        nested = getattr(command, "commands", {})
        own = [] if getattr(command, "help", None) else [path]
        return own + [deep for name, sub in nested.items() for deep in silent(sub, f"{path} {name}")]

    assert silent(get_command(app), "riskstream") == []


def test_help_answers_without_heavy_imports():
    heavy = ("polars", "numba", "onnxruntime", "confluent_kafka", "redis", "sklearn")
    code = f"import sys, stream.cli.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_init_makes_a_project_whose_event_decodes(tmp_path, capsys):
    folder = tmp_path / "My Shop"
    assert run(["init", str(folder)]) == 0
    assert "riskstream doctor" in capsys.readouterr().out
    config = load(folder / "riskstream.toml")
    assert config.project.name == "my-shop"
    plan = build.make_plan(config)
    build.make_policy(config, plan)
    assert run(["emit", str(folder / "event.json"), "--config", str(config.path), "--check"]) == 0
    assert capsys.readouterr().out == "1 well, 0 rejected\n"


def test_init_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "policy.toml").write_text("mine")
    assert run(["init", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["policy.toml"]


def test_emit_names_the_line(tmp_path, capsys):
    assert run(["init", str(tmp_path / "shop")]) == 0
    event = json.loads((tmp_path / "shop" / "event.json").read_text())
    lines = [json.dumps(event), "", json.dumps({**event, "amount": "12,0"}), "{"]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    capsys.readouterr()
    assert run(["emit", str(file), "--config", str(tmp_path / "shop" / "riskstream.toml"), "--check"]) == 1
    said = capsys.readouterr()
    assert f'{file}:3 $.amount: expected number of at least 0, got "12,0"' in said.err
    assert f"{file}:4 $: expected JSON" in said.err
    assert "1 well, 2 rejected" in said.out
