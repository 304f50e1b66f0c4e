"""The arrays that compiled passes work on, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Floats, Ints

Words = NDArray[np.uint32]


class Entries(NamedTuple):
    """Stored events of a group, in blocks; `values` and `tokens` have a row for each column of the source.

    Of labels, `known` is when a version was learnt and `until` when the next one was; empty in other groups.
    """

    time: Ints
    id_hash: Words
    bits: Words
    values: Floats
    tokens: Ints
    known: Ints
    until: Ints


class Rows(NamedTuple):
    """One row for each key and partition: where its ring of events lies, and what is known of it.

    `start` and `size_class` say which block, `head` and `length` which of its entries, oldest first. `following` is the
    key's row of the next partition, or the next free row; `bucket` the row's block of buckets, or -1.
    `touched` begins with the numbers of the rows that are dirty, each once, `meta[M_TOUCHED]` of them.
    """

    key: Ints
    partition: Ints
    start: Ints
    head: Ints
    length: Ints
    size_class: Ints
    stamp: Ints
    newest: Ints
    following: Ints
    dirty: Ints
    bucket: Ints
    touched: Ints


class Buckets(NamedTuple):
    """Sums of events that have left a full ring, a block of buckets for each row that has any.

    `length` is how many of a block's buckets are used (of a free block: the next free one).
    `floats[block, bucket, accumulator]` and `integers[...]` are accumulators (cells in features.kernel.names).
    `sample` holds the block's tokens of lowest hash, ascending, `seen` the newest time of each.
    """

    length: Ints
    start: Ints
    end: Ints
    floats: Floats
    integers: Ints
    sampled: Ints
    sample: Ints
    seen: Ints


class Scratch(NamedTuple):
    """Accumulators of every scan and window for one event, and a hash set that counts distinct tokens."""

    floats: Floats
    integers: Ints
    table: Ints
    newest: Ints
    used: Ints


class Arena(NamedTuple):
    """All state of a group. `heads` is each key's first row, -1 for none; `meta` are the counters."""

    entries: Entries
    rows: Rows
    heads: Ints
    buckets: Buckets
    meta: Ints
    scratch: Scratch


class GroupLayout(NamedTuple):
    """What never changes for a group: what its accumulators sum, and what its scans read.

    `block` is the room that one row may need for its events. `reach` are delay + window, ascending, `finest` the
    shortest window among those of at least this reach. A scan covers `scan_windows` windows from `scan_first` on.
    """

    label: bool
    horizon: int
    capacity: int
    block: int
    conditions: int
    reach: Ints
    finest: Ints
    acc_value: Ints
    acc_token: Ints
    acc_where: Ints
    acc_needs: Ints
    scan_acc: Ints
    scan_delay: Ints
    scan_current: Bools
    scan_first: Ints
    scan_windows: Ints
    scan_needs: Ints
    windows: Ints


class Events(NamedTuple):
    """Events of one group in scoring order; the last axis of each array runs over them.

    `key` is the index of the event's key (-1: it has none), `position` the time of the event that a label belongs to,
    `folds` says which events go into the state, `row` where an event's features go.
    """

    key: Ints
    partition: Ints
    offset: Ints
    time: Ints
    position: Ints
    id_hash: Words
    bits: Words
    values: Floats
    tokens: Ints
    folds: Bools
    row: Ints


class Reads(NamedTuple):
    """What is read for one source: of each feature the kind, the cell of its window, and the column it fills.

    `events` says which events read. `of` is the cell that a share divides by, -1 for none; `column` is -1 for a text,
    `text` for a number.
    """

    events: Bools
    kind: Ints
    cell: Ints
    of: Ints
    fill: Floats
    column: Ints
    text: Ints


class Results(NamedTuple):
    """What a pass writes: numbers and tokens of texts by the events' rows, status bits by event.

    `stamps[row, i]` is the stamp of the slice of partition `partitions[i]`.
    """

    values: Floats
    texts: Ints
    status: Ints
    stamps: Ints
    partitions: Ints
