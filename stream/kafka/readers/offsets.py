"""What the brokers know of the group's input: committed offsets and the range of the log. For tools, not workers."""

from __future__ import annotations

from collections.abc import Iterable

from features.definitions.plan import Plan
from features.store.base import Partition
from stream.codecs.messages import PartitionId
from stream.kafka.readers.log import TopicLog
from stream.settings.config import Config


def committed(config: Config, topics: Iterable[str]) -> dict[PartitionId, int]:
    """What the project's group has committed of some topics; without partitions of which it has committed nothing."""
    with TopicLog(config.kafka, "offsets") as log:
        return log.committed(
            (topic, number) for topic in topics if log.exists(topic) for number in log.partitions(topic)
        )


class GroupOffsets(TopicLog):
    """Asks about the inputs of a plan, without joining the group."""

    def __init__(self, config: Config, plan: Plan, *, recovering: bool = False) -> None:
        super().__init__(config.kafka, "offsets", recovering=recovering)
        self._sources = {source.topic: name for name, source in plan.sources.items()}

    def inputs(self) -> dict[PartitionId, Partition]:
        """Each partition of the inputs, with its name in state."""
        return {
            (topic, number): Partition(name, number)
            for topic, name in self._sources.items()
            if self.exists(topic)
            for number in self.partitions(topic)
        }

    def committed_by_source(self) -> dict[Partition, int]:
        """Committed offset of each partition of the inputs; 0 where there is none."""
        inputs = self.inputs()
        offsets = self.committed(inputs)
        return {named: offsets.get(partition, 0) for partition, named in inputs.items()}

    def log_starts(self) -> dict[Partition, int]:
        """First offset that each partition's log still holds."""
        return {named: self.bounds(partition)[0] for partition, named in self.inputs().items()}
