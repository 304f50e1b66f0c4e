"""Calls that may never return, made in a thread that can be given up.

librdkafka looks up a group's coordinator without a time-out: after a broker's restart
`send_offsets_to_transaction` may wait for ever, whatever time-out it is given (rdkafka_coord.c: the request's
time is kept and never looked at; some failed lookups are tried again only when a connection changes).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

_Call = tuple[Future[None], Callable[[], object]]


class NoReturn(Exception):
    """The call had not returned in time; whether it has an effect is unknown."""


class BoundedCall:
    """One thread for one call at a time; after `NoReturn` the next call gets a new thread."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] | None = None

    def call(self, step: Callable[[], object], seconds: float) -> None:
        """Call `step` and wait at most `seconds` for it; raises what it raises, or NoReturn."""
        calls = self._calls
        if calls is None:
            calls = self._calls = SimpleQueue()
            threading.Thread(target=_serve, args=(calls,), name="bounded-call", daemon=True).start()
        done: Future[None] = Future()
        calls.put((done, step))
        try:
            done.result(seconds)
        except TimeoutError as error:
            self.close()
            raise NoReturn from error

    def close(self) -> None:
        """Let the thread end when it can."""
        if self._calls is not None:
            self._calls.put(None)
        self._calls = None


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        done, step = call
        try:
            step()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)
