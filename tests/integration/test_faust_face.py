"""The Faust face on real Kafka decides as the worker does, across a restart; the kill is in `make faust-agrees`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from features.core.errors import FatalError
from stream.codecs.messages import RawMessage
from stream.faust.agent import open_face
from tests.stream.kafka.project import LOG, Project

EVENTS = 60
SAME = ("alert_id", "event_id", "features", "score", "reasons", "decision", "rules", "entity_keys", "alert")


@contextmanager
def faust(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "riskstream", "faust", "--config"]
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


class Agent:
    """What Faust's agent does with one partition, batch by batch."""

    def __init__(self, project: Project, sent: list[dict[str, Any]]) -> None:
        self.project, self.sent = project, sent
        self.partition = (project.topic("payments"), 0)
        self.closing = ExitStack()
        self.face = self.closing.enter_context(open_face(project.config))
        group = project.config.kafka.group_id
        self.group = Consumer({"bootstrap.servers": project.kafka, "group.id": group})

    def score(self, start: int, end: int) -> list[dict[str, Any]]:
        now = time.time_ns() // 1_000_000
        batch = [
            RawMessage(*self.partition, offset, now, one["key"].encode(), one["value"].encode())
            for offset, one in enumerate(self.sent[start:end], start)
        ]
        outputs = dict(self.face.score(batch, [self.partition]))
        decisions = [
            json.loads(record.value or b"") for record in outputs[self.project.config.topics.decisions]
        ]
        return [{name: one[name] for name in SAME} for one in decisions]

    def commit(self, offset: int) -> None:
        self.group.commit(offsets=[TopicPartition(*self.partition, offset)], asynchronous=False)
        self.face.committed({self.partition: offset})


@pytest.fixture
def agent(tmp_path: Path, kafka: str, redis_url: str) -> Iterator[Agent]:
    project = Project(tmp_path, kafka, redis_url, partitions=1)
    sent = messages(project)
    project.produce(sent)
    agent = Agent(project, sent)
    yield agent
    agent.group.close()
    agent.closing.close()


def test_partitions_that_go_with_a_batch_under_way_leave_nothing_of_it(agent: Agent) -> None:
    """Rows of a batch that is not committed must not be in Redis: whoever scores it again would see them."""
    for offset in range(20):  # the last ones so quickly that few shards have their turn of being staged
        agent.score(offset, offset + 1)
        agent.commit(offset + 1)
    first = agent.score(20, 40)
    agent.face.lose()
    assert agent.score(20, 40) == first


def test_a_log_that_begins_after_the_marks_is_refused(agent: Agent) -> None:
    agent.score(0, 20)
    agent.commit(20)
    agent.face.lose()
    agent.score(20, 40)
    agent.commit(40)
    agent.face.state.drop()  # a crash before the second flush
    agent.face._recovered = False
    begins = TopicPartition(*agent.partition, 30)
    admin = AdminClient({"bootstrap.servers": agent.project.kafka})
    admin.delete_records([begins])[begins].result(30)
    with pytest.raises(FatalError, match="the log begins at 30"):
        agent.score(40, 50)
