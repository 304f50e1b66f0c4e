"""The decisions topic as a bounded memory: what was decided of an event, and why.

Reads with a consumer of its own, outside any group, from the newest `capacity` records on; it commits
nothing. The index holds the last `capacity` decisions by event id; an older one is found in the topic by
`riskstream` tools, not here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from features.core.errors import ConfigurationError
from stream.telemetry.logs import logger

_log = logger("decisions")
_TIMEOUT = 10.0


class _Id(msgspec.Struct):
    event_id: str


class DecisionLog:
    """Follows the decisions topic in a thread of its own."""

    def __init__(self, properties: Mapping[str, str | int | float | bool], topic: str, capacity: int) -> None:
        self._topic = topic
        self._capacity = capacity
        self._found: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._decoder = msgspec.json.Decoder(_Id)
        self._consumer = Consumer(
            {
                **properties,
                "group.id": "riskstream-decision-log",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "latest",
            }
        )
        self._thread = threading.Thread(target=self._follow, name="decision-log", daemon=True)

    def start(self) -> None:
        """Begin to follow. Blocks until the topic is known; ConfigurationError when it is not there."""
        try:
            listed = self._consumer.list_topics(self._topic, _TIMEOUT).topics[self._topic]
        except KafkaException as error:
            raise ConfigurationError(f"kafka.bootstrap_servers: {error.args[0].str()}") from error
        if listed.error is not None:
            raise ConfigurationError(
                f"topics.decisions {self._topic!r}: {listed.error.str()}; create it first"
            )
        share = max(1, self._capacity // len(listed.partitions))
        self._consumer.assign([self._start_of(number, share) for number in listed.partitions])
        self._thread.start()

    def find(self, event_id: str) -> bytes | None:
        """The decision of an event as it was published (JSON), or None when it is not among the last ones."""
        with self._lock:
            return self._found.get(event_id)

    def close(self) -> None:
        """Stop following; may block for a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _start_of(self, partition: int, share: int) -> TopicPartition:
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), _TIMEOUT)
        return TopicPartition(self._topic, partition, max(low, high - share) if high > low else OFFSET_END)

    def _follow(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(1000, 0.5):
                error = message.error()
                if error is not None:
                    _log.warning("decisions topic", error=error.str())
                    continue
                value = message.value()
                if value is not None:
                    self._keep(value)

    def _keep(self, value: bytes) -> None:
        try:
            event_id = self._decoder.decode(value).event_id
        except msgspec.MsgspecError:
            _log.warning("a record of the decisions topic is no decision")
            return
        with self._lock:
            self._found[event_id] = value
            self._found.move_to_end(event_id)
            if len(self._found) > self._capacity:
                self._found.popitem(last=False)
