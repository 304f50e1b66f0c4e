"""The journal: one record a unit of work, in its transaction, of all that an exact replay must know.

Which events were scored in which order, what was read of other owners' state, by which plan, policy and models.
"""

from __future__ import annotations

import time
from importlib.metadata import version

import msgspec
import numpy as np

from features.core.batch import Ints, MicroBatch
from features.state.cold_reads import ColdRead, ColdReader, ForeignSlice
from stream.codecs.alerts import Record
from stream.codecs.contracts import DecidedBy
from stream.codecs.messages import PartitionId
from stream.scoring.scorer import Scorer

SCHEMA_VERSION = 1
_HOLDINGS_EVERY = 256


class Holding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A partition that a worker owns: where the group began, and the next event not committed."""

    topic: str
    partition: int
    origin: int
    committed: int


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of work.

    `scored` is `times.scored` of all that the unit published, microseconds. `process` says when the worker's process
    began, `session` how often it has recovered since; `recovered` is when it did so last, with nothing read yet.
    `holdings` are the partitions that it owns, as of before this unit: told with the first unit of a session and now
    and then. `runs` are triples (index into `partitions`, first offset, count), flattened. `foreign` are
    the slices of other owners read for this unit: entity, key, source, partition, stamp; later units of the session
    see them until they are read again. `stale` are shards, by entity, where others' slices were too old; `missing`
    keys, by entity, read without state and not folded while Redis was away. `policy` is the hash of the policy file
    where the policy names one.
    """

    schema_version: int
    worker: str
    software: str
    scored: int
    process: int
    session: int
    recovered: int
    plan: str
    policy: str
    models: dict[str, DecidedBy]
    partitions: tuple[PartitionId, ...] = msgspec.field(name="places")
    runs: tuple[int, ...]
    foreign: tuple[ForeignSlice, ...]
    holdings: tuple[Holding, ...] = ()
    stale: dict[str, tuple[int, ...]] = {}
    missing: dict[str, tuple[str, ...]] = {}

    def order(self) -> list[tuple[str, int, int]]:
        """Topic, partition and offset of each event, in scoring order."""
        out = []
        for number, first, count in zip(self.runs[::3], self.runs[1::3], self.runs[2::3], strict=True):
            topic, partition = self.partitions[number]
            out += [(topic, partition, offset) for offset in range(first, first + count)]
        return out


class JournalWriter:
    """Writes entries of one worker; `cold` knows what it owns and since when."""

    def __init__(self, worker: str, scorer: Scorer, cold: ColdReader) -> None:
        self._worker = worker
        self._scorer = scorer
        self._cold = cold
        self._software = version("riskstream")
        self._process = time.time_ns() // 1000
        self._session = 0
        self._since_holdings = 0
        self._encoder = msgspec.json.Encoder()

    def record(self, batch: MicroBatch, scored: int, read: ColdRead) -> Record:
        """The record of a unit of work, `scored` on what was `read`, by the models and policy that hold now."""
        partitions, runs = runs_of(batch)
        cold = self._cold
        entry = JournalEntry(
            schema_version=SCHEMA_VERSION,
            worker=self._worker,
            software=self._software,
            scored=scored,
            process=self._process,
            session=cold.session,
            recovered=cold.recovered_ms * 1000,
            plan=self._scorer.plan.fingerprint,
            policy=self._scorer.policy.version,
            models=self._models(),
            partitions=partitions,
            runs=runs,
            foreign=read.foreign,
            holdings=self._holdings(),
            stale=dict(read.stale),
            missing=dict(read.missing),
        )
        return Record(self._worker.encode(), self._encoder.encode(entry), [])

    def _models(self) -> dict[str, DecidedBy]:
        return {
            source: DecidedBy(
                name=model.version.name, version=model.version.version, sha256=model.version.sha256
            )
            for source, model in self._scorer.routes.items()
        }

    def _holdings(self) -> tuple[Holding, ...]:
        if self._session == self._cold.session and self._since_holdings < _HOLDINGS_EVERY:
            self._since_holdings += 1
            return ()
        self._session, self._since_holdings = self._cold.session, 1
        sources = self._scorer.plan.sources
        return tuple(
            Holding(sources[partition.source].topic, partition.number, one.origin, one.committed)
            for partition, one in self._cold.owned.items()
        )


def decode(value: bytes) -> JournalEntry:
    """The entry in a record's value."""
    return msgspec.json.decode(value, type=JournalEntry)


def runs_of(batch: MicroBatch) -> tuple[tuple[PartitionId, ...], tuple[int, ...]]:
    """Partitions, and runs of consecutive offsets in scoring order."""
    if not len(batch):
        return (), ()
    numbers: dict[PartitionId, int] = {}
    for of_source in batch.source_batches:
        for partition in of_source.partitions:
            numbers.setdefault((of_source.source.topic, partition), len(numbers))
    where = np.concatenate(
        [_numbered(of.source.topic, of.partition.astype(np.int64), numbers) for of in batch.source_batches]
    )
    offsets = np.concatenate([of.offset for of in batch.source_batches])
    order = np.argsort(np.concatenate([of.position for of in batch.source_batches]), kind="stable")
    where, offsets = where[order], offsets[order]
    breaks = (np.diff(where) != 0) | (np.diff(offsets) != 1)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.concatenate([starts, [len(where)]]))
    runs = np.stack([where[starts], offsets[starts], counts], axis=1)
    return tuple(numbers), tuple(runs.ravel().tolist())


def _numbered(topic: str, partitions: Ints, numbers: dict[PartitionId, int]) -> Ints:
    unique, inverse = np.unique(partitions, return_inverse=True)
    return np.array([numbers[topic, partition] for partition in unique.tolist()], np.int64)[inverse]
