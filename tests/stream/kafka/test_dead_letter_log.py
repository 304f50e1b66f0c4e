"""`riskstream dlq` on a real broker."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from features.core.errors import ConfigurationError
from stream.cli.app import run
from stream.codecs.contracts import DeadLetter
from stream.codecs.dead_letters import to_record
from stream.kafka.readers.dead_letter_log import read, redrive
from stream.settings.config import Config, load


def letter(topic: str, offset: int, **changes: object) -> DeadLetter:
    made: dict[str, Any] = {
        "source": "payments",
        "stage": "decode",
        "path": "$.amount",
        "reason": 'expected number, got "12,0"',
        "topic": topic,
        "partition": offset % 2,
        "offset": offset,
        "timestamp_ms": 1_700_000_000_000 + offset,
        "key": b"k%d" % offset,
        "value": b"\xff%d" % offset,
        "headers": [("traceparent", b"00-1"), ("empty", None)],
    }
    return DeadLetter(**{**made, **changes})


@pytest.fixture
def project(kafka: str, make_topic: Callable[..., str], tmp_path: Path) -> tuple[Config, str]:
    origin, dead = make_topic(partitions=2), make_topic(partitions=2)
    (tmp_path / "riskstream.toml").write_text(
        f"[project]\nname = '{dead}'\n[kafka]\nbootstrap_servers = '{kafka}'\n[topics]\ndead_letters = '{dead}'\n"
    )
    return load(tmp_path / "riskstream.toml"), origin


def send(config: Config, letters: list[DeadLetter]) -> None:
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap_servers})
    for place, one in enumerate(letters):
        record = to_record(one)
        producer.produce(
            config.topics.dead_letters,
            record.value,
            record.key,
            partition=place % 2,
            headers=list(record.headers),
        )
    producer.produce(config.topics.dead_letters, b"something else", partition=0)
    assert producer.flush(30) == 0


def all_of(config: Config, topic: str) -> list[tuple]:
    consumer = Consumer(
        {
            "bootstrap.servers": config.kafka.bootstrap_servers,
            "group.id": "look",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(2)])
    found: list[tuple] = []
    ended: set[int] = set()
    while len(ended) < 2:
        message = consumer.poll(30)
        assert message is not None, "the broker fell silent"
        if message.error():
            ended.add(message.partition() or 0)
        else:
            found.append(
                (
                    message.partition(),
                    message.key(),
                    message.value(),
                    message.headers(),
                    message.timestamp()[1],
                )
            )
    consumer.close()
    return sorted(found)


def test_listed_and_shown_as_they_came(project, capsys):
    config, origin = project
    letters = [letter(origin, offset) for offset in range(5)]
    send(config, letters)
    assert sorted(found.letter.offset for found in read(config)) == list(range(5))
    assert {found.letter.offset: found.letter for found in read(config)} == dict(enumerate(letters))

    assert run(["dlq", "list", "--config", str(config.path)]) == 0
    said = capsys.readouterr().out
    assert "5  payments  $.amount  expected number" in said
    assert f'{origin}[1]@3 $.amount: expected number, got "12,0"' in said

    assert run(["dlq", "show", f"{origin}[1]@3", "--config", str(config.path)]) == 0
    said = capsys.readouterr().out
    assert "header   traceparent: 00-1" in said
    assert "(not text) ff33" in said

    assert run(["dlq", "show", "nowhere[0]@0", "--config", str(config.path)]) == 2
    assert "`riskstream dlq list` shows which there are" in capsys.readouterr().err


def test_redriven_once_byte_for_byte(project, capsys):
    config, origin = project
    letters = [letter(origin, offset) for offset in range(4)]
    cut = letter(origin, 9, value=random.Random(1).randbytes(50_000))
    send(config, letters)
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap_servers})
    record = to_record(cut, room=20_000)
    producer.produce(config.topics.dead_letters, record.value, record.key, headers=list(record.headers))
    assert producer.flush(30) == 0

    assert run(["dlq", "redrive", "--yes", "--config", str(config.path)]) == 0
    assert "4 sent back, 0 kept for later, 1 too long to be whole" in capsys.readouterr().out
    own = [("traceparent", b"00-1"), ("empty", None), ("riskstream-redriven", b"1")]
    expected = sorted((one.partition, one.key, one.value, own, one.timestamp_ms) for one in letters)
    assert all_of(config, origin) == expected

    again = redrive(config)
    assert (again.sent, again.kept, again.truncated) == (0, 0, 0)
    assert list(read(config)) == []
    assert len(list(read(config, everything=True))) == 5


def test_a_filter_keeps_the_others_for_later(project):
    config, origin = project
    send(config, [letter(origin, offset, path="$.amount" if offset % 2 else "$.card") for offset in range(6)])
    first = redrive(config, path="$.card")
    assert (first.sent, first.kept) == (3, 3)
    assert [found.letter.path for found in read(config)] == ["$.amount"] * 3
    second = redrive(config, source="another")
    assert (second.sent, second.kept) == (0, 3)
    third = redrive(config)
    assert (third.sent, third.kept) == (3, 0)
    assert sorted(row[1] for row in all_of(config, origin)) == [b"k%d" % offset for offset in range(6)]


def test_no_such_topic_and_no_such_broker(project, tmp_path):
    config, _ = project
    file = tmp_path / "other.toml"
    file.write_text(
        f"[kafka]\nbootstrap_servers = '{config.kafka.bootstrap_servers}'\n[topics]\ndead_letters = 'nope'"
    )
    with pytest.raises(ConfigurationError, match=r"topics\.dead_letters: topic 'nope' does not exist"):
        list(read(load(file)))
