"""What the worker fetches, and how it lets time pass without leaving the group or filling its memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from stream.codecs.messages import PartitionId
from stream.kafka.client.consumer import Fetched, InputConsumer
from stream.settings.tables import WorkerSettings

_IDLE = 0.1
_QUIET = 0.05


class Intake:
    """Fetches batches. Messages that come while time passes are kept for the next batch."""

    def __init__(self, consumer: InputConsumer, settings: WorkerSettings, stop: threading.Event) -> None:
        self._consumer = consumer
        self._size = settings.batch_size
        self._linger = settings.linger_ms / 1000
        self._stop = stop
        self._ahead: Fetched | None = None

    def clear(self) -> None:
        """Forget what came while time passed."""
        self._ahead = None

    def below(self, limits: Mapping[PartitionId, int]) -> Fetched:
        """A batch of messages below a limit of each partition, for a replay."""
        fetched, self._ahead = self._ahead or Fetched(), None
        return self._consumer.fetch(self._size, _IDLE, fetched, limits)

    def next(self, delivering: Callable[[], bool], *, busy: bool, holds: bool) -> Fetched:
        """Whatever is there: one event when idle, thousands under load; more for as long as a batch is `delivering`.

        `busy` says that one is in delivery, `holds` that events wait for their turn already.
        """
        size = self._size
        fetched, self._ahead = self._ahead or Fetched(), None
        if not busy and not fetched.count:
            self._consumer.fetch(1, max(self._linger if holds else _QUIET, 0.001), fetched)
        while delivering() and fetched.count < size and not fetched.rebalanced:
            self._consumer.fetch(size - fetched.count, 0.001, fetched)
        if fetched.count < size and not fetched.rebalanced and (fetched.count or busy):
            self._consumer.fetch(size - fetched.count, 0, fetched)
        return fetched

    def held(self) -> AbstractContextManager[None]:
        """Inside, polling goes on and nothing new is fetched: memory stays as it is."""
        return self._consumer.held()

    def wait(self, seconds: float, limits: Mapping[PartitionId, int] | None = None) -> bool:
        """Let time pass but keep polling; what still comes is kept for later. False after a rebalance or `stop`."""
        end = time.monotonic() + seconds
        while not self._stop.is_set():
            remaining = end - time.monotonic()
            ahead = self._consumer.fetch(1, max(0.0, min(_IDLE, remaining)), self._ahead, limits)
            # Kept, it would spoil what is fetched after the recovery: all of it is thrown away with the batch.
            self._ahead = None if ahead.rebalanced else ahead
            if ahead.rebalanced:
                return False
            if remaining <= _IDLE:
                return True
        return False

    def waste(self, seconds: float) -> None:
        """Let time pass and keep nothing: whatever comes is consumed again after the recovery that follows."""
        end = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < end:
            self._consumer.fetch(1, min(_IDLE, seconds))
