"""The unit of work under way beside the thread that consumes, and what is delivered but not yet committed.

submit -> join: its results are with Kafka -> settle: its offsets are too, and state may be flushed
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from confluent_kafka import TopicPartition

from stream.kafka.consumer import Place
from stream.kafka.transaction import Delivery
from stream.kafka.unit import Unit


class Lane:
    """One unit of work at a time. All but the delivery itself runs in the caller's thread.

    `delivered` is told of each unit and its seconds, `committed` of offsets once Kafka has them.
    """

    def __init__(
        self,
        delivery: Delivery,
        delivered: Callable[[Unit, float], None],
        committed: Callable[[list[TopicPartition]], None],
    ) -> None:
        self._delivery = delivery
        self._delivered = delivered
        self._committed = committed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._running: Future[float] | None = None
        self._unit: Unit | None = None
        self._offsets: dict[Place, TopicPartition] = {}
        self._settled_at = 0.0

    @property
    def busy(self) -> bool:
        """Whether a unit of work was submitted and not joined."""
        return self._running is not None

    @property
    def done(self) -> bool:
        """Whether `join` would not wait."""
        return self._running is None or self._running.done()

    @property
    def settled(self) -> bool:
        """Whether nothing is under way or waits for its commit."""
        return self._running is None and not self._offsets

    @property
    def due(self) -> bool:
        """Whether what was delivered should be committed now."""
        return time.monotonic() - self._settled_at >= self._delivery.settle_every

    def submit(self, unit: Unit, metadata: object) -> None:
        """Deliver a unit of work in another thread; `join` comes before the next."""
        self._unit = unit
        self._running = self._pool.submit(self._deliver, unit, metadata)

    def _deliver(self, unit: Unit, metadata: object) -> float:
        begun = time.monotonic()
        self._delivery.deliver(unit.outputs, unit.offsets, metadata)
        return time.monotonic() - begun

    def join(self) -> None:
        """Wait for the unit of work under way; raises what kept it from being delivered."""
        running, unit = self._running, self._unit
        if running is None or unit is None:
            return
        seconds = running.result()
        self._running = self._unit = None
        self._offsets.update({(one.topic, one.partition): one for one in unit.offsets})
        self._delivered(unit, seconds)

    def settle(self) -> None:
        """Commit what was delivered; afterwards nothing is."""
        offsets = list(self._offsets.values())
        if not offsets:
            return
        self._delivery.finish(offsets)
        self._settled_at = time.monotonic()
        self._offsets.clear()
        self._committed(offsets)

    def abandon(self) -> None:
        """Wait for the unit of work under way, whatever comes of it, and forget what was not committed."""
        running, self._running, self._unit = self._running, None, None
        self._offsets.clear()
        if running is not None:
            running.exception()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
