"""The worker: consumes, scores, publishes, commits, and recovers (PROTOCOL 2 and 5).

While one batch is delivered, the next is fetched and decoded, never folded (PROTOCOL 2.2).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress

from confluent_kafka import TopicPartition

from features.core.errors import FatalError, RetriableError
from features.engine.prepared import Prepared
from features.state.cold_reads import ColdRead
from features.store.base import StoreUnavailable
from stream.codecs.dead_letters import limit_of
from stream.codecs.messages import PartitionId
from stream.kafka.batches.commits import CommitPipeline
from stream.kafka.batches.order import Sequencer
from stream.kafka.batches.progress import Progress
from stream.kafka.batches.scored import Decoded, ScoredBatch
from stream.kafka.client.consumer import Fetched, Leaving, Reached
from stream.kafka.worker import recovery
from stream.kafka.worker.intake import Intake
from stream.kafka.worker.phase import Phase
from stream.kafka.worker.wiring import Connected
from stream.telemetry.logs import logger
from stream.telemetry.metrics import Metrics
from stream.telemetry.moments import point
from stream.telemetry.seldom import Seldom

_log = logger("worker")
_warnings = Seldom(_log)
_IDLE = 0.1
_QUIET = 0.05
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_LONGEST_AFTER = 7
_DRAIN_SECONDS = 10.0
_REVOKE_FLUSH_SECONDS = 2.0
_GIVE_UP_AFTER = 20


class Worker:
    """Works until `stop` is set, which is safe from any thread and from a signal handler. The clients are the caller's.

    `between` is called before each unit of work by the thread that scores: there models may be swapped. `recall` is
    called in each recovery, when no transaction of this worker is open any more.
    """

    def __init__(
        self,
        clients: Connected,
        stop: threading.Event,
        metrics: Metrics | None = None,
        between: Callable[[], None] | None = None,
        recall: Callable[[], None] | None = None,
    ) -> None:
        self.clients = clients
        self.recall = recall
        self._between = between
        self._stop = stop
        self._scoring = clients.scoring
        self._settings = clients.scoring.config.worker
        self._state, self._flusher = clients.scoring.state, clients.scoring.flusher
        self._processor = clients.scoring.processor
        self._consumer = clients.consumer
        self._phase = Phase.WAITING
        self._partitions: list[PartitionId] = []
        self._intake = Intake(clients.consumer, self._settings, stop)
        self._failures = 0
        self.progress = Progress(metrics or Metrics(), self._settings.log_interval_s)
        self._pipeline = CommitPipeline(clients.delivery, clients.commits, self._delivered, self._committed)
        self._sequencer = Sequencer(
            self._consumer, wait_ms=self._settings.order_wait_ms, batch_size=self._settings.batch_size
        )
        self._limit = limit_of(self._settings)

    @property
    def ready(self) -> bool:
        """Whether events are scored now: partitions are ours and recovered, and the store answers."""
        return self._phase is Phase.LIVE and not self._flusher.down

    def run(self) -> None:
        """Work until `stop`; raises what it cannot go on with. What was scored is committed and flushed."""
        try:
            self._consumer.subscribe(self._scoring.sources, self._own, self._leave)
            _log.info("started", delivery=self._settings.delivery, ordinal=self._settings.ordinal)
            while not self._stop.is_set():
                self._step_safely()
            self._drain()
        except BaseException:
            self._forget()  # leaving the group flushes what is there, and a batch may be folded but not committed
            raise
        finally:
            self._pipeline.close()

    # -- steps ---------------------------------------------------------------------------------

    def _step_safely(self) -> None:
        try:
            self._step()
        except RetriableError as error:
            self._failures += 1
            if isinstance(error, StoreUnavailable):  # Redis may be away for long
                self._failures = min(self._failures, _LONGEST_AFTER)
            if self._failures > _GIVE_UP_AFTER:
                raise FatalError(f"gave up after {self._failures} attempts: {error}") from error
            self._start_over(error)

    def _step(self) -> None:
        self._flusher.check()
        if self._phase is Phase.RECOVERING:
            self._recover()
        elif self._phase is Phase.WAITING:
            self._consumer.fetch(1, _IDLE)
        elif self._phase is Phase.REPLAYING:
            self._replay()
        else:
            self._work()
        if self.progress.due:
            self.progress.report(self._scoring, self._consumer.lag(), live=self._phase is Phase.LIVE)

    def _recover(self) -> None:
        self.clients.delivery.reset()
        if self.recall is not None:
            self.recall()
        point("in_recover")
        self._sequencer.clear(self._partitions)
        complete = recovery.begin(self.clients, self._partitions)
        self._phase = Phase.LIVE if complete else Phase.REPLAYING

    def _replay(self) -> None:
        """One muted batch."""
        committed = recovery.committed_offsets(self._scoring, self._partitions)
        if self._state.over_limit and not self._flusher.flush_now(_IDLE):
            self._hold_back(committed)
            return
        fetched = self._intake.below(committed)
        if fetched.rebalanced:
            return
        remaining = recovery.replay(self.clients, fetched, committed)
        self.progress.metrics.replay_remaining.set(remaining)
        if not self._state.replaying:
            self._phase = Phase.LIVE

    def _work(self) -> None:
        """One unit of work (PROTOCOL 2)."""
        # 1. Fetch. What came with a rebalance is thrown away.
        pipeline = self._pipeline
        fetched = self._intake.next(lambda: pipeline.waits, busy=pipeline.busy, holds=self._sequencer.holds)
        if fetched.rebalanced:
            return
        # 2. Take the group's metadata as of this fetch: it fences the commit.
        group = self._consumer.metadata() if fetched.count or self._sequencer.holds else None
        point("after_consume")
        # 3. Decode, and put into scoring order what no slower partition can still precede.
        decoded, reached = self._in_order(fetched)
        # 4. See the batch before delivered, and its offsets committed or on their way.
        self._finish_delivery()
        # 5. Wait while the store lags behind. This polls: the partitions may be gone afterwards.
        self._hold_back()
        if decoded is None or self._phase is not Phase.LIVE:
            if self._pipeline.all_committed:
                self._state.rest()
            return
        # 6. Load the rows that the cache lacks. While the store is away this polls too.
        if self._between is not None:
            self._between()
        self._limit.check(len(decoded.batch), decoded.letters)
        prepared = self._processor.prepare(decoded)
        read = self._load(prepared)
        if read is None:
            return
        # 7. Fold and decide. From here on an error means recovery: the cache has seen the batch.
        batch = self._processor.score(prepared, decoded, read)
        point("after_fold")
        # 8. Deliver and commit, beside this thread.
        batch.offsets, batch.group = self.clients.positions.offsets(reached), group
        self._pipeline.submit(batch)
        # 9. Stage the touched rows as of this batch's end, unless they were newer than what a commit under way covers.
        if not self._pipeline.committing:
            self._state.stage()

    def _in_order(self, fetched: Fetched) -> tuple[Decoded | None, Mapping[PartitionId, Reached]]:
        """What may be scored now, and how far that goes; the rest waits for slower partitions."""
        batches, letters = self._processor.by_source(fetched.raw) if fetched.count else ([], [])
        self._sequencer.put(batches, letters, fetched)
        if not self._sequencer.holds:
            return None, {}
        batch, settled_letters, reached = self._sequencer.take()
        decoded = Decoded(batch, settled_letters)
        return (decoded if decoded.count else None), reached

    def _finish_delivery(self) -> None:
        self._pipeline.join()
        self._pipeline.collect()
        if self._pipeline.due or self._state.staging:
            self._pipeline.commit_soon()
            self._pipeline.collect()

    def _delivered(self, batch: ScoredBatch, seconds: float) -> None:
        self._failures = 0
        self.progress.delivered(batch, seconds)

    def _committed(self, offsets: list[TopicPartition]) -> None:
        self._state.committed(
            {
                self._scoring.in_state((committed.topic, committed.partition)): committed.offset
                for committed in offsets
            }
        )

    def _load(self, prepared: Prepared) -> ColdRead | None:
        """What the batch needs of the store; None when it must be dropped, because it is not ours any more."""
        degrade = self._settings.on_redis_loss == "degrade"
        return recovery.load_patiently(
            self._state, prepared, self._intake.wait, self._intake.held, degrade=degrade
        )

    def _hold_back(self, limits: Mapping[PartitionId, int] | None = None) -> None:
        """Back-pressure: consume nothing while the store lags behind (PROTOCOL 3.4)."""
        with self._intake.held() if self._state.over_limit else nullcontext():
            while self._state.over_limit and self._intake.wait(_IDLE, limits):
                self._flusher.check()

    # -- partitions come and go ----------------------------------------------------------------

    def _own(self, partitions: list[PartitionId]) -> None:
        """These partitions are ours, and must be recovered before anything else."""
        self._partitions = partitions
        self._phase = Phase.RECOVERING if partitions else Phase.WAITING

    def _leave(self, kind: Leaving) -> None:
        """From inside a poll: end what is under way while it may still count (PROTOCOL 5.1)."""
        self.progress.metrics.rebalances.labels(kind).inc()
        try:
            if kind == "revoked":
                self._pipeline.join()
                if self._pipeline.commit():
                    self._flusher.flush_now(_REVOKE_FLUSH_SECONDS)
            else:
                self._pipeline.abandon()
                self.clients.delivery.reset()
        except RetriableError as error:
            _log.warning("unit of work was not committed", reason=str(error))
        finally:
            self._forget()
            self._own([])

    def _start_over(self, error: Exception) -> None:
        """Drop what the failed unit of work touched, then recover (PROTOCOL 2.5)."""
        _warnings.warning("recovering", type(error), reason=str(error), attempt=self._failures)
        self.progress.metrics.recoveries.labels(type(error).__name__).inc()
        self._forget()
        self._own(self._partitions)
        with suppress(RetriableError):  # what follows begins anew whatever comes of this
            self._consumer.start_at({})
            self._intake.waste(
                min(_FIRST_WAIT * 2 ** min(self._failures - 1, _LONGEST_AFTER - 1), _LONGEST_WAIT)
            )

    def _forget(self) -> None:
        """Drop what is not committed, and all state with it; waits for the batch in delivery."""
        self._pipeline.abandon()
        self._intake.clear()
        self._state.drop()

    # -- the end -------------------------------------------------------------------------------

    def _drain(self) -> None:
        try:
            flushed = self._finish(time.monotonic() + _DRAIN_SECONDS)
        except RetriableError as error:
            _log.warning("unit of work was not committed", reason=str(error))
            self._forget()
            flushed = False
        _log.info("stopped", events=self.progress.events, alerts=self.progress.alerts, flushed=flushed)

    def _finish(self, end: float) -> bool:
        self._pipeline.join()
        while self._pipeline.committing and time.monotonic() < end:
            self._intake.wait(_QUIET)
            self._pipeline.collect()
        return self._pipeline.commit() and self._flusher.flush_now(_DRAIN_SECONDS)
