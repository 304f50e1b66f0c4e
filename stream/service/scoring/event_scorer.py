"""Scores events asked over HTTP as the stream would at this moment; reads state, changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from features.core.batch import Column, MicroBatch, SourceBatch
from features.core.errors import InvalidEvent, RetriableError, RiskstreamError
from features.definitions.naming import profile_feature_name
from features.definitions.plan import Reader
from features.definitions.profile_names import profile_fields
from features.definitions.spec import Source
from features.store.base import Store
from models.decision.decisions import Decisions
from stream.codecs.alerts import AlertEncoder
from stream.codecs.json import Decoder
from stream.codecs.messages import RawBatch
from stream.scoring.scorer import Scorer
from stream.service.problems import FieldError, Problem
from stream.service.scoring.state_reader import EntityView, ReadKeys, StateReader

NOWHERE = -1
"""Partition and offset of an event that is not in Kafka."""


class EventScorer:
    """Not thread-safe: one thread calls everything but `check_ready`. `decoders` are by source."""

    def __init__(
        self,
        scorer: Scorer,
        store: Store,
        decoders: Mapping[str, Decoder],
        *,
        max_age_ms: int,
        shared: bool,
        between: Callable[[], None],
        count_invalid: Callable[[Decisions], None],
    ) -> None:
        self._count_invalid = count_invalid
        self._scorer = scorer
        self._decoders = decoders
        self._between = between
        self._reader = StateReader(scorer.engine, store, max_age_ms=max_age_ms, shared=shared)
        self._encoder = AlertEncoder(scorer.plan)
        self.sources = tuple(sorted(set(decoders) & set(scorer.plan.readers)))

    def check_ready(self) -> None:
        """RetriableError while the state cannot be read, or is not kept current."""
        self._reader.check_fresh()

    def score(self, items: Sequence[tuple[str, bytes]]) -> Sequence[bytes | Exception]:
        """For each (source, JSON event) the decision as the stream publishes it, or what is wrong with it.

        Events of one batch do not know of each other; where the policy would, each is decided by itself.
        """
        self._between()
        if self._scorer.policy.remembers:
            return [answer for item in items for answer in self._score([item])]
        return self._score(items)

    def _score(self, items: Sequence[tuple[str, bytes]]) -> Sequence[bytes | Exception]:
        answers: list[bytes | Exception] = [RetriableError("not scored")] * len(items)
        parts: list[SourceBatch] = []
        rows_of: dict[str, list[int]] = {}
        for source in dict.fromkeys(source for source, _ in items):
            rows = [row for row, item in enumerate(items) if item[0] == source]
            part, good = self._decode(source, rows, items, answers)
            if good:
                parts.append(part)
                rows_of[source] = good
        if parts:
            self._answer(MicroBatch(tuple(parts)), rows_of, answers)
        return answers

    def _decode(
        self,
        source: str,
        rows: list[int],
        items: Sequence[tuple[str, bytes]],
        answers: list[bytes | Exception],
    ) -> tuple[SourceBatch, list[int]]:
        """Columns of a source's good events with their rows; the others are answered here."""
        decoder = self._decoders[source]
        now_ms = time.time_ns() // 1_000_000
        raw = RawBatch(
            decoder.source.topic,
            partitions=[NOWHERE] * len(rows),
            offsets=list(rows),
            timestamps_ms=[now_ms] * len(rows),
            keys=[b""] * len(rows),
            values=[items[row][1] for row in rows],
            headers=[None] * len(rows),
        )
        part, letters = decoder.decode(raw)
        for letter in letters:
            answers[letter.offset] = InvalidEvent(source, letter.path, letter.reason)
        good = part.offset.tolist()
        part.position = part.offset.copy()
        part.offset = np.full(len(good), NOWHERE, np.int64)
        return part, good

    def _answer(
        self, batch: MicroBatch, rows_of: Mapping[str, list[int]], answers: list[bytes | Exception]
    ) -> None:
        engine = self._scorer.engine
        try:
            prepared = engine.prepare(batch)
            read = self._reader.load(prepared)
            matrices = engine.peek(prepared)
            for matrix in matrices.values():
                self._reader.flag(prepared, matrix, read)
            for made in self._scorer.decide(matrices.values(), remember=False):
                self._count_invalid(made)
                rows = rows_of[made.features.batch.source.name]
                for row, record in zip(rows, self._encoder.decisions(made), strict=True):
                    answers[row] = record.value or b""
        except RiskstreamError as error:
            for rows in rows_of.values():
                for row in rows:
                    answers[row] = error
        finally:
            engine.drop_all()

    def entity(self, entity: str, key: str) -> EntityView:
        """Features of one entity as of now, as if asked between two events. Raises Problem 404 or 422."""
        self._between()
        plan = self._scorer.plan
        readers = [one for one in plan.readers.values() if entity in one.entity_keys]
        if not readers:
            known = ", ".join(sorted({name for one in plan.readers.values() for name in one.entity_keys}))
            raise Problem(404, "unknown-entity", f"no such entity; there are: {known}")
        now_us = time.time_ns() // 1000
        features: dict[str, float | str | None] = {}
        flags: dict[str, None] = {}
        oldest = -1
        for reader in readers:
            batch = _question(plan.sources[reader.source], reader.entity_keys[entity], key, now_us)
            found, raised, oldest = self._view(batch, reader, entity)
            features.update(found)
            flags.update(dict.fromkeys(raised))
        age = None if oldest < 0 else max(0.0, now_us / 1e6 - oldest / 1e3)
        return EntityView(now_us, age, features, tuple(flags))

    def _view(
        self, batch: SourceBatch, reader: Reader, entity: str
    ) -> tuple[dict[str, float | str | None], list[str], int]:
        """Features of the entity, flags, and the time in ms of the oldest slice."""
        engine = self._scorer.engine
        try:
            prepared = engine.prepare(MicroBatch((batch,)))
            read = self._reader.load(prepared)
            prepared.fold_nothing()  # a question adds nothing of its own to the windows
            matrix = engine.peek(prepared)[reader.source]
            self._reader.flag(prepared, matrix, read)
            matrix = self._scorer.complete(matrix)
        finally:
            engine.drop_all()
        values: dict[str, float | str | None] = {}
        for name in _names(self._scorer, reader, entity):
            column = matrix.column(name)
            value = column[0]
            values[name] = value if isinstance(value, str | None) else _number(float(value))
        mine = {f"stale:{entity}"} | {
            f"profile_{what}:{profile.name}"
            for profile in reader.profiles
            if profile.entity == entity
            for what in ("missing", "stale")
        }
        raised = [name for name, rows in matrix.flags.items() if name in mine and rows[0]]
        return values, raised, _oldest(read, entity)


def _oldest(read: list[ReadKeys], entity: str) -> int:
    times = [int(one.oldest_ms[0]) for one in read if one.keys.entity == entity and len(one.oldest_ms)]
    return min(times, default=-1)


def _names(scorer: Scorer, reader: Reader, entity: str) -> list[str]:
    """The entity's aggregations and profile fields, in the reader's order."""
    groups = scorer.plan.groups
    mine = {one.name for one in reader.features if groups[one.group].entity == entity}
    for profile in reader.profiles:
        if profile.entity == entity:
            mine.update(profile_feature_name(one.name, entity) for one in profile_fields(profile))
            mine.add(profile_feature_name(f"{profile.name}_age", entity))
    return [name for name in (*reader.names, *reader.text_names) if name in mine]


def _question(source: Source, columns: tuple[str, ...], key: str, now_us: int) -> SourceBatch:
    """An event of which nothing is known but the time and one entity's key."""
    parts = split_key(key) if len(columns) > 1 else [key]
    if len(parts) != len(columns):
        detail = f"expected {len(columns)} parts joined with `|`, got {len(parts)}"
        raise Problem(422, "invalid-key", f"key: {detail}", (FieldError("key", detail),))
    known = dict(zip(columns, parts, strict=True))
    filled: dict[str, Column] = {}
    for one in source.fields:
        text = known.get(one.name)
        if one.dtype == "string":
            filled[one.name] = [text]
        else:
            filled[one.name] = np.array([np.nan if text is None else _whole(text)])
    stamp = np.array([now_us], np.int64)
    nowhere = np.array([NOWHERE], np.int64)
    return SourceBatch(
        source, [""], stamp, stamp, nowhere.astype(np.int32), nowhere, np.zeros(1, np.int64), filled
    )


def split_key(key: str) -> list[str]:
    """The parts of a composite key's text.

    >>> split_key("a\\\\|b|3")
    ['a|b', '3']
    """
    parts = [""]
    escaped = False
    for letter in key:
        if letter == "\\" and not escaped:
            escaped = True
        elif letter == "|" and not escaped:
            parts.append("")
        else:
            parts[-1] += letter
            escaped = False
    return parts


def _whole(text: str) -> float:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        detail = "expected a whole number"
        raise Problem(422, "invalid-key", f"key: {detail}", (FieldError("key", detail),))
    return float(text)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
