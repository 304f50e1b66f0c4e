"""What is known of one entity at this moment: its features, as an event of it would read them."""

from __future__ import annotations

import numpy as np

from features.core.batch import Column, MicroBatch, SourceBatch
from features.core.times import now_us
from features.definitions.naming import profile_feature_name
from features.definitions.plan import Reader
from features.definitions.profile_names import profile_fields
from features.definitions.spec import Source
from stream.scoring.scorer import Scorer
from stream.service.problems import FieldError, Problem
from stream.service.scoring.state_reader import NOWHERE, EntityView, ReadKeys, StateReader


class EntityReader:
    """Reads the features of an entity. Not thread-safe: runs in the service's executor."""

    def __init__(self, scorer: Scorer, state: StateReader) -> None:
        self._scorer = scorer
        self._reader = state

    def read(self, entity: str, key: str) -> EntityView:
        """Features of one entity as of now, as if asked between two events. Raises Problem 404 or 422."""
        plan = self._scorer.plan
        readers = [reader for reader in plan.readers.values() if entity in reader.entity_keys]
        if not readers:
            names = ", ".join(
                sorted({name for reader in plan.readers.values() for name in reader.entity_keys})
            )
            raise Problem(404, "unknown-entity", f"no such entity; there are: {names}")
        as_of = now_us()
        features: dict[str, float | str | None] = {}
        flags: dict[str, None] = {}
        oldest = -1
        for reader in readers:
            batch = _question(plan.sources[reader.source], reader.entity_keys[entity], key, as_of)
            known, raised, oldest = self._view(batch, reader, entity)
            features.update(known)
            flags.update(dict.fromkeys(raised))
        age = None if oldest < 0 else max(0.0, as_of / 1e6 - oldest / 1e3)
        return EntityView(as_of, age, features, tuple(flags))

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
            value = matrix.column(name)[0]
            values[name] = value if isinstance(value, str | None) else _number(float(value))
        of_entity = {f"stale:{entity}"} | {
            f"profile_{what}:{profile.name}"
            for profile in reader.profiles
            if profile.entity == entity
            for what in ("missing", "stale")
        }
        raised = [name for name, rows in matrix.flags.items() if name in of_entity and rows[0]]
        return values, raised, _oldest(read, entity)


def _oldest(read: list[ReadKeys], entity: str) -> int:
    times = [int(keys.oldest_ms[0]) for keys in read if keys.keys.entity == entity and len(keys.oldest_ms)]
    return min(times, default=-1)


def _names(scorer: Scorer, reader: Reader, entity: str) -> list[str]:
    """The entity's aggregations and profile fields, in the reader's order."""
    groups = scorer.plan.groups
    of_entity = {feature.name for feature in reader.features if groups[feature.group].entity == entity}
    for profile in reader.profiles:
        if profile.entity == entity:
            of_entity.update(profile_feature_name(field.name, entity) for field in profile_fields(profile))
            of_entity.add(profile_feature_name(f"{profile.name}_age", entity))
    return [name for name in (*reader.names, *reader.text_names) if name in of_entity]


def _question(source: Source, columns: tuple[str, ...], key: str, as_of: int) -> SourceBatch:
    """An event of which nothing is known but the time and one entity's key."""
    values = split_key(key) if len(columns) > 1 else [key]
    if len(values) != len(columns):
        detail = f"expected {len(columns)} values joined with `|`, got {len(values)}"
        raise Problem(422, "invalid-key", f"key: {detail}", (FieldError("key", detail),))
    known = dict(zip(columns, values, strict=True))
    filled: dict[str, Column] = {}
    for field in source.fields:
        text = known.get(field.name)
        if field.dtype == "string":
            filled[field.name] = [text]
        else:
            filled[field.name] = np.array([np.nan if text is None else _whole(text)])
    stamp = np.array([as_of], np.int64)
    nowhere = np.array([NOWHERE], np.int64)
    return SourceBatch(
        source, [""], stamp, stamp, nowhere.astype(np.int32), nowhere, np.zeros(1, np.int64), filled
    )


def split_key(key: str) -> list[str]:
    """The values of a composite key's text.

    >>> split_key("a\\\\|b|3")
    ['a|b', '3']
    """
    values = [""]
    escaped = False
    for letter in key:
        if letter == "\\" and not escaped:
            escaped = True
        elif letter == "|" and not escaped:
            values.append("")
        else:
            values[-1] += letter
            escaped = False
    return values


def _whole(text: str) -> float:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        detail = "expected a whole number"
        raise Problem(422, "invalid-key", f"key: {detail}", (FieldError("key", detail),))
    return float(text)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
