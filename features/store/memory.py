"""A store in this process's memory, for tests and for use without servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from features.store.base import LOST, Flush, Mark, Marks, ShardAnswer, ShardRead, StateManifest
from features.store.layout import Layout, check_manifest


class MemoryStore:
    """Keeps what RedisStore keeps, with the same answers; gone with the process."""

    def __init__(self, shards: int = 16, namespace: str = "memory") -> None:
        Layout(namespace, shards)
        self._namespace = namespace
        self._lock = threading.Lock()
        self._marks: list[Marks] = [{} for _ in range(shards)]
        self._slices: list[dict[bytes, dict[bytes, bytes]]] = [{} for _ in range(shards)]
        self._profiles: dict[tuple[str, str], bytes] = {}
        self._manifest: StateManifest | None = None

    def open(self, manifest: StateManifest) -> None:
        """See Store."""
        with self._lock:
            if self._manifest is None:
                self._manifest = manifest
            check_manifest(self._manifest, manifest, self._namespace)

    def check_health(self) -> None:
        """Memory loses nothing."""

    def read(self, reads: Sequence[ShardRead]) -> list[ShardAnswer]:
        """See Store."""
        with self._lock:
            return [self._answer(read) for read in reads]

    def _answer(self, read: ShardRead) -> ShardAnswer:
        slices = self._slices[read.shard]
        found = [dict(slices.get(name, ())) for name in read.names]
        return ShardAnswer(read.shard, dict(self._marks[read.shard]), found)

    def flush(self, flushes: Sequence[Flush]) -> list[int]:
        """See Store."""
        with self._lock:
            return [self._apply(flush) for flush in flushes]

    def _apply(self, flush: Flush) -> int:
        marks = self._marks[flush.shard]
        mark = marks[flush.partition].offset if flush.partition in marks else flush.origin
        if mark < flush.prev:
            return LOST
        if mark > flush.next:
            return mark
        if mark < flush.next:
            for name, row in flush.rows.items():
                self._slices[flush.shard].setdefault(name, {})[flush.partition.field] = row
        marks[flush.partition] = Mark(flush.next, flush.now_ms)
        return flush.next

    def marks(self) -> list[Marks]:
        """See Store."""
        with self._lock:
            return [dict(marks) for marks in self._marks]

    def manifest(self) -> StateManifest | None:
        """See Store."""
        return self._manifest

    def names(self) -> Iterator[tuple[int, bytes]]:
        """See Store."""
        with self._lock:
            found = [(shard, name) for shard, slices in enumerate(self._slices) for name in slices]
        return iter(found)

    def drop(self) -> int:
        """See Store."""
        with self._lock:
            count = sum(map(len, self._slices)) + sum(map(bool, self._marks)) + (self._manifest is not None)
            for shard in range(len(self._marks)):
                self._marks[shard].clear()
                self._slices[shard].clear()
            self._manifest = None
        return count

    def get_profiles(self, profile: str, keys: Sequence[str]) -> list[bytes | None]:
        """See ProfileStore."""
        with self._lock:
            return [self._profiles.get((profile, key)) for key in keys]

    def put_profiles(self, profile: str, rows: Mapping[str, bytes]) -> None:
        """See ProfileStore."""
        with self._lock:
            self._profiles.update({(profile, key): row for key, row in rows.items()})

    def close(self) -> None:
        """Nothing to release."""
