"""The background thread that brings committed rows to the store (PROTOCOL 3).

One thread, one flush at a time: rows under way are never overtaken by a mark that claims them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from features.core.errors import FatalError, RiskstreamError
from features.state.slices import SliceState
from features.store.base import Store, StoreUnavailable

_SHORTEST_WAIT = 0.02
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
_HEALTH_EVERY = 60.0

Point = Callable[[str], None]


def _no_point(name: str) -> None:
    """Faults are for chaos tests."""


class Flusher:
    """Flushes what is pending `shards` times each `interval` seconds, at once when asked; backs off while it cannot.

    Rows come a shard at a time (features/state/schedule.py) and each once an interval; all flushed together would take
    both this process and the store from everything else for a tenth of a second.

    `point` is called with a name at the moments where a crash is interesting.
    """

    def __init__(
        self, state: SliceState, store: Store, interval: float, shards: int, point: Point = _no_point
    ) -> None:
        self._state = state
        self._store = store
        self._interval = max(interval / shards, _SHORTEST_WAIT)
        self._point = point
        self._wake = threading.Event()
        self._stopping = False
        self._turn = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._down_since: float | None = None
        self._checked = time.monotonic()
        self.failure: RiskstreamError | None = None
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)

    def start(self) -> None:
        """Begin to flush."""
        self._thread.start()

    @property
    def down(self) -> bool:
        """Whether the store did not answer the last time."""
        return self._down_since is not None

    def check(self) -> None:
        """Raise what the thread cannot go on with: lost writes, or a server that must not be used."""
        if self.failure is not None:
            raise self.failure
        self._state.check()

    def flush_now(self, seconds: float) -> bool:
        """Flush all that is committed; False when that did not end in time, or cannot.

        Called by the thread that scores, with nothing scored that is not committed.
        """
        end = time.monotonic() + seconds
        self._state.rest(now=True)
        while not self._state.settled:
            left = end - time.monotonic()
            if left <= 0 or self.down or self._state.refused or not self._running:
                return False
            self._round(left)
        return True

    @property
    def _running(self) -> bool:
        return self.failure is None and self._thread.is_alive()

    def _round(self, seconds: float) -> None:
        """Ask for a flush and wait until one that began later has ended."""
        with self._turn:
            self._asked += 1
            wanted = self._asked
            self._wake.set()
            self._turn.wait_for(lambda: self._answered >= wanted or self.down, seconds)

    def stop(self) -> None:
        """End the thread after the flush under way."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        wait = self._interval
        while not self._stopping and self.failure is None:
            self._wake.wait(wait)
            self._wake.clear()
            asked = self._asked
            try:
                self._flush(everything=asked > self._answered)
                self._down_since, wait = None, self._interval
            except StoreUnavailable:
                wait = _FIRST_WAIT if not self.down else min(wait * 2, _LONGEST_WAIT)
                self._down_since = self._down_since or time.monotonic()
            except RiskstreamError as error:
                self.failure = error
            except Exception as error:  # without this thread marks would stand still and nobody would say why
                self.failure = FatalError(f"flushing: {type(error).__name__}")
                self.failure.__cause__ = error
            with self._turn:
                self._answered = asked
                self._turn.notify_all()

    def _flush(self, *, everything: bool) -> None:
        now = time.monotonic()
        if self.down or now - self._checked > _HEALTH_EVERY:
            self._store.check_health()
            self._checked = now
        if self._state.degraded:
            self._store.check_health()
            self._state.restored = True
            return
        epoch, flushes = self._state.take_flushes(everything=everything)
        if not flushes:
            return
        self._point("before_flush")
        try:
            answers = self._store.flush(flushes)
        except BaseException:
            self._state.not_flushed(epoch, flushes)
            raise
        self._point("after_flush")
        self._state.flushed(epoch, flushes, answers)
