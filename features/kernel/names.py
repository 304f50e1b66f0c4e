"""Numbers with a meaning, by name: kinds of results, cells of accumulators, status bits, counters of the arena."""

from __future__ import annotations

import numpy as np

# Times that no event has.
NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min

# Kinds of results.
COUNT, SUM, MEAN, STD, MIN, MAX, FIRST, LAST, DISTINCT, ELAPSED, SHARE = range(11)

# What a scan or an accumulator is read for, beside counts and sums: one bit each.
NEEDS_SQUARES, NEEDS_EXTREMES, NEEDS_ENDS, NEEDS_DISTINCT = 1, 2, 4, 8

# Status bits of an event.
DUPLICATE, LATE = 1, 2

# Cells of an accumulator's floats. Sums and sums of squares are double-doubles: value and what rounding cut off.
F_COUNT, F_SUM, F_SUM_REST, F_SQUARES, F_SQUARES_REST, F_MIN, F_MAX, F_FIRST, F_LAST = range(9)
F_CELLS = 9
F_DISTINCT = F_SQUARES  # a scan for distinct tokens has no squares: it leaves their count in that cell

# Cells of an accumulator's integers: of its first and last event the time and the token; a scan, which goes through
# the rows of several partitions, also keeps the row that each came from.
I_FIRST_TIME, I_LAST_TIME, I_FIRST_TOKEN, I_LAST_TOKEN, I_FIRST_ROW, I_LAST_ROW = range(6)
I_CELLS = 4
I_SCAN_CELLS = 6

# Sizes. Events lie in blocks of 2**size_class, SMALLEST_CLASS at least; SIZE_CLASSES lists hold the free blocks.
SMALLEST_CLASS = 3
SIZE_CLASSES = 20
SAMPLE = 1024
"""Most tokens that a row's buckets keep one by one, for each token column."""
COMPACT_EVERY = 64
"""Buckets are merged each time that their number reaches a multiple of this."""

# Counters of an arena: its ends, the heads of its free lists (-1: empty), what is alive, what happened.
M_END, M_ROWS, M_FREE_ROW, M_LATE, M_FORGOTTEN, M_DUPLICATES, M_BUCKETS, M_FREE_BUCKET, M_FREE_BLOCK = range(
    9
)
M_LIVE_EVENTS = M_FREE_BLOCK + SIZE_CLASSES
M_LIVE_ROWS = M_LIVE_EVENTS + 1
M_LIVE_BUCKETS = M_LIVE_EVENTS + 2
M_TOUCHED = M_LIVE_EVENTS + 3
M_CELLS = M_LIVE_EVENTS + 4
