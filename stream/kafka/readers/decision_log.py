"""The decisions topic as a bounded memory: what was decided of an event, and why.

Reads with a consumer of its own, outside any group, from the newest `capacity` records on; it commits
nothing. The index holds the last `capacity` decisions by event id; an older one is found in the topic by
`riskstream` tools, not here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import msgspec

from stream.kafka.readers.follow import FollowingReader
from stream.kafka.readers.log import TopicLog
from stream.settings.tables import Kafka
from stream.telemetry.logs import logger

_log = logger("decisions")


class _Id(msgspec.Struct):
    event_id: str


class DecisionLog:
    """Follows the decisions topic in a thread of its own."""

    def __init__(self, kafka: Kafka, topic: str, capacity: int) -> None:
        self._kafka = kafka
        self._topic = topic
        self._capacity = capacity
        self._by_event: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._decoder = msgspec.json.Decoder(_Id)
        self._log: TopicLog | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow. Blocks until the topic is known; ConfigurationError when it is not there."""
        self._log = log = TopicLog(self._kafka, "follower")
        partitions = [(self._topic, number) for number in log.partitions(self._topic, "topics.decisions")]
        share = max(1, self._capacity // len(partitions))
        bounds = {partition: log.bounds(partition) for partition in partitions}
        reader = FollowingReader(
            log, {partition: max(low, high - share) for partition, (low, high) in bounds.items()}
        )
        self._thread = threading.Thread(target=self._follow, args=(reader,), name="decision-log", daemon=True)
        self._thread.start()

    def find(self, event_id: str) -> bytes | None:
        """The decision of an event as it was published (JSON), or None when it is not among the last ones."""
        with self._lock:
            return self._by_event.get(event_id)

    def close(self) -> None:
        """Stop following; may block for a second."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._log is not None:
            self._log.close()

    def _follow(self, reader: FollowingReader) -> None:
        while not self._stop.is_set():
            for message in reader.read():
                if (value := message.value()) is not None:
                    self._keep(value)

    def _keep(self, value: bytes) -> None:
        try:
            event_id = self._decoder.decode(value).event_id
        except msgspec.MsgspecError:
            _log.warning("a record of the decisions topic is no decision")
            return
        with self._lock:
            self._by_event[event_id] = value
            self._by_event.move_to_end(event_id)
            if len(self._by_event) > self._capacity:
                self._by_event.popitem(last=False)
