"""State of the slices that this worker owns: PROTOCOL 3, 4 and 5 without Kafka.

One thread (the worker's) calls everything but `take_flushes`, `flushed` and `not_flushed`, which the
flusher calls from its own. What the worker may know of Redis is in here: committed offsets C, bases,
pending rows. The rows themselves live in the engine.

    recover -> (replay ...) -> load, score, stage, committed -> load, score, stage, committed -> ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from features.core.batch import Bools, Ints
from features.core.errors import RetriableError
from features.state.cold_reads import ColdRead, ColdReader, LostWrites, NotOurs
from features.state.owned import Owned, Position, StateSettings
from features.state.pending import PartitionShard, PendingRows, Rows
from features.state.schedule import FlushSchedule
from features.store.base import LOST, Flush, Partition, StateManifest, Store

if TYPE_CHECKING:
    from features.engine.prepared import DirtyRun, Prepared
    from features.engine.row_engine import RowEngine

Staged = tuple[PartitionShard, Rows, int]
"""Rows of one partition and shard, and the number of their bytes."""


class SliceState:
    """Loads, flushes and recovers the engine's rows."""

    def __init__(
        self,
        engine: RowEngine,
        store: Store,
        partitions: Mapping[str, int],
        settings: StateSettings,
        now_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._now_ms = now_ms
        self._owned: dict[Partition, Owned] = {}
        self._pending = PendingRows()
        self._staged: tuple[Bools, list[Staged]] | None = None
        self._schedule = FlushSchedule(engine.shards, settings.stage_ms)
        self._lock = threading.Lock()
        self._epoch = 0
        self.refused = False
        self.degraded = False
        self.restored = False
        self._evictable = np.full(engine.shards, np.iinfo(np.int64).max)
        self.cold = ColdReader(engine, store, partitions, settings, now_ms, self._lock)

    # -- assignment (PROTOCOL 5) ---------------------------------------------------------------

    def claim(self, manifest: StateManifest) -> None:
        """Refuse to start on servers or state that are not as they must be (PROTOCOL 0.1, 0.4)."""
        self._store.check_health()
        self._store.open(manifest)

    def drop(self) -> None:
        """Forget rows, pending and bases of all partitions (PROTOCOL 5.1). Flushes under way may finish."""
        with self._lock:
            self._epoch += 1
            self._owned = {}
            self._pending.clear()
            self._staged = None
            self._schedule = FlushSchedule(self._engine.shards, self._settings.stage_ms)
            self.refused = False
            self.degraded = self.restored = False
        self._engine.drop_all()
        self.cold.own({})

    def recover(self, positions: Mapping[Partition, Position]) -> dict[Partition, int]:
        """Start anew from what Kafka committed (PROTOCOL 5.4): where each partition must be consumed from.

        NotOurs when a mark is above C: the caller asks Kafka once more.
        """
        self.drop()
        marks = self._store.marks()
        owned: dict[Partition, Owned] = {}
        for partition, position in positions.items():
            stored = [shard.get(partition) for shard in marks]
            base = np.array([position.origin if mark is None else mark.offset for mark in stored], np.int64)
            if base.max() > position.committed:
                raise NotOurs(partition, int(base.max()))
            start = int(base.min())
            staged = np.full(len(base), start, np.int64)
            owned[partition] = Owned(position.committed, position.origin, start, staged, base)
        with self._lock:
            self._owned = owned
        self.cold.own(owned)
        return {partition: one.cursor for partition, one in owned.items()}

    def recover_blind(self, positions: Mapping[Partition, Position]) -> dict[Partition, int]:
        """Begin at C without any state, while the store is away (PROTOCOL 5.7): all features are flagged."""
        self.drop()
        nothing = np.zeros(self._engine.shards, np.int64)
        owned = {
            partition: Owned(
                one.committed, one.origin, one.committed, nothing + one.committed, nothing.copy()
            )
            for partition, one in positions.items()
        }
        # Both at once: the flusher must not take these for partitions whose rows are all there.
        with self._lock:
            self._owned = owned
            self.degraded = True
        self.cold.own(owned)
        return {partition: one.committed for partition, one in positions.items()}

    def marked(self, partition: Partition) -> bool:
        """Whether any shard has a mark of the partition: then its group must have an offset (PROTOCOL 5.3)."""
        return any(partition in shard for shard in self._store.marks())

    @property
    def owned(self) -> Mapping[Partition, Owned]:
        """The partitions that this worker owns."""
        return self._owned

    @property
    def replaying(self) -> bool:
        """Whether any partition is below its committed offset: then nothing is scored (PROTOCOL 5.6)."""
        return any(one.replays for one in self._owned.values())

    def replay(self, prepared: Prepared, cursors: Mapping[Partition, int]) -> None:
        """Fold events below C, muted (PROTOCOL 5.5); then all below `cursors` is folded."""
        self.cold.load_for_replay(prepared)
        self._engine.fold(prepared, self.cold.skips(prepared))
        self.advance(cursors)

    def advance(self, cursors: Mapping[Partition, int]) -> None:
        """In replay: every event below `cursors` was folded or did not exist (PROTOCOL 5.6)."""
        shards = self._schedule.all
        staged = self._take_dirty(shards)
        with self._lock:
            for partition, cursor in cursors.items():
                one = self._owned[partition]
                one.cursor = max(one.cursor, cursor)
                one.stage(shards)
            self._add(staged)
        self._shrink()

    # -- unit of work (PROTOCOL 2) -------------------------------------------------------------

    def load(self, prepared: Prepared) -> ColdRead:
        """Read what the events need and the cache lacks. StoreUnavailable, LostWrites, NotOurs."""
        return self.cold.leave_out(prepared) if self.degraded else self.cold.load(prepared)

    def stage(self) -> None:
        """Encode what was touched up to the batch just folded, in the shards whose time it is (PROTOCOL 2.4).

        Before any later fold, so that the rows are as of this batch's end; until then marks stay behind.
        """
        shards = self._schedule.due(self._now_ms())
        self._staged = (shards, self._take_dirty(shards)) if shards.any() else None

    @property
    def staging(self) -> bool:
        """Whether rows wait for the commit of the batch that they are as of: the next commit must be that one."""
        return self._staged is not None

    def rest(self, *, now: bool = False) -> None:
        """All that was folded is committed and nothing is under way: stage the rest when it is time, or `now`."""
        if not any((one.staged < one.committed).any() for one in self._owned.values()):
            return
        shards = self._schedule.all if now else self._schedule.due(self._now_ms())
        if shards.any():
            staged = self._take_dirty(shards)
            with self._lock:
                self._add_all(shards, staged)

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The batch is committed: C moves, and what was staged with it becomes pending."""
        with self._lock:
            for partition, offset in offsets.items():
                one = self._owned[partition]
                one.committed = one.cursor = offset
            if self._staged is not None:
                self._add_all(*self._staged)
            self._staged = None
        self._shrink()

    def degrade(self) -> None:
        """Go on without Redis: nothing is flushed any more, and `recover` must follow (PROTOCOL 5.7)."""
        with self._lock:
            self.degraded = True
            self.restored = False
            self._pending.clear()

    def _take_dirty(self, shards: Bools) -> list[Staged]:
        dirty = self._engine.take_dirty(shards)
        return [] if self.degraded else [_staged(run) for run in dirty]

    def _add_all(self, shards: Bools, staged: list[Staged]) -> None:
        """All touched rows of some shards, as of what is committed now."""
        if not self.degraded:
            self._add(staged)
        for one in self._owned.values():
            one.stage(shards)

    def _add(self, staged: list[Staged]) -> None:
        for shard, rows, size in staged:
            self._pending.add(shard, rows, size)

    def _shrink(self) -> None:
        if self._engine.memory_bytes() > self._settings.memory_limit:
            self._engine.evict(self._settings.memory_limit, self._base_of)

    def _base_of(self, source: str, partition: int) -> Ints:
        """Rows with a stamp up to here are in Redis and not pending, so they may be evicted (PROTOCOL 3.5); others'
        all are. An older row of an evicted key, still pending, would be flushed over what another worker stored.
        """
        one = self._owned.get(Partition(source, partition))
        return self._evictable if one is None else one.acknowledged

    # -- flush (PROTOCOL 3) --------------------------------------------------------------------

    @property
    def pending_bytes(self) -> int:
        """Committed and not acknowledged."""
        with self._lock:
            return self._pending.size

    @property
    def over_limit(self) -> bool:
        """Stop consuming until Redis has caught up (PROTOCOL 3.4)."""
        return self.pending_bytes > self._settings.pending_limit

    @property
    def settled(self) -> bool:
        """Redis holds all that is committed."""
        with self._lock:
            return all(bool((one.base >= one.staged).all()) for one in self._owned.values())

    def check(self) -> None:
        """Raise LostWrites once a flush was refused (PROTOCOL 3.3)."""
        if self.refused:
            raise LostWrites("redis lost writes that this worker builds on: a flush was refused")
        if self.degraded and self.restored:
            raise RetriableError("redis is back")

    def take_flushes(self, *, everything: bool = False) -> tuple[int, list[Flush]]:
        """What to send now, and the epoch to answer with; `everything` sends empty flushes early.

        Nothing once a flush was refused: its rows are gone, and by now another worker's replay may have brought the
        mark to where the same flush, without them, would be accepted.
        """
        now = self._now_ms()
        with self._lock:
            if self.degraded or self.refused:
                return self._epoch, []
            empty_ms = 0 if everything else self._settings.empty_flush_ms
            due = []
            for partition, owned in self._owned.items():
                without_rows, behind = owned.due(now, empty_ms, self._settings.idle_probe_ms)
                with_rows = [shard for shard in behind if (partition, shard) in self._pending]
                due += [self._flush(partition, shard, owned, now) for shard in without_rows + with_rows]
            return self._epoch, due

    def _flush(self, partition: Partition, shard: int, one: Owned, now: int) -> Flush:
        base, staged = int(one.base[shard]), int(one.staged[shard])
        rows = self._pending.take((partition, shard)) if base < staged else {}
        return Flush(partition, shard, base, staged, one.origin, now, rows)

    def flushed(self, epoch: int, flushes: Sequence[Flush], answers: Sequence[int]) -> None:
        """Answers of the store; those from before the last `recover` are ignored (PROTOCOL 3.3)."""
        with self._lock:
            if epoch != self._epoch:
                return
            for flush, answer in zip(flushes, answers, strict=True):
                if answer == LOST:
                    self.refused = True
                    continue
                one = self._owned[flush.partition]
                one.came_to(flush.shard, flush.next)
                if flush.prev < flush.next:  # an idle probe sends no rows, whatever is pending
                    one.acknowledged[flush.shard] = flush.next
                one.flushed_at[flush.shard] = flush.now_ms
                if flush.rows:
                    self._pending.done((flush.partition, flush.shard))

    def not_flushed(self, epoch: int, flushes: Sequence[Flush]) -> None:
        """No answer: the same rows, or newer ones, are sent again (PROTOCOL 3.4)."""
        with self._lock:
            if epoch == self._epoch:
                for flush in flushes:
                    self._pending.restore((flush.partition, flush.shard))


def _staged(run: DirtyRun) -> Staged:
    rows = dict(zip(run.names, run.rows, strict=True))
    return (Partition(run.source, run.partition), run.shard), rows, sum(map(len, run.rows))
