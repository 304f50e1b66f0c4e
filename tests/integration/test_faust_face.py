"""The Faust face on real Kafka decides as the worker does, across a restart; the kill is in `make faust-agrees`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.stream.kafka.project import LOG, Project

EVENTS = 60
SAME = ("alert_id", "event_id", "features", "score", "reasons", "decision", "rules", "entity_keys", "alert")


@contextmanager
def faust(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "from stream.cli import main; main()", "faust", "--config"]
    with (project.folder / LOG).open("a") as log:
        process = subprocess.Popen(
            [*command, str(project.file)],
            env={**os.environ, **project.environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def messages(project: Project) -> list[dict[str, Any]]:
    """Payments of three cards, the last ones of a card dear."""
    event = json.loads((project.folder / "event.json").read_text())
    made = []
    for number in range(EVENTS):
        card = f"card-{number % 3}"
        one = {**event, "payment_id": f"p{number}", "amount": 10.0 + number * (40 if number > 40 else 1)}
        made.append({"key": card, "value": json.dumps({**one, "card": {**event["card"], "token": card}})})
    return made


def decided(project: Project, count: int, running: subprocess.Popen[bytes]) -> dict[str, dict[str, Any]]:
    records = [json.loads(one.value() or b"{}") for one in project.read("decisions", count, running)]
    return {one["event_id"]: {name: one[name] for name in SAME} for one in records}


def test_the_same_decisions_as_the_worker(tmp_path: Path, kafka: str, redis_url: str) -> None:
    by_worker, by_faust = (Project(tmp_path, kafka, redis_url) for _ in range(2))
    sent = messages(by_worker)
    with by_worker.worker() as worker:
        by_worker.produce(sent)
        expected = decided(by_worker, EVENTS, worker)
    half = EVENTS // 2
    with faust(by_faust) as process:
        by_faust.produce(sent[:half])
        assert len(decided(by_faust, half, process)) == half
    with faust(by_faust) as process:
        by_faust.produce(sent[half:])
        found = decided(by_faust, EVENTS, process)
    assert found == expected
    assert any(one["alert"] for one in expected.values())


def test_an_edited_policy_is_taken_up(tmp_path: Path, kafka: str, redis_url: str) -> None:
    project = Project(tmp_path, kafka, redis_url)
    sent = messages(project)
    file = project.folder / "policy.toml"
    with faust(project) as process:
        project.produce(sent[:1])
        (first,) = project.read("decisions", 1, process)
        file.write_text(file.read_text() + "\n# edited\n")
        for number in range(1, EVENTS):
            project.produce(sent[number : number + 1])
            records = project.read("decisions", number + 1, process)
            policies = {json.loads(one.value() or b"{}")["policy"] for one in records}
            if len(policies) == 2:
                break
    assert len(policies) == 2
    assert json.loads(first.value() or b"{}")["policy"] in policies
