"""Bad input on a real broker: each goes to the dead-letter topic as it came, the good ones are scored."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from features.core.times import rfc3339
from stream.cli.app import run
from stream.codecs.dead_letters import from_record
from tests.stream.kafka.project import Project, stopped

NOW = time.time_ns() // 1000


def event(**changes: Any) -> dict[str, Any]:
    made = {
        "payment_id": "p-1",
        "paid_at": rfc3339(NOW),
        "card": {"token": "card-1"},
        "shop": "shop-7",
        "amount": 20.0,
        "country": "SE",
    }
    return {**made, **changes}


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "not JSON": ({"value": b"<xml/>"}, "$: expected JSON"),
    "not UTF-8": (
        {"value": as_bytes(event(country="?")).replace(b"?", b"\xe4")},
        "$: expected UTF-8, got byte 0xe4",
    ),
    "wrong type": (
        {"value": as_bytes(event(amount="12,0"))},
        '$.amount: expected number of at least 0, got "12,0"',
    ),
    "missing required field": ({"value": as_bytes(event(card={}))}, "$.card.token: expected a value"),
    "null key": ({"value": as_bytes(event()), "key": None}, "got a null key"),
    "NaN": (
        {"value": as_bytes(event(amount=float("nan")))},
        "$.amount: expected number of at least 0, got NaN",
    ),
    "infinite": (
        {"value": as_bytes(event(amount=float("inf")))},
        "$.amount: expected number of at least 0, got Inf",
    ),
    "too large a number": (
        {"value": as_bytes(event()).replace(b"20.0", b"1e400")},
        "$.amount: expected number",
    ),
    "years off": (
        {"value": as_bytes(event(paid_at="2009-01-03T18:15:05Z"))},
        "$.paid_at: expected an event at most 30d",
    ),
    "years ahead": (
        {"value": as_bytes(event(paid_at="2100-01-03T18:15:05Z"))},
        "$.paid_at: expected an event at most 1h",
    ),
    "no time": (
        {"value": as_bytes(event(paid_at="soon"))},
        "$.paid_at: expected time as ISO 8601 text, got another text",
    ),
    "1 MiB": ({"value": as_bytes(event(note="x" * (1 << 20)))}, "$: expected fewer than 1048576 bytes"),
    "deep nesting": (
        {"value": as_bytes(event(note=0)).replace(b": 0}", b": " + b"[" * 5000 + b"]" * 5000 + b"}")},
        "levels",
    ),
    "tombstone": ({"value": None}, "got a tombstone"),
    "empty": ({"value": b""}, "$: expected JSON"),
    "not an object": ({"value": b"[1, 2]"}, "$: expected object, got an array"),
}


@pytest.fixture
def project(tmp_path, kafka, redis_url) -> Project:
    return Project(tmp_path, kafka, redis_url)


def test_every_kind_of_bad_event_is_dead_lettered_and_the_rest_scored(project):
    # An unknown event type needs a source that has types.
    project.edit(
        '    amount="amount",',
        '    amount="amount", event_type="country", event_types=("SE", "NO"),',
        "definitions.py",
    )
    bad = {
        **BAD,
        "unknown event type": (
            {"value": as_bytes(event(country="XX"))},
            '$.country: expected one of "SE", "NO"',
        ),
    }
    messages: list[dict[str, Any]] = []
    for row, (message, _) in enumerate(bad.values()):
        headers = [("traceparent", b"00-%d" % row), ("empty", None)]
        messages.append({"key": b"card-1", "headers": headers, "partition": row % 2, **message})
        messages.append(
            {"key": b"card-1", "value": as_bytes(event(payment_id=f"p-{row}")), "partition": row % 2}
        )
    project.produce(messages)

    with project.worker() as worker:
        decisions = project.read("decisions", len(bad), worker)
        letters = project.read("dead-letters", len(bad), worker)
        assert stopped(worker) == 0

    assert {json.loads(one.value())["event_id"] for one in decisions} == {
        f"p-{row}" for row in range(len(bad))
    }
    assert len(decisions) == len(letters) == len(bad)
    found = {dict(one.headers())["traceparent"]: one for one in letters}
    for row, (name, (message, said)) in enumerate(bad.items()):
        record = found[b"00-%d" % row]
        letter = from_record(record.key(), record.value(), record.headers())
        assert letter is not None, name
        assert said in letter.error, name
        assert letter.place.startswith(f"{project.topic('payments')}[{row % 2}]@"), name
        assert (letter.key, letter.value) == (message.get("key", b"card-1"), message["value"]), name
        assert letter.headers == [("traceparent", b"00-%d" % row), ("empty", None)], name
    for word in ("12,0", "card-1", "shop-7"):
        assert word not in project.log(), "logs hold no personal data"


def test_a_bad_deployment_stops_the_worker_before_anything_is_committed(project):
    project.edit("[worker]", "[worker]\ndead_letter_consecutive = 50")
    project.produce([{"key": b"c", "value": b'{"v": 2}', "partition": 0} for _ in range(200)])
    with project.worker() as worker:
        assert worker.wait(180) == 2
    line = final_error(project.log())
    assert "events in a row could not be used" in line
    assert "worker.dead_letter_consecutive" in line
    assert "Traceback" not in project.log()
    group = Consumer({"bootstrap.servers": project.kafka, "group.id": project.name})
    (committed,) = group.committed([TopicPartition(project.topic("payments"), 0)], timeout=30)
    group.close()
    assert committed.offset < 200 - 50


def final_error(log: str) -> str:
    """The one line of a log that says why the process ended with 2: JSON, as every line before it."""
    lines = [json.loads(line) for line in log.splitlines() if '"exit_code"' in line]
    assert [line["exit_code"] for line in lines] == [2], log
    return str(lines[0]["event"])


def one_line(project: Project, *command: str) -> str:
    """The error line of a command that ends with 2 and shows no traceback."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "riskstream",
            *command,
            "--config",
            str(project.file),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return final_error(done.stderr)


WRONG = {
    "missing topic": ('dead_letters = "@-dead-letters"', 'dead_letters = "nowhere"', "topics.dead_letters"),
    "unreachable broker": (
        "${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}",
        "127.0.0.1:1",
        "kafka.bootstrap_servers",
    ),
    "unreachable Redis": ("${REDIS_URL:-redis://localhost:6379/0}", "redis://127.0.0.1:1/0", "redis"),
    "bad setting": ('delivery = "exactly_once"', 'delivery = "twice"', "worker.delivery"),
    "unknown setting": ("[worker]", "[worker]\nbatchsize = 3", "did you mean `worker.batch_size`?"),
    "unknown model": (
        'registry = "registry"',
        'registry = "registry"\nroutes = { payments = "fraud@champion" }',
        "models.routes.payments: model fraud@champion",
    ),
    "no definitions": (
        'definitions = "definitions.py"',
        'definitions = "other.py"',
        "project.definitions: ",
    ),
    "no policy": ('file = "policy.toml"', 'file = "other.toml"', "policy.file: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_environment_is_one_line_and_exit_code_2(project, name):
    old, new, said = WRONG[name]
    project.edit(old.replace("@", project.name), new)
    assert said in one_line(project, "worker")


def test_no_settings_at_all(tmp_path, capsys):
    assert run(["worker", "--config", str(tmp_path / "riskstream.toml")]) == 2
    assert "riskstream init DIR" in capsys.readouterr().err
