"""The states of a worker and the transitions between them (PROTOCOL 5)."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What the worker's next step is.

                     assigned                         nothing to replay
        WAITING ----------------> RECOVERING ----------------------------------> LIVE
           ^                       |  ^   ^ \\                                    ^ |
           |                       |  |   |  \\  state is behind C               | |
           |                       +--+   |   +--------------> REPLAYING -------+ |
           |              try again       |                      | |    came to C |
           |                              +----------------------+-|--------------+
           |                                a RetriableError       |              |
           +-----------------------------------+-------------------+--------------+
                       partitions were revoked or lost, in any phase

    WAITING     no partitions: poll, so that the group keeps us
    RECOVERING  read offsets and marks, and where each partition is to be consumed from
    REPLAYING   fold what lies between marks and committed offsets, muted
    LIVE        score

    The group's callbacks run inside any poll, so the phase may be another after each.
    """

    WAITING = "waiting"
    RECOVERING = "recovering"
    REPLAYING = "replaying"
    LIVE = "live"
