"""Events of a file, checked against a source's definition, and sent to its topic."""

from __future__ import annotations

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
from stream.kafka.client.sender import Sender
from stream.project import build
from stream.settings.config import load


@dataclass
class Emitted:
    """What became of a file's events; `rejected` holds line number and reason."""

    topic: str
    good: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)


def emit_file(config_file: Path, file: Path, source: str | None, *, send: bool) -> Emitted:
    """Check the lines of a file and send the good ones in order, where `send` says so."""
    config = load(config_file)
    plan = build.make_plan(config)
    chosen = _chosen(plan, source)
    events = _events(file)
    decoder = build.make_decoders(config, plan)[chosen.topic]
    now = now_ms()
    size = len(events)
    # The key is what this sends, so it is not yet there to be checked.
    raw = RawBatch(
        chosen.topic,
        [0] * size,
        list(range(size)),
        [now] * size,
        [b""] * size,
        [*events.values()],
        [None] * size,
    )
    batch, letters = decoder.decode(raw)
    numbers = list(events)
    done = Emitted(chosen.topic, len(batch))
    done.rejected = [(numbers[letter.offset], f"{letter.path}: {letter.reason}") for letter in letters]
    if send and len(batch):
        Sender(config.kafka).send(chosen.topic, _messages(chosen, batch, raw))
    return done


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
