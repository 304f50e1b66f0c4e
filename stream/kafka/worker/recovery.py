"""From what Kafka has committed to state that scoring can go on from (PROTOCOL 5), over finished clients.

`begin` and `replay` are the worker's; `fold` and `load_patiently` serve the Faust face too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from features.engine.prepared import Prepared
from features.state.cold_reads import ColdRead
from features.state.slices import SliceState
from features.store.base import Partition, StoreUnavailable
from stream.codecs.messages import PartitionId, RawBatch
from stream.kafka.batches.scoring import ScoringSetup
from stream.kafka.client.consumer import Fetched
from stream.kafka.worker.wiring import Connected
from stream.telemetry.logs import logger
from stream.telemetry.moments import point
from stream.telemetry.seldom import Seldom

_log = logger("worker")
_warnings = Seldom(_log)
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0


def begin(clients: Connected, partitions: Sequence[PartitionId]) -> bool:
    """Drop all state, read offsets and marks, and consume from where state begins. True: nothing is to be replayed.

    RetriableError while Kafka or the store does not answer, or another owner is at work.
    """
    state = clients.scoring.state
    starts = _starts(clients, partitions)
    remaining = sum(owned.committed - owned.cursor for owned in state.owned.values())
    _log.info("replaying" if state.replaying else "recovered", partitions=len(starts), events=remaining)
    if state.replaying:
        committed = committed_offsets(clients.scoring, partitions)
        starts = {partition: start for partition, start in starts.items() if start < committed[partition]}
    clients.consumer.start_at(starts)
    return not state.replaying


def _starts(clients: Connected, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
    try:
        return clients.positions.recover(partitions)
    except StoreUnavailable as error:
        if clients.scoring.config.worker.on_redis_loss == "wait":
            raise
        _warnings.warning("degraded: scoring without state", reason=str(error))
        return clients.positions.recover_blind(partitions)


def committed_offsets(scoring: ScoringSetup, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
    """C of each owned partition: replay folds below it, scoring goes on there."""
    return {partition: scoring.state.owned[scoring.in_state(partition)].committed for partition in partitions}


def replay(clients: Connected, fetched: Fetched, committed: Mapping[PartitionId, int]) -> int:
    """Fold one muted batch (PROTOCOL 5.5, 5.6); returns how many events are still to be replayed.

    Once there are none, every partition is consumed from C on.
    """
    point("in_replay")
    scoring, state = clients.scoring, clients.scoring.state
    cursors = {partition: reached.offset for partition, reached in fetched.reached.items()}
    ended = {
        partition for partition, end in fetched.ends.items() if end >= committed[partition]
    } | fetched.past_limit
    cursors.update({partition: committed[partition] for partition in ended})
    fold(scoring, fetched.raw, {scoring.in_state(partition): at for partition, at in cursors.items()})
    if not state.replaying:
        clients.consumer.start_at(committed)
        _log.info("replayed")
    elif ended:
        clients.consumer.pause(ended)
    return sum(max(0, owned.committed - owned.cursor) for owned in state.owned.values())


def fold(scoring: ScoringSetup, columns: Mapping[str, RawBatch], cursors: Mapping[Partition, int]) -> None:
    """Fold messages without scoring them; then everything below `cursors` is folded."""
    decoded = scoring.processor.decode(columns)
    if len(decoded.batch):
        scoring.state.replay(scoring.processor.prepare(decoded), cursors)
    else:
        scoring.state.advance(cursors)


def load_patiently(
    state: SliceState,
    prepared: Prepared,
    meanwhile: Callable[[float], bool],
    held: Callable[[], AbstractContextManager[None]] = nullcontext,
    *,
    degrade: bool = False,
) -> ColdRead | None:
    """Load what a batch needs; while the store is away ask again after ever longer pauses, spent in `meanwhile`.

    `held` is entered where it must be waited. None once `meanwhile` says that the batch is to be dropped. To `degrade`
    is not to wait: state goes on without the store (PROTOCOL 5.7).
    """
    try:
        return state.load(prepared)
    except StoreUnavailable as error:
        if degrade:
            _warnings.warning("degraded: scoring with the state at hand", reason=str(error))
            state.degrade()
            return state.load(prepared)
        _warnings.warning("waiting for redis", reason=str(error))
    wait = _FIRST_WAIT
    with held():
        while meanwhile(wait):
            wait = min(wait * 2, _LONGEST_WAIT)
            with suppress(StoreUnavailable):
                return state.load(prepared)
            _warnings.warning("waiting for redis")
    return None
