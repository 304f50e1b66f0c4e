"""The features that an alert shows of others' slices, computed anew from the log and the alert's stamps.

Slow and obvious: what a merchant sold and which labels a card had, as far as the stamps say the worker had seen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import msgspec

from tests.chaos.produced import Produced

HOUR = 3_600_000
DAY = 24 * HOUR
LATENESS = HOUR
COUNT = "tx_count_1h_by_merchant"
TOTAL = "amount_sum_1h_by_merchant"
RATE = "labels_rate_1d_by_card"


class Shared:
    """All that was sent, by merchant and by card, with places in the log."""

    def __init__(self, messages: list[Produced]) -> None:
        offsets: dict[tuple[str, int], int] = defaultdict(int)
        self.sales: dict[tuple[str, int], list[tuple[int, int, float]]] = defaultdict(list)
        self.labels: dict[tuple[str, int], list[tuple[int, int, int, bool]]] = defaultdict(list)
        seen: set[tuple[str, int]] = set()
        for one in messages:
            place = (one.topic, one.partition)
            offset = offsets[place]
            offsets[place] += 1
            event = msgspec.json.decode(one.value)
            if one.topic == "labels":
                label = (offset, event["known"], event["at"], event["fraud"])
                self.labels[event["card"], one.partition].append(label)
            elif event["amount"] != "bad" and (event["id"], event["at"]) not in seen:
                seen.add((event["id"], event["at"]))
                self.sales[event["merchant"], one.partition].append((offset, event["at"], event["amount"]))

    def _newest(self, merchant: str, stamps: dict[str, Any]) -> int:
        """The newest sale that the worker had seen: partitions that lag behind it by more than `lateness` are not
        promised exact features, because a slice forgets by its own newest event."""
        times = [
            when
            for partition, stamp in stamps.get("merchant", {}).get("tx", {}).items()
            for offset, when, _ in self.sales[merchant, int(partition)]
            if offset < stamp
        ]
        return max(times, default=0)

    def problem(self, alert: dict[str, Any], amount: float) -> str:
        """What of the alert's shared features its stamps do not explain; empty when all is explained."""
        at = alert["times"]["event"] // 1000
        keys, stamps = alert["entity_keys"], alert["stamps"]
        if self._newest(keys["merchant"], stamps) > at + LATENESS:
            return ""
        sold = [
            paid
            for partition, stamp in stamps.get("merchant", {}).get("tx", {}).items()
            for offset, when, paid in self.sales[keys["merchant"], int(partition)]
            if offset < stamp and at - HOUR < when <= at
        ]
        if not alert["duplicate"]:
            sold.append(amount)
        values = [
            fraud
            for partition, stamp in stamps.get("card", {}).get("labels", {}).items()
            for offset, known, placed, fraud in self.labels[keys["card"], int(partition)]
            if offset < stamp and known <= at and at - DAY < placed <= at
        ]
        wanted = {
            COUNT: float(len(sold)),
            TOTAL: math.fsum(sold),
            RATE: sum(values) / len(values) if values else None,
        }
        found = {name: alert["features"][name] for name in wanted}
        same = all(_close(found[name], wanted[name]) for name in wanted)
        return "" if same else f"{alert['source']}: {found} where its stamps give {wanted}"


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9)
