"""The worker: consumes, scores, publishes, commits, and recovers (PROTOCOL 2 and 5).

    live      fetch -> decode -> (join the last commit) -> load -> score -> deliver in a thread -> fetch ...
    replay    fetch below C -> fold, muted
    waiting   no partitions, or Redis away: keep polling, so that the group stays

While one unit of work is delivered, the next is fetched and decoded, never folded (PROTOCOL 2.2).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Literal

from confluent_kafka import TopicPartition

from features.core.errors import FatalError, RetriableError
from features.store.base import Partition, Store, StoreUnavailable
from stream.codecs.dead_letters import DlqLimit
from stream.kafka.client.consumer import Fetched, Place, Reached
from stream.kafka.worker.assignment import Assignment
from stream.kafka.worker.commits import Lane
from stream.kafka.worker.order import Sequencer
from stream.kafka.worker.parts import connect
from stream.kafka.worker.progress import Progress
from stream.kafka.worker.unit import Decoded, Decoder, Unit
from stream.scoring.scorer import Scorer
from stream.scoring.warm_up import warm_up
from stream.settings.config import Config
from stream.telemetry.logs import logger
from stream.telemetry.metrics import Metrics
from stream.telemetry.moments import point

_log = logger("worker")
_IDLE = 0.1
_QUIET = 0.05
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_LONGEST_AFTER = 7
_DRAIN_SECONDS = 10.0
_REVOKE_FLUSH_SECONDS = 2.0
_GIVE_UP_AFTER = 20


class Worker:
    """Runs until `stop` is called. Scorer, store and decoders (by topic) are the caller's; it closes them.

    `between` is called before each unit of work by the thread that scores: there models may be swapped. `recall`,
    where set, is called in each recovery, when no transaction of this worker is open any more.
    """

    def __init__(
        self,
        config: Config,
        scorer: Scorer,
        store: Store,
        decoders: Mapping[str, Decoder],
        metrics: Metrics | None = None,
        between: Callable[[], None] | None = None,
    ) -> None:
        self._config = config
        self._scorer = scorer
        self._store = store
        self._decoders = decoders
        self._between = between
        self._settings = config.worker
        self._stop = threading.Event()
        self._closing = ExitStack()
        self._ahead: Fetched | None = None
        self._live = False
        self._failures = 0
        self.opened = False
        self.recall: Callable[[], None] | None = None
        self.progress = Progress(metrics or Metrics(), config.worker.log_interval_s)
        self.limit = DlqLimit(
            config.worker.dead_letter_ratio,
            config.worker.dead_letter_window,
            config.worker.dead_letter_consecutive,
        )

    def stop(self) -> None:
        """End after the running unit of work; safe from any thread and from a signal handler."""
        self._stop.set()

    @property
    def ready(self) -> bool:
        """Whether events are scored now: connected, recovered, Redis answers."""
        return self.opened and self._live and not self._flusher.down

    def run(self) -> None:
        """Work until `stop`; raises what it cannot go on with. What was scored is committed and flushed."""
        with self._closing:
            self._open()
            try:
                while not self._stop.is_set():
                    self._step_safely()
                self._drain()
            except BaseException:
                self._forget()  # leaving the group flushes what is there, and a batch may be folded but not committed
                raise

    # -- life ----------------------------------------------------------------------------------

    def _open(self) -> None:
        warm_up(self._scorer.plan, self._settings.shards)
        parts = self._closing.enter_context(connect(self._config, self._scorer, self._store, self._decoders))
        self._state, self._desk, self._flusher = parts.state, parts.desk, parts.flusher
        self._consumer, self._delivery, self._positions = parts.consumer, parts.delivery, parts.positions
        self._lane = Lane(parts.delivery, self._delivered, self._committed)
        self._closing.callback(self._lane.close)
        self._sequencer = Sequencer(
            self._consumer, wait_ms=self._settings.order_wait_ms, batch_size=self._settings.batch_size
        )
        self._assignment = Assignment(self._consumer, list(self._decoders), self._lose)
        self.opened = True
        _log.info("started", delivery=self._settings.delivery, ordinal=self._settings.ordinal)

    def _drain(self) -> None:
        try:
            done = self._finish(time.monotonic() + _DRAIN_SECONDS)
        except RetriableError as error:
            _log.warning("unit of work was not committed", reason=str(error))
            self._forget()
            done = False
        _log.info("stopped", events=self.progress.events, alerts=self.progress.alerts, flushed=done)

    def _finish(self, end: float) -> bool:
        self._lane.join()
        while self._lane.finishing and time.monotonic() < end:
            self._poll_ahead(_QUIET)
            self._lane.reap()
        return self._lane.settle() and self._flusher.flush_now(_DRAIN_SECONDS)

    # -- the loop ------------------------------------------------------------------------------

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
        if self._assignment.fresh:
            self._recover()
        elif not self._assignment.places:
            self._consumer.fetch(1, _IDLE)
        elif not self._live:
            self._replay()
        else:
            self._work()
        if self.progress.due:
            self._report()

    def _start_over(self, error: Exception) -> None:
        """Drop what the failed unit of work touched, then `recover` (PROTOCOL 2.5)."""
        _log.warning("recovering", reason=str(error), attempt=self._failures)
        self.progress.metrics.recoveries.labels(type(error).__name__).inc()
        self._forget()
        self._assignment.fresh = bool(self._assignment.places)
        with suppress(RetriableError):  # what follows begins anew whatever comes of this
            self._consumer.start_at({})
            self._wait(min(_FIRST_WAIT * 2 ** min(self._failures - 1, _LONGEST_AFTER - 1), _LONGEST_WAIT))

    def _wait(self, seconds: float) -> None:
        """Poll so that the group keeps us, consuming nothing that counts."""
        end = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < end:
            self._consumer.fetch(1, min(_IDLE, seconds))

    def _lose(self, kind: Literal["revoked", "lost"]) -> None:
        """PROTOCOL 5.1, from inside `consume`."""
        self.progress.metrics.rebalances.labels(kind).inc()
        try:
            if kind == "revoked":
                self._lane.join()
                if self._lane.settle():
                    self._flusher.flush_now(_REVOKE_FLUSH_SECONDS)
            else:
                self._lane.abandon()
                self._delivery.reset()
        except RetriableError as error:
            _log.warning("unit of work was not committed", reason=str(error))
        finally:
            self._forget()

    def _forget(self) -> None:
        """Drop what is not committed, and all state with it; waits for the unit of work under way."""
        self._lane.abandon()
        self._ahead = None
        self._state.drop()
        self._live = False

    # -- recovery (PROTOCOL 5) -----------------------------------------------------------------

    def _recover(self) -> None:
        self._delivery.reset()
        if self.recall is not None:
            self.recall()
        point("in_recover")
        starts = self._starts()
        self._assignment.fresh = False
        self._live = not self._state.replaying
        self._sequencer.clear(self._assignment.places)
        to_go = sum(one.committed - one.cursor for one in self._state.owned.values())
        _log.info("recovered" if self._live else "replaying", partitions=len(starts), events=to_go)
        if self._live:
            self._consumer.start_at(starts)
        else:
            self._consumer.start_at({place: at for place, at in starts.items() if at < self._limit(place)})

    def _starts(self) -> dict[Place, int]:
        places = self._assignment.places
        try:
            return self._positions.recover(places)
        except StoreUnavailable as error:
            if self._settings.on_redis_loss == "wait":
                raise
            _log.warning("degraded: scoring without state", reason=str(error))
            return self._positions.recover_blind(places)

    def _limit(self, place: Place) -> int:
        return self._state.owned[self._partition(place)].committed

    def _partition(self, place: Place) -> Partition:
        return self._positions.partition(place)

    def _replay(self) -> None:
        """One muted batch (PROTOCOL 5.5, 5.6)."""
        limits = {place: self._limit(place) for place in self._assignment.places}
        if self._state.over_limit and not self._flusher.flush_now(_IDLE):
            self._poll_ahead(_QUIET, limits)
            return
        fetched, self._ahead = self._ahead or Fetched(), None
        self._consumer.fetch(self._settings.batch_size, _IDLE, fetched, limits)
        if fetched.rebalanced:
            return
        point("in_replay")
        cursors = {place: reached.offset for place, reached in fetched.reached.items()}
        ended = {place for place, end in fetched.ends.items() if end >= limits[place]} | fetched.past_limit
        cursors.update({place: limits[place] for place in ended})
        named = {self._partition(place): cursor for place, cursor in cursors.items()}
        if fetched.count:
            decoded = self._desk.decode(fetched)
            self._state.replay(self._desk.prepare(decoded), named)
        else:
            self._state.advance(named)
        left = sum(max(0, one.committed - one.cursor) for one in self._state.owned.values())
        self.progress.metrics.replay_remaining.set(left)
        if not self._state.replaying:
            self._live = True
            self._consumer.start_at(limits)
            _log.info("replayed")
        elif ended:
            self._consumer.pause(ended)

    # -- unit of work (PROTOCOL 2) -------------------------------------------------------------

    def _work(self) -> None:
        fetched = self._fetch()
        if fetched.rebalanced:
            return
        metadata = self._consumer.metadata() if fetched.count or self._sequencer.holds else None
        point("after_consume")
        decoded, settled = self._in_order(fetched)
        self._lane.join()
        self._lane.reap()
        if self._lane.due or self._state.staging:
            self._lane.settle_soon()
            self._lane.reap()
        self._hold_back()
        if decoded is None or self._assignment.fresh or not self._live:
            if self._lane.settled:
                self._state.rest()
            return
        if self._between is not None:
            self._between()
        self.limit.check(len(decoded.batch), decoded.letters)
        prepared = self._desk.prepare(decoded)
        if not self._load(lambda: self._state.load(prepared)):
            return
        unit = self._desk.score(prepared, decoded)
        point("after_fold")
        unit.offsets = self._positions.offsets(
            {place: (reached.offset, reached.leader_epoch) for place, reached in settled.items()}
        )
        self._lane.submit(unit, metadata)
        if not self._lane.finishing:
            self._state.stage()

    def _in_order(self, fetched: Fetched) -> tuple[Decoded | None, Mapping[Place, Reached]]:
        """What may be scored now, and how far that goes; the rest waits for slower partitions."""
        parts, letters = self._desk.parts(fetched) if fetched.count else ([], [])
        self._sequencer.put(parts, letters, fetched)
        if not self._sequencer.holds:
            return None, {}
        batch, ripe, settled = self._sequencer.take()
        decoded = Decoded(batch, ripe)
        return (decoded if decoded.count else None), settled

    def _fetch(self) -> Fetched:
        """Whatever is there: one event when idle, thousands under load; more while a commit is under way."""
        size, running = self._settings.batch_size, self._lane.busy
        fetched, self._ahead = self._ahead or Fetched(), None
        if not running and not fetched.count:
            waits = self._settings.linger_ms / 1000 if self._sequencer.holds else _QUIET
            self._consumer.fetch(1, max(waits, 0.001), fetched)
        while not self._lane.done and fetched.count < size and not fetched.rebalanced:
            self._consumer.fetch(size - fetched.count, 0.001, fetched)
        if fetched.count < size and not fetched.rebalanced and (fetched.count or running):
            self._consumer.fetch(size - fetched.count, 0, fetched)
        return fetched

    def _delivered(self, unit: Unit, seconds: float) -> None:
        self._failures = 0
        self.progress.committed(unit, seconds)

    def _committed(self, offsets: list[TopicPartition]) -> None:
        self._state.committed({self._partition((one.topic, one.partition)): one.offset for one in offsets})

    def _load(self, load: Callable[[], None]) -> bool:
        """Read state; while Redis is away wait, polling. False when the batch must be dropped meanwhile."""
        wait = _FIRST_WAIT
        while True:
            try:
                load()
                return True
            except StoreUnavailable as error:
                if self._settings.on_redis_loss == "degrade":
                    _log.warning("degraded: scoring with the state at hand", reason=str(error))
                    self._state.degrade()
                    continue
                _log.warning("waiting for redis", reason=str(error))
            if not self._poll_ahead(wait):
                return False
            wait = min(wait * 2, _LONGEST_WAIT)

    def _hold_back(self) -> None:
        """Back-pressure: stop consuming while Redis lags behind (PROTOCOL 3.4)."""
        while self._state.over_limit and self._poll_ahead(_IDLE):
            self._flusher.check()

    def _poll_ahead(self, seconds: float, limits: Mapping[Place, int] | None = None) -> bool:
        """Let time pass but keep polling, an event at most, kept for later; False after a rebalance or `stop`."""
        ahead = self._consumer.fetch(1, seconds, self._ahead, limits)
        # Kept, it would spoil what is fetched after the recovery: all of it is thrown away with the batch.
        self._ahead = None if ahead.rebalanced else ahead
        return self._ahead is not None and not self._stop.is_set()

    def _report(self) -> None:
        engine = self._scorer.engine
        cache, pending = engine.memory_bytes(), self._state.pending_bytes
        self.progress.state(cache, pending, self._state.cold.keys_read, not self._flusher.down)
        self.progress.line(
            self._consumer.lag(),
            cache_mb=round(cache / 2**20, 1),
            pending_kb=round(pending / 2**10, 1),
            live=self._live,
            redis="down" if self._flusher.down else "up",
        )
