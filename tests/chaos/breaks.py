"""Switches rules of the protocol off in this process, so that the chaos driver can show that it notices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.state.cold_reads import ColdReader
from features.state.slices import SliceState
from features.store import layout
from stream.kafka.batches.delivery import ExactlyOnce
from stream.kafka.batches.scored import ScoredBatch
from stream.kafka.client.producer import produce

NAMES = ("mark_check", "transaction", "muted_replay")


def apply(name: str) -> None:
    """Break one rule; none for an empty name."""
    if name == "mark_check":
        _no_mark_check()
    elif name == "transaction":
        ExactlyOnce._deliver = _outputs_alone  # type: ignore[method-assign]
    elif name == "muted_replay":
        SliceState.recover = _without_replay  # type: ignore[method-assign]
    elif name:
        raise ValueError(f"CHAOS_BREAK: expected one of {NAMES}, got {name!r}")


def _no_mark_check() -> None:
    """Any flush is applied and any read believed, whatever they build on (against PROTOCOL 3.2, 4.2)."""
    from features.store import redis_store

    def unchecked(self: ColdReader, answer: Any, bases: Mapping[Any, Any]) -> None:
        check(self, answer, {partition: base * 0 for partition, base in bases.items()})

    check = ColdReader._check_marks
    ColdReader._check_marks = unchecked  # type: ignore[method-assign]
    checks = layout.FLUSH_SCRIPT.split(b"\n")
    kept = [line for line in checks if b"return -1" not in line]
    vars(redis_store)["FLUSH_SCRIPT"] = b"\n".join(kept)


def _outputs_alone(self: Any, batch: ScoredBatch) -> None:
    """Outputs and offsets in two transactions (against PROTOCOL 2.3)."""
    from stream.telemetry.moments import point

    producer = self._producer
    for step in ("outputs", "offsets"):
        producer.begin_transaction()
        self._open = True
        if step == "outputs":
            for topic, records in batch.outputs:
                produce(producer, topic, records)
        else:
            point("before_send_offsets")
            producer.send_offsets_to_transaction(batch.offsets, batch.group)
            point("after_send_offsets")
            point("before_commit")
        producer.commit_transaction()
        self._open = False
    point("after_commit")


_recover = SliceState.recover


def _without_replay(self: SliceState, positions: Mapping[Any, Any]) -> dict[Any, int]:
    """Go on at the committed offset with whatever Redis holds (against PROTOCOL 5.5)."""
    _recover(self, positions)
    for one in self.owned.values():
        one.cursor = one.committed
    return {partition: one.committed for partition, one in self.owned.items()}
