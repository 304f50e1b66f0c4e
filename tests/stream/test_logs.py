"""Logs are JSON to the last line: what libraries say, errors that end a thread or the process, and nothing secret."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.cli.app import run
from stream.telemetry import logs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def configured() -> Iterator[None]:
    """Logging as a worker sets it up, undone afterwards."""
    handlers, level, hook = logging.root.handlers[:], logging.root.level, threading.excepthook
    shown = warnings.showwarning
    logs.configure("info")
    yield
    logging.captureWarnings(False)
    warnings.showwarning = shown
    logging.root.handlers[:], logging.root.level, threading.excepthook = handlers, level, hook
    logs.reset()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("configured")
def test_libraries_are_lines_and_repeat_themselves_once(capsys):
    library = logging.getLogger("rdkafka")
    for number in range(500):
        library.warning("%s [%s] %s", "FAIL", "rdkafka#consumer-1", f"connection refused {number}")
    library.warning("%s [%s] %s", "SESSTMOUT", "rdkafka#consumer-1", "another matter")
    first, second = lines(capsys.readouterr().err)
    assert (first["event"], first["level"]) == ("FAIL [rdkafka#consumer-1] connection refused 0", "warning")
    assert second["event"].startswith("SESSTMOUT")


@pytest.mark.usefixtures("configured")
def test_what_was_held_back_is_counted(capsys, monkeypatch):
    now = iter([0.0, 1.0, 2.0, 11.0])
    monkeypatch.setattr("stream.telemetry.logs.time.monotonic", lambda: next(now))
    for _ in range(4):
        logging.getLogger("rdkafka").error("broken")
    assert [line.get("repeated") for line in lines(capsys.readouterr().err)] == [None, 2]


@pytest.mark.usefixtures("configured")
def test_an_error_that_ends_a_thread_is_a_line_without_local_values(capsys):
    def work() -> None:
        card = "4111111111111111"
        raise RuntimeError(f"of {len(card)} characters")

    thread = threading.Thread(target=work, name="flusher")
    thread.start()
    thread.join()
    printed = capsys.readouterr().err
    (line,) = lines(printed)
    assert (line["thread"], line["exception"][0]["exc_type"]) == ("flusher", "RuntimeError")
    assert "4111" not in printed


def test_the_final_error_of_a_command_that_logs_is_a_line(tmp_path):
    (tmp_path / "riskstream.toml").write_text("[worker]\nbatchsize = 3")
    for command in (["worker"], ["api"], ["faust"]):
        done = subprocess.run(
            [sys.executable, "-m", "riskstream", *command, "--config", str(tmp_path / "riskstream.toml")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        last = lines(done.stderr)[-1]
        assert "did you mean `worker.batch_size`?" in last["event"]
        assert last["level"] == "error"


@pytest.mark.usefixtures("configured")
def test_a_command_after_one_that_logged_speaks_to_a_person_again(tmp_path, capsys):
    assert run(["worker", "--config", str(tmp_path / "nothing.toml")]) == 2
    assert lines(capsys.readouterr().err)
    assert run(["doctor", "--config", str(tmp_path / "nothing.toml")]) == 2
    assert capsys.readouterr().err.startswith("riskstream: ")
