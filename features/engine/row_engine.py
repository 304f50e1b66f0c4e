"""What the state of a worker needs of an engine: rows that are loaded, folded into, taken out and forgotten.

`FeatureEngine` is the engine of the product. Tests of the protocol put one in its place whose rows are the lists of
offsets folded (tests/features/offset_engine.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from features.core.batch import Bools, Ints
from features.definitions.plan import Plan
from features.engine.prepared import DirtyRun, EntityKeys, Prepared


class RowEngine(Protocol):
    """Rows by key, source and partition. One thread calls everything; nothing blocks or reads a store."""

    @property
    def plan(self) -> Plan:
        """The plan whose groups the rows belong to."""

    @property
    def shards(self) -> int:
        """Number of shards that keys are spread over."""

    def entity_keys(self, prepared: Prepared) -> list[EntityKeys]:
        """Per entity the keys that a batch touches."""

    def load(
        self,
        entity: str,
        indices: Ints,
        slices: Sequence[tuple[int, str, int, bytes]],
        foreign: set[tuple[str, int]],
        read_at_us: int,
    ) -> None:
        """Take stored slices (key index, source, partition, row) of keys, which count as loaded from now on.

        Slices of `foreign` (source, partition) pairs replace what was read of them before.
        """

    def fold(self, prepared: Prepared, skip: Mapping[int, Bools] | None = None) -> None:
        """Fold a batch without reading; `skip` leaves out events of `Prepared.group_events`, group by group."""

    def take_dirty(self, shards: Bools | None = None) -> list[DirtyRun]:
        """Encode every row touched since the last take; of some shards only, where they are marked."""

    def drop_all(self) -> None:
        """Forget all rows."""

    def memory_bytes(self) -> int:
        """About how much memory the rows take."""

    def evict(self, to_bytes: int, base: Callable[[str, int], Ints]) -> int:
        """Forget keys used longest ago until `to_bytes` remain, and say how many.

        A row goes only when its stamp is at most `base(source, partition)[shard]`: then the store has it.
        """
