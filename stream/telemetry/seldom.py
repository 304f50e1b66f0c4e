"""Warnings that would come again and again, once a minute.

While a server is away every attempt fails in the same way; a line for each would bury all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

EVERY_S = 60.0


class Seldom:
    """Writes a warning at most once a minute for each kind; `left_out` counts those in between."""

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._written: dict[tuple[str, object], float] = {}
        self._left_out: dict[tuple[str, object], int] = {}

    def warning(self, event: str, kind: object = None, **fields: object) -> None:
        """Warn of an event; `kind` tells causes apart that are each worth a line."""
        key, now = (event, kind), self._clock()
        if key in self._written and now - self._written[key] < EVERY_S:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        self._written[key] = now
        if left_out := self._left_out.pop(key, 0):
            fields["left_out"] = left_out
        self._log.warning(event, **fields)
