"""The journal: one record a unit of work, in its transaction, of all that an exact replay must know.

Which events were scored in which order, what was read of other owners' state, by which plan, policy and models.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version

import msgspec
import numpy as np

from features.batch import Ints, MicroBatch
from features.cold_reads import ForeignSlice
from stream.codecs.alert_codec import Record
from stream.contracts import DecidedBy
from stream.scorer import Scorer

SCHEMA_VERSION = 1


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of work.

    `runs` are triples (index into `places`, first offset, count) flattened, in scoring order. `foreign` are the slices
    of other owners read for this unit: entity, key, source, partition, stamp; later units see them until they are
    read again. `policy` is the hash of the policy file where the policy names one.
    """

    schema_version: int
    worker: str
    software: str
    scored: int
    plan: str
    policy: str
    models: dict[str, DecidedBy]
    places: tuple[tuple[str, int], ...]
    runs: tuple[int, ...]
    foreign: tuple[ForeignSlice, ...]

    def order(self) -> list[tuple[str, int, int]]:
        """Topic, partition and offset of each event, in scoring order."""
        out = []
        for place, first, count in zip(self.runs[::3], self.runs[1::3], self.runs[2::3], strict=True):
            topic, partition = self.places[place]
            out += [(topic, partition, offset) for offset in range(first, first + count)]
        return out


class Journal:
    """Writes entries of one worker."""

    def __init__(self, worker: str, scorer: Scorer) -> None:
        self._worker = worker
        self._scorer = scorer
        self._software = version("riskstream")
        self._encoder = msgspec.json.Encoder()

    def record(self, batch: MicroBatch, foreign: Sequence[ForeignSlice]) -> Record:
        """The record of a scored batch; models and policy are those that hold now."""
        places, runs = runs_of(batch)
        models = {
            source: DecidedBy(
                name=model.version.name, version=model.version.version, sha256=model.version.sha256
            )
            for source, model in self._scorer.routes.items()
        }
        entry = JournalEntry(
            schema_version=SCHEMA_VERSION,
            worker=self._worker,
            software=self._software,
            scored=time.time_ns() // 1000,
            plan=self._scorer.plan.fingerprint,
            policy=str(getattr(self._scorer.policy, "version", "")),
            models=models,
            places=places,
            runs=runs,
            foreign=tuple(foreign),
        )
        return Record(self._worker.encode(), self._encoder.encode(entry), [])


def decode(value: bytes) -> JournalEntry:
    """The entry in a record's value."""
    return msgspec.json.decode(value, type=JournalEntry)


def runs_of(batch: MicroBatch) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """Places, and runs of consecutive offsets in scoring order."""
    if not len(batch):
        return (), ()
    places: dict[tuple[str, int], int] = {}
    for part in batch.parts:
        for number in np.unique(part.partition).tolist():
            places.setdefault((part.source.topic, number), len(places))
    where = np.concatenate(
        [_places_of(part.source.topic, part.partition.astype(np.int64), places) for part in batch.parts]
    )
    offsets = np.concatenate([part.offset for part in batch.parts])
    order = np.argsort(np.concatenate([part.position for part in batch.parts]), kind="stable")
    where, offsets = where[order], offsets[order]
    breaks = (np.diff(where) != 0) | (np.diff(offsets) != 1)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.concatenate([starts, [len(where)]]))
    runs = np.stack([where[starts], offsets[starts], counts], axis=1)
    return tuple(places), tuple(runs.ravel().tolist())


def _places_of(topic: str, partitions: Ints, places: dict[tuple[str, int], int]) -> Ints:
    numbers, inverse = np.unique(partitions, return_inverse=True)
    return np.array([places[topic, number] for number in numbers.tolist()], np.int64)[inverse]
