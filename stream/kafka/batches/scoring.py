"""What scores batches and keeps their state, whoever consumes: the worker, or an agent of Faust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.state.flusher import Flusher
from features.state.slices import SliceState
from features.store.base import Partition
from stream.codecs.messages import PartitionId
from stream.kafka.batches.processor import BatchProcessor
from stream.scoring.scorer import Scorer
from stream.settings.config import Config


@dataclass(frozen=True, slots=True)
class ScoringSetup:
    """Made ready by stream/kafka/worker/wiring.py. `sources` names the source of each topic."""

    config: Config
    scorer: Scorer
    state: SliceState
    flusher: Flusher
    processor: BatchProcessor
    sources: Mapping[str, str]

    def in_state(self, partition: PartitionId) -> Partition:
        """The name of a partition in state: by source, so that a topic may be renamed in another namespace."""
        return Partition(self.sources[partition[0]], partition[1])
