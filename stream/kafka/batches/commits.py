"""From scored to committed, beside the thread that consumes.

Three words say how far a batch has come, here and wherever progress is told:

    delivered   Kafka has acknowledged its outputs
    committed   Kafka has its offsets too, so it is never scored again
    staged      its rows are encoded as of its end; once it is committed they may go to the store

    submit -> join: delivered -> commit_soon -> collect: committed
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from confluent_kafka import TopicPartition

from stream.codecs.messages import PartitionId
from stream.kafka.batches.delivery import Delivery, OffsetCommits
from stream.kafka.batches.scored import ScoredBatch


class CommitPipeline:
    """One batch in delivery, and one commit under way, at a time. All but the delivery runs in the caller's thread.

    `commits` is None where a delivery commits too. `delivered` is called with each batch and the seconds that it took,
    `committed` with offsets once Kafka has them.
    """

    def __init__(
        self,
        delivery: Delivery,
        commits: OffsetCommits | None,
        delivered: Callable[[ScoredBatch, float], None],
        committed: Callable[[list[TopicPartition]], None],
    ) -> None:
        self._delivery = delivery
        self._commits = commits
        self._delivered = delivered
        self._committed = committed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._in_delivery: tuple[ScoredBatch, Future[float]] | None = None
        # Next offset of each partition of batches that are delivered and in no commit yet.
        self._uncommitted: dict[PartitionId, TopicPartition] = {}
        self._under_way: tuple[Future[None], list[TopicPartition]] | None = None
        self._commit_began = 0.0

    @property
    def busy(self) -> bool:
        """Whether a batch was submitted and not joined."""
        return self._in_delivery is not None

    @property
    def waits(self) -> bool:
        """Whether `join` would wait."""
        return self._in_delivery is not None and not self._in_delivery[1].done()

    @property
    def all_committed(self) -> bool:
        """Whether everything that was submitted is committed."""
        return not self.busy and not self._uncommitted and not self.committing

    @property
    def committing(self) -> bool:
        """Whether a commit is under way. No rows are staged meanwhile: they would be newer than what it commits."""
        return self._under_way is not None

    @property
    def due(self) -> bool:
        """Whether it is time to commit what was delivered."""
        return self._commits is not None and time.monotonic() - self._commit_began >= self._commits.every_s

    def submit(self, batch: ScoredBatch) -> None:
        """Deliver a batch in another thread; `join` comes before the next."""
        self._in_delivery = batch, self._pool.submit(self._deliver, batch)

    def _deliver(self, batch: ScoredBatch) -> float:
        begun = time.monotonic()
        self._delivery.deliver(batch)
        return time.monotonic() - begun

    def join(self) -> None:
        """Wait until the submitted batch is delivered; raises what prevented it."""
        if self._in_delivery is None:
            return
        batch, delivery = self._in_delivery
        seconds = delivery.result()
        self._in_delivery = None
        self._delivered(batch, seconds)
        if self._commits is None:
            self._committed(batch.offsets)
        else:
            self._uncommitted.update({(offset.topic, offset.partition): offset for offset in batch.offsets})

    def commit_soon(self) -> None:
        """Begin to commit what was delivered, unless a commit is under way; `collect` takes its answer."""
        if self._commits is None or self.committing or not self._uncommitted:
            return
        offsets = list(self._uncommitted.values())
        self._uncommitted.clear()
        self._commit_began = time.monotonic()
        self._under_way = self._commits.commit_soon(offsets), offsets

    def collect(self) -> None:
        """Take the answer of the commit under way, if it has come; raises what prevented the commit."""
        if self._under_way is None or not self._under_way[0].done():
            return
        (answer, offsets), self._under_way = self._under_way, None
        answer.result()
        self._committed(offsets)

    def commit(self) -> bool:
        """Commit what was delivered, and wait. False beside a commit under way: then neither counts as committed.

        The client might send that one again; it would come last, and Kafka would hold less than we believed.
        """
        self.collect()
        certain = not self.committing
        if self._commits is not None and self._uncommitted:
            offsets = list(self._uncommitted.values())
            self._commits.commit(offsets)
            self._uncommitted.clear()
            if certain:
                self._committed(offsets)
        return certain

    def abandon(self) -> None:
        """Wait for the delivery under way, whatever comes of it, and forget what was not committed."""
        in_delivery, self._in_delivery = self._in_delivery, None
        self._uncommitted.clear()
        self._under_way = None
        if in_delivery is not None:
            in_delivery[1].exception()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
