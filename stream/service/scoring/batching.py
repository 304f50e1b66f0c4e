"""Concurrent single requests scored together, within a bounded delay, one thing at a time.

While one batch is scored, the next one gathers by itself, so that the delay is only ever spent when
the service is idle; the default of 0 spends none: what arrived in one turn of the event loop is scored together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from features.core.errors import RetriableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class SerialExecutor:
    """Runs everything that computes, one piece of work at a time, and `before` ahead of each piece.

    Long work, and work that waits for Redis, has a thread of its own, so that the event loop stays free to read
    requests. Short work is done at once in the event loop, if nothing else is under way: scoring a few rows
    takes less than the hop to another thread and back.
    """

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._busy = threading.Lock()

    async def run(self, work: Callable[[], Result], *, short: bool = False) -> Result:
        """The result of `work`, which is never called while other work of the executor runs."""
        if short and self._busy.acquire(blocking=False):
            try:
                self._before()
                return work()
            finally:
                self._busy.release()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._alone, work)

    def close(self) -> None:
        """Let what runs end, and stop the thread."""
        self._thread.shutdown(wait=True)

    def _alone(self, work: Callable[[], Result]) -> Result:
        with self._busy:
            self._before()
            return work()


class Batcher(Generic[Item, Answer]):
    """Gathers items and hands them to `score`, which answers one result, or one error, an item.

    `short` says of a batch whether scoring it is short work (see SerialExecutor). At most `most_waiting` items wait;
    beyond that `submit` raises RetriableError at once rather than queue what would time out.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        executor: SerialExecutor,
        *,
        max_batch: int,
        delay: float,
        short: Callable[[Sequence[Item]], bool] = lambda _: False,
        most_waiting: int = 10_000,
    ) -> None:
        self._score = score
        self._executor = executor
        self._max_batch = max_batch
        self._delay = delay
        self._short = short
        self._most_waiting = most_waiting
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """The answer for one item; raises what scoring it raised."""
        if len(self._waiting) >= self._most_waiting:
            raise RetriableError("too many requests are waiting to be scored")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                if self._delay > 0 and len(self._waiting) < self._max_batch:
                    await asyncio.sleep(self._delay)
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                await self._answer(batch)
        finally:
            self._task = None

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        items = [item for item, _ in batch]
        try:
            answers: Sequence[Answer | Exception] = await self._executor.run(
                lambda: self._score(items), short=self._short(items)
            )
        except Exception as error:  # every caller of the batch must hear of it, whatever it is
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
