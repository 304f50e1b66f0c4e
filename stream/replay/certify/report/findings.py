"""What a replay found: counts, and the first differences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from stream.replay.certify.report.causes import Explanation
from stream.replay.certify.report.certificate import SHOWN, Counts, Difference


@dataclass
class Findings:
    """Counts, and the first `SHOWN` differences."""

    counts: Counts = field(default_factory=Counts)
    different: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    shown: list[Difference] = field(default_factory=list)

    def report(self, difference: Difference, reason: Explanation) -> None:
        """Count one more difference and its cause."""
        self.different += 1
        self.causes[reason.cause.value] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(msgspec.structs.replace(difference, cause=reason.text))
