"""What every wire format offers: messages of one topic become columns."""

from __future__ import annotations

from typing import Protocol

from features.core.batch import SourceBatch
from features.definitions.spec import Source
from stream.codecs.contracts import DeadLetter
from stream.codecs.messages import RawBatch


class Decoder(Protocol):
    """Decodes the messages of one source's topic. Never blocks."""

    @property
    def source(self) -> Source:
        """The source whose events the topic holds."""
        ...

    def decode(self, raw: RawBatch) -> tuple[SourceBatch, list[DeadLetter]]:
        """Columns of the good messages, in the order given, and a dead letter for each bad one."""
        ...
