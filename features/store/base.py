"""What keeps state between runs: slices, marks, the manifest, profiles.

A store knows nothing of rows, plans or Kafka: names and bytes only. PROTOCOL numbers are those of
docs/concepts/protocol/rules.md. Two implementations pass one contract suite (tests/contracts/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

from features.core.errors import RetriableError

LOST = -1
"""Answer to a flush that builds on writes which the store does not have (PROTOCOL 3.3)."""


class StoreUnavailable(RetriableError):
    """The store does not answer, or refuses writes for now; what it was asked may have happened or not."""


class Partition(NamedTuple):
    """One partition of a source's topic; `field` names its slice in an entity's hash, and its mark."""

    source: str
    number: int

    @property
    def field(self) -> bytes:
        """`source/partition`, as stored."""
        return f"{self.source}/{self.number}".encode()

    @staticmethod
    def of(field: bytes) -> Partition:
        """The partition that a field names.

        >>> Partition.of(b"payments/3")
        Partition(source='payments', number=3)
        """
        return _partition_of(field)


@lru_cache(maxsize=65_536)
def _partition_of(field: bytes) -> Partition:
    source, _, number = field.decode().rpartition("/")
    return Partition(source, int(number))


class Mark(NamedTuple):
    """Every slice of the partition in this shard holds every event below `offset`; written at `time_ms`."""

    offset: int
    time_ms: int


Marks = dict[Partition, Mark]
"""The marks of one shard."""


@dataclass(frozen=True, slots=True)
class ShardRead:
    """Asks for keys of one shard. A name is `entity:key` (layout.slice_name)."""

    shard: int
    names: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """Marks and slices as of one moment (PROTOCOL 4.1). `slices` follows the names: field to bytes each."""

    shard: int
    marks: Marks
    slices: Sequence[Mapping[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Flush:
    """Raise the mark of a partition in a shard from `prev` to `next`, with the rows that this makes true."""

    partition: Partition
    shard: int
    prev: int
    next: int
    origin: int
    now_ms: int
    rows: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """A topic that state was built from: recreated or with more partitions it is another."""

    name: str
    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class StateManifest:
    """What a namespace was made with; another value of any needs another namespace (PROTOCOL 0.1)."""

    plan: str
    state_format: int
    shards: int
    group: str
    cluster: str
    topics: tuple[TopicIdentity, ...]


class ProfileStore(Protocol):
    """Rows of profiles by key, shared by all plans of a namespace. May block; raises StoreUnavailable."""

    def get_profiles(self, profile: str, keys: Sequence[str]) -> list[bytes | None]:
        """The rows of `keys`, in that order, in one round trip."""
        ...

    def put_profiles(self, profile: str, rows: Mapping[str, bytes]) -> None:
        """Write rows, replacing those that are there."""
        ...


class Store(ProfileStore, Protocol):
    """All methods may block, and raise StoreUnavailable; all may be called from any thread."""

    def open(self, manifest: StateManifest) -> None:
        """Claim the namespace, or check that it was claimed with the same manifest (ConfigurationError)."""
        ...

    def check_health(self) -> None:
        """Refuse servers that may lose single keys (PROTOCOL 0.4) with ConfigurationError."""
        ...

    def read(self, reads: Sequence[ShardRead]) -> list[ShardAnswer]:
        """Slices with their shard's marks, each shard atomically, all in one round trip."""
        ...

    def flush(self, flushes: Sequence[Flush]) -> list[int]:
        """Apply each atomically (PROTOCOL 3.2), all in one round trip.

        Returns the mark after each, `LOST` where the store holds less than `prev`. When it raises,
        any of them may have been applied; sending them again is safe.
        """
        ...

    def marks(self) -> list[Marks]:
        """The marks of all shards."""
        ...

    def manifest(self) -> StateManifest | None:
        """What the namespace was made with; None when it is empty."""
        ...

    def names(self) -> Iterator[tuple[int, bytes]]:
        """Shard and name of every entity that has state; may repeat some while others write."""
        ...

    def drop(self) -> int:
        """Delete the namespace's state, marks and manifest (not profiles); returns the number of keys."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...
