"""What a worker scores and commits together: a unit of work, before and after it is scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TopicPartition

from features.core.batch import MicroBatch
from models.decision.decisions import Decisions
from stream.codecs.alerts import Record
from stream.codecs.contracts import DeadLetter

Outputs = list[tuple[str, list[Record]]]
"""Records by topic."""


@dataclass(slots=True)
class Decoded:
    """Events ready to be scored, and the messages that hold none."""

    batch: MicroBatch
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Messages of the batch."""
        return len(self.batch) + len(self.letters)


@dataclass(slots=True)
class ScoredBatch:
    """A scored unit of work, to be delivered and committed.

    `offsets` is what it commits (PROTOCOL 2.3); `group` is the group's metadata as of when it was consumed, which
    fences the commit of a worker that has lost its partitions.
    """

    decoded: Decoded
    decisions: list[Decisions]
    outputs: Outputs
    offsets: list[TopicPartition] = field(default_factory=list)
    group: Any = None
