"""Decisions to records: alerts for people, decisions for the log.

The value is JSON of `stream.codecs.contracts`; the key is the primary entity's, so that one card's alerts stay in
order; headers are those of a CloudEvent in binary mode, and the event's own trace context.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np

from features.core.batch import SourceBatch, take_rows
from features.core.times import rfc3339_all
from features.definitions.plan import Plan, Reader
from features.engine.key_texts import key_texts
from models.decision.decisions import Decisions, Reason
from stream.codecs.contracts import (
    SCHEMA_VERSION,
    Alert,
    DecidedBy,
    Decision,
    DecisionWord,
    EventPlace,
    RankedReason,
    SeverityWord,
    Times,
    alert_id,
)
from stream.codecs.messages import Headers

Kind = Literal["alert", "decision"]
_DECISIONS: tuple[DecisionWord, ...] = get_args(DecisionWord)
_SEVERITIES: tuple[SeverityWord, ...] = get_args(SeverityWord)
_TRACE = ("traceparent", "tracestate")


class Record(NamedTuple):
    """What is produced: to which topic is the caller's affair."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class AlertEncoder:
    """Writes decisions of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._encoder = msgspec.json.Encoder()

    def alerts(self, decisions: Decisions, scored_at: int | None = None) -> list[Record]:
        """One record for each row that alerts; `scored_at` in microseconds, now when not given."""
        return self._encode(decisions, np.flatnonzero(decisions.alert).tolist(), "alert", scored_at)

    def decisions(self, decisions: Decisions, scored_at: int | None = None) -> list[Record]:
        """One record for each row."""
        return self._encode(decisions, list(range(len(decisions))), "decision", scored_at)

    def _encode(
        self, decisions: Decisions, rows: list[int], kind: Kind, scored_at: int | None
    ) -> list[Record]:
        if not rows:
            return []
        scored = time.time_ns() // 1000 if scored_at is None else scored_at
        made = self.messages(decisions, rows, kind, scored)
        batch = decisions.features.batch
        primary = self._plan.readers[batch.source.name].primary
        encode = self._encoder.encode
        return [
            Record(_key(message, primary), encode(message), self._headers(message, batch, row, kind))
            for row, message in zip(rows, made, strict=True)
        ]

    def messages(
        self, decisions: Decisions, rows: Sequence[int], kind: Kind, scored: int
    ) -> Iterator[Decision]:
        """The messages before they are bytes, one at a time: thousands alive at once would cost as much again."""
        source = decisions.features.batch.source
        make = Alert if kind == "alert" else Decision
        reader = self._plan.readers[source.name]
        snapshot = _Snapshot(decisions, rows, reader)
        by = decisions.model
        model = DecidedBy(name=by.name, version=by.version, sha256=by.sha256)
        for place, row in enumerate(rows):
            event_id, event_time = snapshot.event_ids[place], snapshot.event_time[place]
            keys = snapshot.keys(place)
            primary = keys.get(reader.primary) if reader.primary else None
            yield (
                make(
                    alert_id=alert_id(source.name, event_id, decisions.mode),
                    schema_version=SCHEMA_VERSION,
                    mode=decisions.mode,
                    event_id=event_id,
                    event_type=snapshot.event_types[place] or source.name,
                    event_time=snapshot.event_time_text[place],
                    entity_keys=keys,
                    case_key=f"{source.name}:{event_id}"
                    if primary is None
                    else f"{reader.primary}:{primary}",
                    decision=_DECISIONS[snapshot.decision[place]],
                    score=_number(snapshot.score[place]),
                    threshold=_number(snapshot.threshold[place]),
                    severity=_SEVERITIES[snapshot.severity[place]],
                    reasons=tuple(map(ranked_reason, decisions.reasons.get(row, ()))),
                    rules=decisions.rules_hit.get(row, ()),
                    model=model,
                    plan=self._plan.fingerprint,
                    policy=decisions.policy,
                    features=snapshot.features(place),
                    flags=snapshot.flags(row),
                    duplicate=snapshot.duplicate[place],
                    late=snapshot.late[place],
                    stamps=snapshot.stamps(row),
                    source=EventPlace(
                        topic=source.topic,
                        partition=snapshot.partition[place],
                        offset=snapshot.offset[place],
                    ),
                    times=Times(event=event_time, received=snapshot.received[place], scored=scored),
                    exposure=_number(snapshot.amounts[place]),
                    alert=snapshot.alert[place],
                    suppressed=snapshot.suppressed[place],
                    released=snapshot.released[place],
                )
            )

    def _headers(self, message: Decision, batch: SourceBatch, row: int, kind: Kind) -> Headers:
        headers: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", message.alert_id.encode()),
            ("ce_source", f"/riskstream/{batch.source.name}".encode()),
            ("ce_type", f"riskstream.{kind}.v{SCHEMA_VERSION}".encode()),
            ("ce_time", message.event_time.encode()),
            ("content-type", b"application/json"),
        ]
        own = batch.headers[row] if batch.headers else None
        if own:
            headers += [(name, value) for name, value in own if name in _TRACE]
        return headers


class _Snapshot:
    """Features, keys, flags and stamps of chosen rows, taken out of their columns at once."""

    def __init__(self, decisions: Decisions, rows: Sequence[int], reader: Reader) -> None:
        matrix = decisions.features
        batch = matrix.batch
        source = batch.source
        chosen = np.asarray(rows, dtype=np.int64)
        nothing = [None] * len(rows)
        self.event_ids = [batch.event_ids[row] for row in rows]
        self.event_types = _picked(batch, source.event_type, rows) if source.event_type else nothing
        self.amounts = _picked(batch, source.amount, rows) if source.amount else nothing
        self.event_time = batch.event_time[chosen].tolist()
        self.event_time_text = rfc3339_all(batch.event_time[chosen])
        self.received = batch.received_time[chosen].tolist()
        self.partition = batch.partition[chosen].tolist()
        self.offset = batch.offset[chosen].tolist()
        self.decision = decisions.decision[chosen].tolist()
        self.severity = decisions.severity[chosen].tolist()
        self.score = decisions.score[chosen].tolist()
        self.threshold = decisions.threshold[chosen].tolist()
        self.alert = decisions.alert[chosen].tolist()
        self.suppressed = decisions.suppressed[chosen].tolist()
        released = np.zeros(len(rows), np.bool_) if decisions.released is None else decisions.released[chosen]
        self.released = released.tolist()
        self.duplicate = matrix.duplicate[chosen].tolist()
        self.late = matrix.late[chosen].tolist()
        self._names = matrix.names
        self._values = matrix.values[chosen].tolist()
        self._texts = {name: [texts[row] for row in rows] for name, texts in matrix.strings.items()}
        self._flags = matrix.flags
        self._stamps = matrix.stamps
        self._keys = {
            name: key_texts([take_rows(batch.columns[column], chosen) for column in columns])
            for name, columns in reader.entity_keys.items()
        }

    def features(self, place: int) -> dict[str, float | str | None]:
        out: dict[str, float | str | None] = dict(zip(self._names, self._values[place], strict=True))
        for name, texts in self._texts.items():
            out[name] = texts[place]
        return out

    def keys(self, place: int) -> dict[str, str | None]:
        return {name: texts[place] for name, texts in self._keys.items()}

    def flags(self, row: int) -> tuple[str, ...]:
        return tuple(name for name, raised in self._flags.items() if raised[row])

    def stamps(self, row: int) -> dict[str, dict[str, dict[str, int]]]:
        out: dict[str, dict[str, dict[str, int]]] = {}
        for one in self._stamps:
            seen = zip(one.partitions, one.stamps[row].tolist(), strict=True)
            read = {str(partition): stamp for partition, stamp in seen if stamp >= 0}
            if read:
                out.setdefault(one.entity, {})[one.source] = read
        return out


def _picked(batch: SourceBatch, name: str, rows: Sequence[int]) -> list[Any]:
    column = take_rows(batch.columns[name], np.asarray(rows, dtype=np.int64))
    return column if isinstance(column, list) else column.tolist()


def ranked_reason(reason: Reason) -> RankedReason:
    """A reason as it is published."""
    return RankedReason(
        code=reason.code,
        feature=reason.feature,
        value=reason.value,
        baseline=reason.baseline,
        contribution=reason.contribution,
        text=reason.text,
    )


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None


def _key(message: Decision, primary: str | None) -> bytes:
    key = message.entity_keys.get(primary) if primary else None
    return (key or message.event_id).encode()
