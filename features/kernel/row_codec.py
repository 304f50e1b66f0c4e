"""Rows to bytes and back, in bulk: one compiled pass over all rows that changed.

The format is described in docs/reference/state-format.md; its version is row_format.STATE_FORMAT. Encoding loses
nothing: decode(encode(row)) is the row, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Floats, Ints
from features.core.compiled import Scalar, inlined, lean, lean_released
from features.core.prefetch import prefetch
from features.kernel.arena import entry_at, fetch_entries, is_full, link_versions, new_row, open_gap
from features.kernel.buckets import clear, new_bucket
from features.kernel.names import (
    F_COUNT,
    F_MAX,
    F_MIN,
    F_SQUARES,
    F_SQUARES_REST,
    F_SUM,
    F_SUM_REST,
    I_CELLS,
    I_FIRST_TIME,
    NEVER,
)
from features.kernel.row_format import STATE_FORMAT
from features.kernel.tables import Arena, Buckets, Entries, GroupLayout, Rows
from features.kernel.varints import (
    Bytes,
    read_varint,
    read_word,
    unzigzag,
    write_varint,
    write_word,
    zigzag,
)

RAW = 255
"""Stands for the power of ten of values that are stored as the doubles themselves."""

HAS_SUM, HAS_SUM_REST, HAS_SQUARES, HAS_EXTREMES, HAS_ENDS = 1, 2, 4, 8, 16
_PIECE = (
    0,
    HAS_SUM,
    HAS_SUM_REST,
    HAS_SQUARES,
    HAS_SQUARES,
    HAS_EXTREMES,
    HAS_EXTREMES,
    HAS_ENDS,
    HAS_ENDS,
)
"""The piece of an encoded accumulator that holds each cell of its floats."""


class Word(NamedTuple):
    """Eight bytes seen as a float and as bits."""

    real: Floats
    bits: NDArray[np.uint64]


class Workspace(NamedTuple):
    """Room for one column of the longest row, and a word."""

    column: Floats
    tokens: Ints
    word: Word


class EncodedRows(NamedTuple):
    """Rows as bytes: row j of key `keys[j]` and partition `partitions[j]` begins at `starts[j]`."""

    keys: Ints
    partitions: Ints
    data: Bytes
    starts: Ints


def workspace(longest: int) -> Workspace:
    """Room for rows of so many events."""
    real = np.zeros(1)
    return Workspace(np.zeros(longest), np.zeros(longest, np.int64), Word(real, real.view(np.uint64)))


@lean
def _scale(values: Floats, n: Scalar) -> Scalar:
    """Smallest power of ten that makes all values whole and comes back to the same bits, else RAW."""
    power = 1.0
    for s in range(5):
        good = True
        for i in range(n):
            x = values[i]
            if x != x:
                continue
            y = np.rint(x * power)
            if (
                not (abs(y) < 4503599627370496.0)
                or y / power != x
                or (y == 0.0 and np.copysign(1.0, x) < 0.0)
            ):
                good = False
                break
        if good:
            return s
        power *= 10.0
    return RAW


@lean
def _encode_accumulator(out: Bytes, p: Scalar, f: Floats, i: Ints, word: Word) -> Scalar:
    """An accumulator but for its count: a byte that says which pieces follow, then those pieces."""
    pieces = 0
    if f[F_SUM] != 0.0:
        pieces |= HAS_SUM
    if f[F_SUM_REST] != 0.0:
        pieces |= HAS_SUM_REST
    if f[F_SQUARES] != 0.0 or f[F_SQUARES_REST] != 0.0:
        pieces |= HAS_SQUARES
    if f[F_MIN] != np.inf or f[F_MAX] != -np.inf:
        pieces |= HAS_EXTREMES
    if i[I_FIRST_TIME] != NEVER:
        pieces |= HAS_ENDS
    out[p] = pieces
    p += 1
    for cell in range(1, 9):
        if pieces & _PIECE[cell]:
            word.real[0] = f[cell]
            p = write_word(out, p, word.bits[0])
    if pieces & HAS_ENDS:
        for cell in range(I_CELLS):
            p = write_word(out, p, np.uint64(i[cell]))
    return p


@lean
def _decode_accumulator(data: Bytes, p: Scalar, f: Floats, i: Ints, word: Word) -> Scalar:
    pieces = data[p]
    p += 1
    for cell in range(1, 9):
        if pieces & _PIECE[cell]:
            word.bits[0], p = read_word(data, p)
            f[cell] = word.real[0]
    if pieces & HAS_ENDS:
        for cell in range(I_CELLS):
            bits, p = read_word(data, p)
            i[cell] = np.int64(bits)
    return p


@lean_released
def rows_bound(arena: Arena, layout: GroupLayout, which: Ints) -> Scalar:
    """Most bytes that rows can take."""
    rows, b = arena.rows, arena.buckets
    values, tokens = arena.entries.values.shape[0], arena.entries.tokens.shape[0]
    per_bucket = 20 + len(layout.acc_value) * 110
    size = 0
    for j in range(len(which)):
        r = which[j]
        size += 64 + rows.length[r] * (10 + 3 + 5 + values * 10 + tokens * 13 + 10) + tokens * 10
        blk = rows.bucket[r]
        if blk >= 0:
            size += 16 + b.length[blk] * per_bucket
            for c in range(tokens):
                size += 10 + b.sampled[blk, c] * 20
    return size


@inlined
def _coarser(unit: Scalar, t: Scalar) -> Scalar:
    """The coarsest unit, `unit` at most, that divides a time: a second, a millisecond or a microsecond."""
    if t % unit == 0:
        return unit
    return 1000 if t % 1000 == 0 and unit > 1000 else 1


@inlined
def _encode_times(e: Entries, rows: Rows, layout: GroupLayout, r: Scalar, out: Bytes, p: Scalar) -> Scalar:
    """Number of events, and of each time, id, condition bits, and of labels when it was known."""
    n = rows.length[r]
    unit = 1_000_000
    for i in range(n):
        x = entry_at(rows, r, i)
        unit = _coarser(unit, e.time[x])
        if layout.label:
            unit = _coarser(unit, e.known[x])
    out[p] = 2 if unit == 1_000_000 else (1 if unit == 1000 else 0)
    p = write_varint(out, p + 1, n)
    last: Scalar = np.int64(0)
    for i in range(n):
        x = entry_at(rows, r, i)
        t = e.time[x] // unit
        p = write_varint(out, p, zigzag(t) if i == 0 else np.uint64(t - last))
        last = t
        h = e.id_hash[x]
        out[p], out[p + 1], out[p + 2] = h & 255, (h >> 8) & 255, (h >> 16) & 255
        p += 3
        if layout.conditions > 0:
            p = write_varint(out, p, e.bits[x])
        if layout.label:
            p = write_varint(out, p, zigzag((e.known[x] - e.time[x]) // unit))
    return p


@inlined
def _encode_values(values: Floats, rows: Rows, r: Scalar, out: Bytes, p: Scalar, work: Workspace) -> Scalar:
    """One column of values: as whole numbers with a power of ten where that loses nothing."""
    n, column = rows.length[r], work.column
    for i in range(n):
        column[i] = values[entry_at(rows, r, i)]
    s = _scale(column, n)
    out[p] = s
    p += 1
    if s == RAW:
        for i in range(n):
            work.word.real[0] = column[i]
            p = write_word(out, p, work.word.bits[0])
        return p
    power = 10.0**s
    for i in range(n):
        v = column[i]
        p = write_varint(
            out, p, np.uint64(0) if v != v else zigzag(np.int64(np.rint(v * power))) + np.uint64(1)
        )
    return p


@inlined
def _encode_tokens(tokens: Ints, rows: Rows, r: Scalar, out: Bytes, p: Scalar, work: Workspace) -> Scalar:
    """One column of tokens: the different ones, then of each event its rank among them, 0 for null."""
    n, count = rows.length[r], 0
    for i in range(n):
        token = tokens[entry_at(rows, r, i)]
        rank = 0
        if token != 0:
            for j in range(count):
                if work.tokens[j] == token:
                    rank = j + 1
                    break
            if rank == 0:
                work.tokens[count] = token
                count += 1
                rank = count
        work.column[i] = rank
    p = write_varint(out, p, count)
    for j in range(count):
        p = write_word(out, p, np.uint64(work.tokens[j]))
    for i in range(n):
        p = write_varint(out, p, np.uint64(work.column[i]))
    return p


@lean
def _encode_buckets(
    b: Buckets, blk: Scalar, accs: Scalar, tokens: Scalar, out: Bytes, p: Scalar, word: Word
) -> Scalar:
    p = write_varint(out, p, b.length[blk])
    last: Scalar = np.int64(0)
    for q in range(b.length[blk]):
        p = write_varint(out, p, zigzag(b.start[blk, q] - last))
        last = b.start[blk, q]
        p = write_varint(out, p, np.uint64(b.end[blk, q] - b.start[blk, q]))
        for a in range(accs):
            f = b.floats[blk, q, a]
            p = write_varint(out, p, np.uint64(f[F_COUNT]))
            if f[F_COUNT] > 0.0:
                p = _encode_accumulator(out, p, f, b.integers[blk, q, a], word)
    for c in range(tokens):
        p = write_varint(out, p, b.sampled[blk, c])
        for j in range(b.sampled[blk, c]):
            p = write_word(out, p, np.uint64(b.sample[blk, c, j]))
            p = write_varint(out, p, zigzag(b.seen[blk, c, j]))
    return p


@lean
def _encode_row(
    arena: Arena, layout: GroupLayout, r: Scalar, out: Bytes, p: Scalar, work: Workspace
) -> Scalar:
    """Write one row at `p`; returns the end."""
    e, rows = arena.entries, arena.rows
    out[p] = STATE_FORMAT
    p = write_varint(out, p + 1, rows.stamp[r])
    p = write_varint(out, p, zigzag(rows.newest[r]))
    p = _encode_times(e, rows, layout, r, out, p)
    for c in range(e.values.shape[0]):
        p = _encode_values(e.values[c], rows, r, out, p, work)
    for c in range(e.tokens.shape[0]):
        p = _encode_tokens(e.tokens[c], rows, r, out, p, work)
    blk = rows.bucket[r]
    out[p] = 1 if blk >= 0 else 0
    p += 1
    if blk < 0:
        return p
    return _encode_buckets(arena.buckets, blk, len(layout.acc_value), e.tokens.shape[0], out, p, work.word)


@lean_released
def encode_rows(
    arena: Arena, layout: GroupLayout, which: Ints, out: Bytes, ends: Ints, work: Workspace
) -> None:
    """Encode rows one after the other; `ends[j]` is where row `which[j]` ends."""
    p = 0
    for j in range(len(which)):
        if j + 6 < len(which):
            prefetch(arena.rows.key, which[j + 6])
            prefetch(arena.rows.newest, which[j + 6])
        if j + 3 < len(which):
            fetch_entries(arena.entries, arena.rows, which[j + 3])
        p = _encode_row(arena, layout, which[j], out, p, work)
        ends[j] = p


@lean
def _decode_times(arena: Arena, layout: GroupLayout, r: Scalar, data: Bytes, p: Scalar) -> Scalar:
    e, rows, label = arena.entries, arena.rows, layout.label
    unit = 1_000_000 if data[p] == 2 else (1000 if data[p] == 1 else 1)
    count, p = read_varint(data, p + 1)
    last: Scalar = np.int64(0)
    for i in range(np.int64(count)):
        step, p = read_varint(data, p)
        last = unzigzag(step) if i == 0 else last + np.int64(step)
        x = open_gap(e, rows, arena.meta, r, i, label)
        e.time[x] = last * unit
        e.id_hash[x] = (
            np.uint32(data[p])
            | (np.uint32(data[p + 1]) << np.uint32(8))
            | (np.uint32(data[p + 2]) << np.uint32(16))
        )
        p += 3
        e.bits[x] = 0
        if layout.conditions > 0:
            bits, p = read_varint(data, p)
            e.bits[x] = np.uint32(bits)
        if label:
            known, p = read_varint(data, p)
            e.known[x] = e.time[x] + unzigzag(known) * unit
            e.until[x] = NEVER
    return p


@lean
def _decode_values(values: Floats, rows: Rows, r: Scalar, data: Bytes, p: Scalar, word: Word) -> Scalar:
    s = data[p]
    p += 1
    power = 10.0**s
    for i in range(rows.length[r]):
        x = entry_at(rows, r, i)
        if s == RAW:
            word.bits[0], p = read_word(data, p)
            values[x] = word.real[0]
        else:
            z, p = read_varint(data, p)
            values[x] = np.nan if z == 0 else np.float64(unzigzag(z - np.uint64(1))) / power
    return p


@lean
def _decode_tokens(tokens: Ints, rows: Rows, r: Scalar, data: Bytes, p: Scalar) -> Scalar:
    count, p = read_varint(data, p)
    base = p
    p += 8 * np.int64(count)
    for i in range(rows.length[r]):
        rank, p = read_varint(data, p)
        x = entry_at(rows, r, i)
        tokens[x] = 0
        if rank > 0:
            token, _ = read_word(data, base + 8 * (np.int64(rank) - 1))
            tokens[x] = np.int64(token)
    return p


@lean
def _decode_buckets(
    b: Buckets, blk: Scalar, accs: Scalar, tokens: Scalar, data: Bytes, p: Scalar, word: Word
) -> Scalar:
    count, p = read_varint(data, p)
    b.length[blk] = np.int64(count)
    last: Scalar = np.int64(0)
    for q in range(b.length[blk]):
        start, p = read_varint(data, p)
        span, p = read_varint(data, p)
        last += unzigzag(start)
        b.start[blk, q], b.end[blk, q] = last, last + np.int64(span)
        for a in range(accs):
            f, i = b.floats[blk, q, a], b.integers[blk, q, a]
            clear(f, i)
            many, p = read_varint(data, p)
            f[F_COUNT] = np.float64(many)
            if many > 0:
                p = _decode_accumulator(data, p, f, i, word)
    for c in range(tokens):
        count, p = read_varint(data, p)
        b.sampled[blk, c] = np.int64(count)
        for j in range(b.sampled[blk, c]):
            token, p = read_word(data, p)
            seen, p = read_varint(data, p)
            b.sample[blk, c, j] = np.int64(token)
            b.seen[blk, c, j] = unzigzag(seen)
    return p


@lean
def _decode_row(arena: Arena, layout: GroupLayout, encoded: EncodedRows, j: Scalar, word: Word) -> None:
    """Make a new row of the bytes of row j."""
    e, rows, data = arena.entries, arena.rows, encoded.data
    r = new_row(e, rows, arena.heads, arena.meta, encoded.keys[j], encoded.partitions[j])
    stamp, p = read_varint(data, encoded.starts[j] + 1)
    rows.stamp[r] = np.int64(stamp)
    newest, p = read_varint(data, p)
    rows.newest[r] = unzigzag(newest)
    p = _decode_times(arena, layout, r, data, p)
    for c in range(e.values.shape[0]):
        p = _decode_values(e.values[c], rows, r, data, p, word)
    for c in range(e.tokens.shape[0]):
        p = _decode_tokens(e.tokens[c], rows, r, data, p)
    if layout.label:
        for i in range(rows.length[r]):
            x = entry_at(rows, r, i)
            link_versions(e, rows, r, e.id_hash[x], e.time[x])
    if data[p] != 0:
        rows.bucket[r] = new_bucket(arena.buckets, arena.meta)
        accs = len(layout.acc_value)
        _decode_buckets(arena.buckets, rows.bucket[r], accs, e.tokens.shape[0], data, p + 1, word)


@lean_released
def decode_rows(
    begin: Scalar, arena: Arena, layout: GroupLayout, encoded: EncodedRows, work: Workspace
) -> Scalar:
    """Make rows of bytes, from row `begin` on; returns the first row not made, or their number.

    Decoding stops where one more row might not fit into the arena, and at a row of another version: then the answer is
    negative, minus one minus its number.
    """
    for j in range(begin, len(encoded.keys)):
        if is_full(arena.entries, arena.rows, arena.buckets, arena.meta, 3 * layout.block):
            return j
        if encoded.data[encoded.starts[j]] != STATE_FORMAT:
            return -1 - j
        _decode_row(arena, layout, encoded, j, work.word)
    return len(encoded.keys)
