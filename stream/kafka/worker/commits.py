"""The unit of work under way beside the thread that consumes, and what is delivered but not yet committed.

submit -> join: its results are with Kafka -> settle_soon -> reap: its offsets are too, and state may be flushed
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from confluent_kafka import TopicPartition

from stream.kafka.client.consumer import Place
from stream.kafka.worker.delivery import Delivery
from stream.kafka.worker.unit import Unit


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
        self._finishing: tuple[Future[None], list[TopicPartition]] | None = None
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
        return self._running is None and not self._offsets and self._finishing is None

    @property
    def finishing(self) -> bool:
        """Whether a commit is under way: until it is reaped nothing is staged, for it would tell of less."""
        return self._finishing is not None

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

    def settle_soon(self) -> None:
        """Begin to commit what was delivered, unless such a commit is under way; `reap` is told of its end."""
        if self._finishing is not None or not self._offsets:
            return
        offsets = list(self._offsets.values())
        self._offsets.clear()
        self._settled_at = time.monotonic()
        self._finishing = self._delivery.finish_soon(offsets), offsets

    def reap(self) -> None:
        """Take the answer of the commit under way, if it is there; raises what kept it from being done."""
        if self._finishing is None or not self._finishing[0].done():
            return
        (answer, offsets), self._finishing = self._finishing, None
        answer.result()
        self._committed(offsets)

    def settle(self) -> bool:
        """Commit what was delivered and wait. False, and `committed` is not told, beside a commit under way: should
        the client send that one again, it would come last and Kafka would know less than was told.
        """
        self.reap()
        offsets, sure = list(self._offsets.values()), self._finishing is None
        if offsets:
            self._delivery.finish(offsets)
            self._offsets.clear()
            if sure:
                self._committed(offsets)
        return sure

    def abandon(self) -> None:
        """Wait for the unit of work under way, whatever comes of it, and forget what was not committed."""
        running, self._running, self._unit = self._running, None, None
        self._offsets.clear()
        self._finishing = None
        if running is not None:
            running.exception()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
