"""Events of a file, checked against a source's definition, and sent to its topic."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.core.batch import SourceBatch
from features.core.errors import ConfigurationError
from features.core.files import lines, read_text
from features.core.times import now_ms
from features.definitions.plan import Plan
from features.definitions.spec import Source
from features.engine.key_texts import key_texts
from stream.codecs.messages import RawBatch
from stream.codecs.shape import EXACT
from stream.kafka.client.sender import Sender
from stream.project import build
from stream.settings.config import load


@dataclass(frozen=True)
class RejectionCause:
    """What is wrong with some events: the first one's line and reason, and how many there are."""

    line: int
    reason: str
    count: int


@dataclass
class Emitted:
    """What became of a file's events; `rejected` holds line number and reason."""

    topic: str
    good: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)

    def causes(self) -> list[RejectionCause]:
        """Rejected events by cause, the most frequent first."""
        first: dict[str, tuple[int, str]] = {}
        counts: Counter[str] = Counter()
        for line, reason in self.rejected:
            wanted = reason.partition(", got ")[0]
            first.setdefault(wanted, (line, reason))
            counts[wanted] += 1
        return [RejectionCause(*first[wanted], count) for wanted, count in counts.most_common()]


def emit_file(config_file: Path, file: Path, source: str | None, *, send: bool) -> Emitted:
    """Check the lines of a file and send the good ones in order, where `send` says so."""
    config = load(config_file)
    plan = build.make_plan(config)
    chosen = _chosen(plan, source)
    events = _events(file)
    raw = _raw(chosen, list(events.values()))
    batch, letters = build.make_decoders(config, plan)[chosen.topic].decode(raw)
    numbers = list(events)
    done = Emitted(chosen.topic)
    done.rejected = [(numbers[letter.offset], f"{letter.path}: {letter.reason}") for letter in letters]
    rows = []
    for row, offset in enumerate(np.asarray(batch.offset).tolist()):
        if lost := _lost_digits(chosen, raw.values[offset]):
            done.rejected.append((numbers[offset], lost))
        else:
            rows.append(row)
    done.rejected.sort()
    done.good = len(rows)
    if send and rows:
        whole = batch.take(np.array(rows, dtype=np.int64))
        Sender(config.kafka).send(chosen.topic, _messages(chosen, whole, raw))
    return done


def _raw(source: Source, values: list[bytes]) -> RawBatch:
    """The events as messages of a partition; the key is what this sends, so it is not yet there to be checked."""
    size = len(values)
    offsets = list(range(size))
    return RawBatch(
        source.topic, [0] * size, offsets, [now_ms()] * size, [b""] * size, [*values], [None] * size
    )


def _lost_digits(source: Source, value: bytes | None) -> str:
    """What is wrong with an event whose whole numbers have more digits than a float64 column holds."""
    event = json.loads(value or b"{}")
    for declared in source.fields:
        if declared.dtype != "float64":
            continue
        path = declared.alias or declared.name
        number = event
        for step in path.split("."):
            number = number.get(step) if isinstance(number, dict) else None
        if isinstance(number, int) and abs(number) > EXACT and int(float(number)) != number:
            return f"$.{path}: expected at most 2**53 where a number is whole, got {number}: digits would be lost"
    return ""


def _messages(source: Source, batch: SourceBatch, raw: RawBatch) -> list[tuple[bytes | None, bytes]]:
    """Key and value of each good event."""
    keys = key_texts([batch.columns[source.key]]) if source.key else [None] * len(batch)
    values = [raw.values[row] for row in np.asarray(batch.offset).tolist()]
    return [(None if key is None else key.encode(), value) for key, value in zip(keys, values, strict=True)]


def _chosen(plan: Plan, name: str | None) -> Source:
    scored = [source for source in plan.sources.values() if source.scored]
    if name is None and len(plan.sources) == 1:
        return next(iter(plan.sources.values()))
    if name is None and len(scored) == 1:
        return scored[0]
    if name is None or name not in plan.sources:
        raise ConfigurationError(f"--source: name one of {', '.join(plan.sources)}")
    return plan.sources[name]


def _events(file: Path) -> dict[int, bytes]:
    """Lines that are not empty, by number; a file with one object over several lines is one event."""
    text = read_text(file)
    numbered = {number: line.encode() for number, line in enumerate(lines(text), 1) if line.strip()}
    if text.strip().startswith("{") and not all(line.startswith(b"{") for line in numbered.values()):
        return {1: text.encode()}
    return numbered
