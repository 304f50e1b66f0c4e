"""Looks at stored state from outside: what an entity's slices are, and whether all is as the marks say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from features.engine.hashing import hash_strings, shard_of
from features.kernel.row_format import is_current, stamp_of
from features.store.base import Mark, Partition, ShardRead, Store
from features.store.layout import slice_name

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class StoredSlice:
    """One slice: what partition made it, its stamp and size, and the mark of its shard."""

    partition: Partition
    stamp: int
    size: int
    mark: Mark | None


@dataclass(slots=True)
class Report:
    """What `verify` found; `problems` is empty when all holds."""

    entities: int = 0
    slices: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def slices_of(store: Store, shards: int, entity: str, key: str) -> tuple[int, list[StoredSlice]]:
    """Shard and slices of one entity."""
    shard = int(shard_of(hash_strings([key]), shards)[0])
    (answer,) = store.read([ShardRead(shard, [slice_name(entity, key)])])
    found = [
        StoredSlice(partition, stamp_of(row), len(row), answer.marks.get(partition))
        for partition, row in sorted((Partition.of(name), row) for name, row in answer.slices[0].items())
    ]
    return shard, found


def verify(store: Store, committed: Mapping[Partition, int]) -> Report:
    """Check every mark against the committed offsets, every slice against its mark and its shard."""
    report = Report()
    manifest = store.manifest()
    if manifest is None:
        report.problems.append("there is no state in this namespace")
        return report
    for shard, marks in enumerate(store.marks()):
        for partition, mark in marks.items():
            name = f"{partition.source}[{partition.number}]"
            if mark.offset > committed.get(partition, 0):
                report.problems.append(
                    f"shard {shard}: mark {mark.offset} of {name} is above the committed offset "
                    f"{committed.get(partition, 0)}"
                )
    names = store.names()
    while chunk := sorted(set(islice(names, _BATCH))):
        _verify_chunk(store, manifest.shards, chunk, report)
    return report


def _verify_chunk(store: Store, shards: int, chunk: list[tuple[int, bytes]], report: Report) -> None:
    by_shard: dict[int, list[bytes]] = {}
    for shard, name in chunk:
        by_shard.setdefault(shard, []).append(name)
    keys = [
        name.decode().partition(":")[2] for name in (name for names in by_shard.values() for name in names)
    ]
    expected = iter(shard_of(hash_strings(keys), shards).tolist())
    for answer, names in zip(
        store.read([ShardRead(shard, names) for shard, names in by_shard.items()]),
        by_shard.values(),
        strict=True,
    ):
        for number, slices in enumerate(answer.slices):
            report.entities += 1
            entity = names[number].decode().partition(":")[0]
            if next(expected) != answer.shard:
                report.problems.append(f"shard {answer.shard}: a {entity} belongs to another shard")
            for problem in _problems(slices, answer.marks, report):
                report.problems.append(f"shard {answer.shard}, a {entity}: {problem}")


def _problems(
    slices: Mapping[bytes, bytes], marks: Mapping[Partition, Mark], report: Report
) -> Iterator[str]:
    for name, row in slices.items():
        partition = Partition.of(name)
        report.slices += 1
        report.bytes += len(row)
        mark = marks.get(partition)
        if not is_current(row):
            yield f"slice of {partition.source}[{partition.number}] has another format"
        elif mark is None or stamp_of(row) > mark.offset:
            yield f"slice of {partition.source}[{partition.number}] is ahead of its mark"
