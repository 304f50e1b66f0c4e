"""Concurrent single requests scored together, within a bounded delay.

One thread does all scoring: the engine and the model runtime each use one core well, and the
event loop stays free to read requests. While one batch is scored, the next one gathers by itself,
so that the delay is only ever spent when the service is idle; the default of 0 spends none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from features.errors import RetriableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Batcher(Generic[Item, Answer]):
    """Gathers items and hands them to `score`, which answers one result, or one error, an item.

    `score` runs in the batcher's own thread, never twice at once. At most `most_waiting` items wait;
    beyond that `submit` raises RetriableError at once rather than queue what would time out.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        *,
        max_batch: int,
        delay: float,
        most_waiting: int = 10_000,
    ) -> None:
        self._score = score
        self._max_batch = max_batch
        self._delay = delay
        self._most_waiting = most_waiting
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def submit(self, item: Item) -> Answer:
        """The answer for one item; raises what scoring it raised."""
        if len(self._waiting) >= self._most_waiting:
            raise RetriableError("too many requests are waiting to be scored")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await future

    async def call(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the scoring thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Let the running batch end and stop the thread."""
        self._thread.shutdown(wait=True)

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
        loop = asyncio.get_running_loop()
        items = [item for item, _ in batch]
        try:
            answers: Sequence[Answer | Exception] = await loop.run_in_executor(
                self._thread, self._score, items
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
