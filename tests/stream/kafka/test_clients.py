"""Every client takes the project's properties of its role; a wrong one is a line that names table and property."""

from __future__ import annotations

import pytest

from features.core.errors import ConfigurationError
from stream.kafka.client import clients
from stream.settings.tables import Kafka

CONSUMERS = ("group", "offsets", "reader", "open_end", "follower", "redrive")
PRODUCERS = ("worker", "side", "tool", "redrive")


@pytest.mark.parametrize("role", CONSUMERS)
def test_a_misspelt_property_of_consumers_is_named_with_its_table(role: clients.ConsumerRole) -> None:
    kafka = Kafka(group_id="g", consumer={"fetch.wait.ms": 5})
    with pytest.raises(ConfigurationError, match=r"^kafka\.consumer: fetch\.wait\.ms: No such .*Fix: .*$"):
        clients.consumer(kafka, role)


@pytest.mark.parametrize("role", PRODUCERS)
def test_a_misspelt_property_of_producers_is_named_with_its_table(role: clients.ProducerRole) -> None:
    kafka = Kafka(group_id="g", producer={"lingr.ms": 5})
    with pytest.raises(ConfigurationError, match=r"^kafka\.producer: lingr\.ms: No such .*Fix: .*$"):
        clients.producer(kafka, role)


def test_a_misspelt_property_of_all_clients_is_named_with_its_table() -> None:
    kafka = Kafka(group_id="g", properties={"sasl.user": "me"})
    makers = (
        lambda: clients.admin(kafka),
        lambda: clients.consumer(kafka, "group"),
        lambda: clients.producer(kafka, "tool"),
    )
    for make in makers:
        with pytest.raises(ConfigurationError, match=r"^kafka\.properties: sasl\.user: No such "):
            make()


def test_a_property_that_the_client_calls_by_another_name_is_found() -> None:
    """librdkafka says `queue.buffering.max.ms` where the file says `linger.ms`."""
    with pytest.raises(ConfigurationError, match=r"^kafka\.producer: linger\.ms: Invalid value "):
        clients.producer(Kafka(producer={"linger.ms": "soon", "batch.size": 100_000}), "side")


def test_properties_that_contradict_each_other_name_one_of_them() -> None:
    kafka = Kafka(group_id="g", consumer={"max.poll.interval.ms": 1_000, "session.timeout.ms": 30_000})
    with pytest.raises(ConfigurationError, match=r"^kafka\.consumer: max\.poll\.interval\.ms: "):
        clients.consumer(kafka, "group")


def test_a_users_property_holds_unless_the_role_cannot_do_without_its_own() -> None:
    kafka = Kafka(
        group_id="g",
        properties={"client.rack": "a", "enable.auto.commit": True},
        consumer={"queued.min.messages": 7, "isolation.level": "read_uncommitted"},
        producer={"linger.ms": 3, "acks": "1"},
    )
    for role in CONSUMERS:
        settings = clients.consumer_settings(kafka, role)  # type: ignore[arg-type]
        assert (settings["client.rack"], settings["queued.min.messages"]) == ("a", 7)
        assert not settings["enable.auto.commit"]
        assert (settings["isolation.level"] == "read_uncommitted") == (role == "open_end")
    settings = clients.producer_settings(kafka, "worker", "g-0")
    assert (settings["linger.ms"], settings["acks"], settings["transactional.id"]) == (3, "all", "g-0")
