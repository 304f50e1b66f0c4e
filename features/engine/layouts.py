"""What the kernel needs to know of a plan: a group's layout, and which cells make which columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.core.batch import Bools, Floats, Ints
from features.definitions.plan import Feature, Group
from features.kernel import names as k
from features.kernel.tables import GroupLayout, Reads

_KINDS = {
    "count": k.COUNT,
    "sum": k.SUM,
    "mean": k.MEAN,
    "std": k.STD,
    "min": k.MIN,
    "max": k.MAX,
    "first": k.FIRST,
    "last": k.LAST,
    "distinct": k.DISTINCT,
    "elapsed": k.ELAPSED,
    "share": k.SHARE,
    "rate": k.MEAN,  # of a label that is 0 or 1
}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which cells of a group's scans make which columns of one source's matrix."""

    kind: Ints
    cell: Ints
    of: Ints
    fill: Floats
    column: Ints
    text: Ints

    def __len__(self) -> int:
        return len(self.kind)

    def reads(self, events: Bools) -> Reads:
        """The same for the events that read."""
        return Reads(events, self.kind, self.cell, self.of, self.fill, self.column, self.text)


_NO_CELLS = np.zeros(0, np.int64)
NO_OUTPUTS = Outputs(_NO_CELLS, _NO_CELLS, _NO_CELLS, np.zeros(0), _NO_CELLS, _NO_CELLS)
"""Of events that no source reads."""


def outputs(layout: GroupLayout, features: list[tuple[Feature, int]]) -> Outputs:
    """The outputs of features, each given with its column among the numbers or the texts."""
    first = layout.scan_first
    return Outputs(
        kind=np.array([_KINDS[f.function] for f, _ in features], np.int64),
        cell=np.array([first[f.scan] + f.window for f, _ in features], np.int64),
        of=np.array([first[f.of_scan] + f.window if f.of_scan >= 0 else -1 for f, _ in features], np.int64),
        fill=np.array([f.fill for f, _ in features], np.float64),
        column=np.array([-1 if f.text else column for f, column in features], np.int64),
        text=np.array([column if f.text else -1 for f, column in features], np.int64),
    )


def group_layout(group: Group) -> GroupLayout:
    """The layout of a group: one accumulator for each column and condition, however many scans read it."""
    accs: dict[tuple[int, int, int], int] = {}
    scan_acc: list[int] = []
    first: list[int] = []
    windows: list[int] = []
    for scan in group.scans:
        scan_acc.append(accs.setdefault((scan.value, scan.token, scan.where), len(accs)))
        first.append(len(windows))
        windows.extend(scan.windows)
    spans = sorted({(scan.delay + w, w) for scan in group.scans for w in scan.windows})
    needs = [
        scan.needs_squares * k.NEEDS_SQUARES
        + scan.needs_extremes * k.NEEDS_EXTREMES
        + scan.needs_ends * k.NEEDS_ENDS
        + scan.needs_distinct * k.NEEDS_DISTINCT
        for scan in group.scans
    ]
    return GroupLayout(
        label=group.label,
        horizon=group.horizon + group.lateness,
        capacity=group.capacity,
        block=_block(group.capacity),
        conditions=len(group.conditions),
        reach=np.array([reach for reach, _ in spans], np.int64),
        finest=np.array([min(w for far, w in spans if far >= reach) for reach, _ in spans], np.int64),
        acc_value=np.array([value for value, _, _ in accs], np.int64),
        acc_token=np.array([token for _, token, _ in accs], np.int64),
        acc_where=np.array([where for _, _, where in accs], np.int64),
        acc_needs=np.array([_joined(needs, scan_acc, number) for number in range(len(accs))], np.int64),
        scan_acc=np.array(scan_acc, np.int64),
        scan_delay=np.array([scan.delay for scan in group.scans], np.int64),
        scan_current=np.array([scan.include_current for scan in group.scans]),
        scan_first=np.array(first, np.int64),
        scan_windows=np.array([len(scan.windows) for scan in group.scans], np.int64),
        scan_needs=np.array(needs, np.int64),
        windows=np.array(windows, np.int64),
    )


def _block(capacity: int) -> int:
    """The room that one row may need: its ring while it grows."""
    block = 16
    while block < capacity * 4:
        block *= 2
    return block


def _joined(needs: list[int], scan_acc: list[int], acc: int) -> int:
    """What any scan of an accumulator needs."""
    joined = 0
    for need, number in zip(needs, scan_acc, strict=True):
        joined |= need if number == acc else 0
    return joined
