"""One live worker, scored again: the same engine, models, policy and memory, unit of work by unit of work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from features.core.batch import FeatureMatrix, MicroBatch
from features.definitions.plan import Plan
from features.engine.engine import FeatureEngine
from features.engine.prepared import EntityKeys, Prepared
from features.profiles.joins import ProfileTable
from models.decision.decisions import Decisions
from models.decision.memory.memory import PastAlert
from stream.codecs.messages import PartitionId, partition_text
from stream.kafka.batches.journal import JournalEntry
from stream.replay.certify.library import Library
from stream.replay.certify.report.causes import Cause, Explanation
from stream.replay.certify.slices import Slice, Slices
from stream.scoring.scorer import Scorer

_BUDGET = Explanation(
    Cause.POLICY_MEMORY, "the alert budget may have counted a unit of work that was aborted"
)


class Mirror:
    """What a worker knew. `causes` say why the unit replayed last cannot be the same, and why it may not be."""

    def __init__(
        self, plan: Plan, shards: int, slices: Slices, library: Library, profiles: ProfileTable | None
    ) -> None:
        self._plan = plan
        self._slices = slices
        self._library = library
        self._engine = FeatureEngine(plan, shards=shards)
        self._profiles = profiles
        self._topics = {name: source.topic for name, source in plan.sources.items()}
        self._owned: set[PartitionId] = set()
        self._process = 0
        self._scorer: Scorer | None = None
        self._policy = ""
        self._wrong_policy: Explanation | None = None
        self._inexact: Explanation | None = None
        self.causes: tuple[list[Explanation], list[Explanation]] = ([], [])

    @property
    def remembers(self) -> bool:
        """Whether decisions depend on earlier ones."""
        return self._scorer is not None and self._scorer.policy.remembers

    def begin(self, entry: JournalEntry, alerts: Callable[[], Sequence[PastAlert]]) -> None:
        """A session begins: nothing is in the cache; `alerts` are what the group has published so far."""
        self._engine.drop_all()
        self._owned = {(held.topic, held.partition) for held in entry.holdings}
        if self._scorer is None or entry.process != self._process:
            self._policy = entry.policy
            policy, self._wrong_policy = self._library.policy(entry.policy)
            self._scorer = Scorer(self._engine, policy, {}, self._profiles)
            self._process = entry.process
            self._inexact = None
        elif any(_has_budget(self._scorer, source) for source in self._plan.readers):
            self._inexact = _BUDGET
        if self._scorer.policy.remembers:
            self._scorer.policy.recall(alerts())

    def replay(self, entry: JournalEntry, batch: MicroBatch, *, score: bool) -> list[Decisions]:
        """Read, fold and decide as the worker did; without `score` only fold. The rows go to the slices."""
        scorer = self._as_it_was(entry)
        prepared = self._engine.prepare(batch)
        missing = {entity: set(keys) for entity, keys in entry.missing.items()}
        loaded = self._load(prepared, entry, missing)
        decisions: list[Decisions] = []
        if score:
            matrices = self._engine.run(prepared)
            for matrix in matrices.values():
                _flag(prepared, matrix, loaded, entry, missing)
            decisions = scorer.decide(matrices.values())
        else:
            self._engine.fold(prepared)
        self._slices.put(self._engine.take_dirty(), batch)
        if missing:
            self._slices.fold(batch, lambda entity, key: key in missing.get(entity, ()))
        return decisions

    def fold(self, batch: MicroBatch) -> None:
        """Events of our partitions that no unit tells of: the worker has seen them, so its cache must have."""
        prepared = self._engine.prepare(batch)
        for keys in self._engine.entity_keys(prepared):
            self._load_entity(keys, {}, set())
        self._engine.fold(prepared)
        self._slices.put(self._engine.take_dirty(), batch)

    def _as_it_was(self, entry: JournalEntry) -> Scorer:
        scorer = self._scorer
        if scorer is None:
            raise ValueError(f"{entry.worker}: no session has begun")
        known: list[Explanation] = []
        self.causes = (known, [self._inexact] if self._inexact else [])
        if entry.plan != self._plan.fingerprint:
            detail = f"plan {entry.plan} scored, it is {self._plan.fingerprint}"
            known.append(Explanation(Cause.DEFINITIONS_CHANGED, detail))
        if entry.policy != self._policy:
            before, self._policy = scorer.policy, entry.policy
            policy, self._wrong_policy = self._library.policy(entry.policy)
            scorer.set_policy(policy)
            policy.adopt(before)
        if self._wrong_policy:
            known.append(self._wrong_policy)
        for source, wanted in entry.models.items():
            model, wrong = self._library.model(wanted)
            if wrong:
                known.append(wrong)
            if model is not None and scorer.routes.get(source) is not model:
                scorer.swap(source, model)
        return scorer

    def _load(
        self, prepared: Prepared, entry: JournalEntry, missing: dict[str, set[str]]
    ) -> list[EntityKeys]:
        """Own rows of keys that are not in the cache, and what the worker read of others' for this unit."""
        foreign: dict[str, dict[str, list[Slice]]] = {}
        for entity, key, source, number, stamp in entry.foreign:
            row = self._slices.at((entity, key, source, number), stamp)
            if row is None:
                detail = f"{partition_text(source, number)} at {stamp} cannot be made again"
                self.causes[1].append(Explanation(Cause.OTHER_OWNER, detail))
                continue
            foreign.setdefault(entity, {}).setdefault(key, []).append((source, number, row))
        found = self._engine.entity_keys(prepared)
        for keys in found:
            read = foreign.get(keys.entity, {})
            self._load_entity(keys, read, missing.get(keys.entity, set()))
            if missing.get(keys.entity):
                self._leave_out(prepared, keys, missing[keys.entity])
        return found

    def _load_entity(self, keys: EntityKeys, read: dict[str, list[Slice]], missing: set[str]) -> None:
        slots: list[int] = []
        slices: list[tuple[int, str, int, bytes]] = []
        for slot, key, loaded in zip(keys.indices.tolist(), keys.keys, keys.loaded.tolist(), strict=True):
            theirs = read.get(key, [])
            if key in missing or (loaded and not theirs):
                continue
            slots.append(slot)
            own = [] if loaded else self._slices.newest(keys.entity, key, self._owns)
            slices += [(slot, *one) for one in (*own, *theirs)]
        if slots:
            others = {
                (group.source, number)
                for group in self._plan.groups
                if group.entity == keys.entity
                for number in self._others(group.source)
            }
            self._engine.load(keys.entity, np.array(slots, np.int64), slices, others, 1)

    def _owns(self, source: str, number: int) -> bool:
        return (self._topics[source], number) in self._owned

    def _others(self, source: str) -> list[int]:
        """Numbers of partitions that are not ours: any that state may hold."""
        return [number for number in self._slices.partitions(source) if not self._owns(source, number)]

    def _leave_out(self, prepared: Prepared, keys: EntityKeys, missing: set[str]) -> None:
        """PROTOCOL 5.7: without state a key is read as missing and not folded."""
        prepared.leave_out(keys.entity, keys.indices[[key in missing for key in keys.keys]])


def _has_budget(scorer: Scorer, source: str) -> bool:
    return scorer.policy.source(source).budget is not None


def _flag(
    prepared: Prepared,
    matrix: FeatureMatrix,
    loaded: Sequence[EntityKeys],
    entry: JournalEntry,
    missing: dict[str, set[str]],
) -> None:
    """Flags as the worker raised them: others' slices too old, state missing."""
    key_index = prepared.sources[matrix.batch.source.name].key_index
    for keys in loaded:
        if keys.entity not in key_index:
            continue
        flags = {
            f"state_missing:{keys.entity}": [key in missing.get(keys.entity, ()) for key in keys.keys],
            f"stale:{keys.entity}": np.isin(keys.shards, entry.stale.get(keys.entity, ())).tolist(),
        }
        for name, raised in flags.items():
            if any(raised):
                matrix.flags[name] = keys.spread(np.array(raised), key_index[keys.entity])
