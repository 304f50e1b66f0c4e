"""The servers that the other tests stand on do what their names say."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer

from tests.servers.kafka_jars import ServerMissing
from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer


def read_all(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{topic}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topic])
    values: list[bytes] = []
    while len(values) < count:
        message = consumer.poll(30)
        assert message is not None and message.error() is None
        values.append(message.value() or b"")
    consumer.close()
    return values


def test_kafka_has_transactions(kafka, make_topic):
    topic = make_topic(partitions=2)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(30)
    for value, end in (
        (b"aborted", producer.abort_transaction),
        (b"committed", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush()
        end(30)
    assert read_all(kafka, topic, 1) == [b"committed"]


def test_killed_broker_comes_back_on_its_port_with_its_data(kafka_server):
    if not isinstance(kafka_server, KafkaServer):
        pytest.skip("brokers run in containers here")
    with KafkaServer() as server:
        topic = server.make_topic()
        producer = Producer({"bootstrap.servers": server.bootstrap, "acks": "all"})
        producer.produce(topic, b"before")
        assert producer.flush(30) == 0
        server.kill()
        assert not server.running
        server.start()
        assert read_all(server.bootstrap, topic, 1) == [b"before"]


def test_redis_forgets_keeps_and_goes_back(redis_server):
    server = redis_server()
    if not isinstance(server, RedisServer):
        pytest.skip("Redis runs in containers here")
    with server.client() as client:
        client.set("a", 1)
        snapshot = server.snapshot()
        client.set("a", 2)
    server.restore(snapshot)
    with server.client() as client:
        assert client.get("a") == b"1"
    server.restore(None)
    with server.client() as client:
        assert client.get("a") is None


def test_persistent_redis_survives_a_restart(redis_server):
    server = redis_server(persist=True, password="secret")
    with server.client() as client:
        client.set("a", 1)
    server.restart()
    with server.client() as client:
        assert client.get("a") == b"1"


def test_missing_server_says_what_to_install():
    with pytest.raises(ServerMissing, match="apt-get install redis-server"):
        RedisServer(binary="no-such-server")
