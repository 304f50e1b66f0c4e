"""A message of the chaos job's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Produced:
    """A message of the input."""

    topic: str
    partition: int
    key: bytes
    value: bytes
