"""Rows to bytes and back, in bulk: one compiled pass over all rows that changed.

The format is described in docs/reference/state-format.md; its version is plan.STATE_FORMAT. Encoding loses
nothing: decode(encode(row)) is the row, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Floats, Ints
from features.core.compiled import Scalar, inlined, lean, lean_released
from features.core.prefetch import prefetch
from features.kernel.kernel import (
    NEVER,
    Buckets,
    Bytes,
    Entries,
    Rows,
    _at,
    _chain,
    clear_fields,
    fetch_entries,
    is_full,
    new_bucket,
    new_row,
    open_gap,
)

Words64 = NDArray[np.uint64]

VERSION = 1
_RAW = 255


class Word(NamedTuple):
    """Eight bytes seen as a float and as bits."""

    real: Floats
    bits: Words64


def word() -> Word:
    """A place to turn floats into bits and back, for the functions below."""
    real = np.zeros(1)
    return Word(real, real.view(np.uint64))


_PART = (0, 1, 2, 4, 4, 8, 8, 16, 16)
"""Which part of an accumulator each field belongs to."""


@inlined
def _varint(out: Bytes, p: Scalar, x: Scalar) -> Scalar:
    x = np.uint64(x)
    while x >= np.uint64(128):
        out[p] = np.uint8((x & np.uint64(127)) | np.uint64(128))
        x >>= np.uint64(7)
        p += 1
    out[p] = np.uint8(x)
    return p + 1


@inlined
def _zigzag(x: Scalar) -> Scalar:
    return np.uint64((np.int64(x) << np.int64(1)) ^ (np.int64(x) >> np.int64(63)))


@inlined
def _unzigzag(x: Scalar) -> Scalar:
    return np.int64(x >> np.uint64(1)) ^ -np.int64(x & np.uint64(1))


@lean
def _read(data: Bytes, p: Scalar) -> tuple[Scalar, Scalar]:
    x = np.uint64(0)
    shift = np.uint64(0)
    while True:
        byte = np.uint64(data[p])
        p += 1
        x |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return x, p
        shift += np.uint64(7)


@inlined
def _raw(out: Bytes, p: Scalar, bits: Scalar) -> Scalar:
    for _ in range(8):
        out[p] = np.uint8(bits & np.uint64(255))
        bits >>= np.uint64(8)
        p += 1
    return p


@inlined
def _unraw(data: Bytes, p: Scalar) -> tuple[Scalar, Scalar]:
    bits = np.uint64(0)
    for i in range(8):
        bits |= np.uint64(data[p + i]) << np.uint64(8 * i)
    return bits, p + 8


@lean
def _scale(values: Floats, n: Scalar) -> Scalar:
    """Smallest power of ten that makes all values whole and comes back to the same bits, else _RAW."""
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
    return _RAW


@lean
def _encode_fields(out: Bytes, p: Scalar, f: Floats, i: Ints, one: Word) -> Scalar:
    """An accumulator but for its count: a byte that says which parts follow, then those parts."""
    parts = 0
    if f[1] != 0.0:
        parts |= 1
    if f[2] != 0.0:
        parts |= 2
    if f[3] != 0.0 or f[4] != 0.0:
        parts |= 4
    if f[5] != np.inf or f[6] != -np.inf:
        parts |= 8
    if i[0] != NEVER:
        parts |= 16
    out[p] = parts
    p += 1
    for w in range(1, 9):
        if parts & _PART[w]:
            one.real[0] = f[w]
            p = _raw(out, p, one.bits[0])
    if parts & 16:
        for w in range(4):
            p = _raw(out, p, np.uint64(i[w]))
    return p


@lean
def _decode_fields(data: Bytes, p: Scalar, f: Floats, i: Ints, one: Word) -> Scalar:
    parts = data[p]
    p += 1
    for w in range(1, 9):
        if parts & _PART[w]:
            one.bits[0], p = _unraw(data, p)
            f[w] = one.real[0]
    if parts & 16:
        for w in range(4):
            bits8, p = _unraw(data, p)
            i[w] = np.int64(bits8)
    return p


@lean
def row_bound(rows: Rows, b: Buckets, r: Scalar, nv: Scalar, nk: Scalar, accs: Scalar) -> Scalar:
    """Most bytes that a row can take."""
    size = 64 + rows.n[r] * (10 + 3 + 5 + nv * 10 + nk * 13 + 10) + nk * 10
    blk = rows.bucket[r]
    if blk >= 0:
        size += 16 + b.n[blk] * (20 + accs * 110)
        for c in range(nk):
            size += 10 + b.sample_n[blk, c] * 20
    return size


@lean_released
def rows_bound(rows: Rows, b: Buckets, which: Ints, nv: int, nk: int, accs: int) -> int:
    """Most bytes that rows can take."""
    size = 0
    for j in range(len(which)):
        size += row_bound(rows, b, which[j], nv, nk, accs)
    return size


@lean
def encode_row(
    e: Entries,
    rows: Rows,
    b: Buckets,
    r: Scalar,
    out: Bytes,
    p: Scalar,
    scratch: Floats,
    tokens: Ints,
    accs: Scalar,
    conditions: Scalar,
    label: bool,
    one: Word,
) -> Scalar:
    """Write one row at `p`; returns the end."""
    n = rows.n[r]
    out[p] = VERSION
    p = _varint(out, p + 1, rows.stamp[r])
    p = _varint(out, p, _zigzag(rows.newest[r]))
    unit = 1_000_000
    for i in range(n):
        x = _at(rows, r, i)
        for t in (e.t[x], e.known[x] if label else e.t[x]):
            if t % unit != 0:
                unit = 1000 if t % 1000 == 0 and unit > 1000 else unit
                if t % unit != 0:
                    unit = 1
    out[p] = 2 if unit == 1_000_000 else (1 if unit == 1000 else 0)
    p = _varint(out, p + 1, n)
    last: Scalar = np.int64(0)
    for i in range(n):
        x = _at(rows, r, i)
        t = e.t[x] // unit
        p = _varint(out, p, _zigzag(t) if i == 0 else np.uint64(t - last))
        last = t
        h = e.hid[x]
        out[p], out[p + 1], out[p + 2] = h & 255, (h >> 8) & 255, (h >> 16) & 255
        p += 3
        if conditions > 0:
            p = _varint(out, p, e.bits[x])
        if label:
            p = _varint(out, p, _zigzag((e.known[x] - e.t[x]) // unit))
    for c in range(e.v.shape[0]):
        for i in range(n):
            scratch[i] = e.v[c, _at(rows, r, i)]
        s = _scale(scratch, n)
        out[p] = s
        p += 1
        if s == _RAW:
            for i in range(n):
                one.real[0] = scratch[i]
                p = _raw(out, p, one.bits[0])
        else:
            power = 10.0**s
            for i in range(n):
                x = scratch[i]
                p = _varint(
                    out, p, np.uint64(0) if x != x else _zigzag(np.int64(np.rint(x * power))) + np.uint64(1)
                )
    for c in range(e.k.shape[0]):
        count = 0
        mark = p
        # indices first, in the scratch; the dictionary stands before them
        for i in range(n):
            token = e.k[c, _at(rows, r, i)]
            place = 0
            if token != 0:
                for j in range(count):
                    if tokens[j] == token:
                        place = j + 1
                        break
                if place == 0:
                    tokens[count] = token
                    count += 1
                    place = count
            scratch[i] = place
        p = _varint(out, mark, count)
        for j in range(count):
            p = _raw(out, p, np.uint64(tokens[j]))
        for i in range(n):
            p = _varint(out, p, np.uint64(scratch[i]))
    blk = rows.bucket[r]
    if blk < 0:
        out[p] = 0
        return p + 1
    out[p] = 1
    p = _varint(out, p + 1, b.n[blk])
    last = np.int64(0)
    for q in range(b.n[blk]):
        p = _varint(out, p, _zigzag(b.start[blk, q] - last))
        last = b.start[blk, q]
        p = _varint(out, p, np.uint64(b.end[blk, q] - b.start[blk, q]))
        for a in range(accs):
            p = _varint(out, p, np.uint64(b.f[blk, q, a, 0]))
            if b.f[blk, q, a, 0] > 0.0:
                p = _encode_fields(out, p, b.f[blk, q, a], b.i[blk, q, a], one)
    for c in range(e.k.shape[0]):
        p = _varint(out, p, b.sample_n[blk, c])
        for j in range(b.sample_n[blk, c]):
            p = _raw(out, p, np.uint64(b.sample[blk, c, j]))
            p = _varint(out, p, _zigzag(b.seen[blk, c, j]))
    return p


@lean_released
def encode_rows(
    e: Entries,
    rows: Rows,
    b: Buckets,
    which: Ints,
    out: Bytes,
    ends: Ints,
    scratch: Floats,
    tokens: Ints,
    accs: Scalar,
    conditions: Scalar,
    label: bool,
    one: Word,
) -> None:
    """Encode rows one after the other; `ends[j]` is where row `which[j]` ends."""
    p = 0
    for j in range(len(which)):
        if j + 6 < len(which):
            prefetch(rows.slot, which[j + 6])
            prefetch(rows.newest, which[j + 6])
        if j + 3 < len(which):
            fetch_entries(e, rows, which[j + 3])
        p = encode_row(e, rows, b, which[j], out, p, scratch, tokens, accs, conditions, label, one)
        ends[j] = p


@lean
def decode_row(
    e: Entries,
    rows: Rows,
    heads: Ints,
    b: Buckets,
    meta: Ints,
    slot: Scalar,
    part: Scalar,
    data: Bytes,
    begin: Scalar,
    accs: Scalar,
    conditions: Scalar,
    label: bool,
    one: Word,
) -> Scalar:
    """Make a new row from the bytes at `begin`; returns the row, or -1 for another version."""
    if data[begin] != VERSION:
        return -1
    r = new_row(e, rows, heads, meta, slot, part)
    stamp, p = _read(data, begin + 1)
    rows.stamp[r] = np.int64(stamp)
    newest, p = _read(data, p)
    rows.newest[r] = _unzigzag(newest)
    unit = 1_000_000 if data[p] == 2 else (1000 if data[p] == 1 else 1)
    count, p = _read(data, p + 1)
    n = np.int64(count)
    last: Scalar = np.int64(0)
    for i in range(n):
        step, p = _read(data, p)
        last = _unzigzag(step) if i == 0 else last + np.int64(step)
        x = open_gap(e, rows, meta, r, i, label)
        e.t[x] = last * unit
        e.hid[x] = (
            np.uint32(data[p])
            | (np.uint32(data[p + 1]) << np.uint32(8))
            | (np.uint32(data[p + 2]) << np.uint32(16))
        )
        p += 3
        e.bits[x] = 0
        if conditions > 0:
            bits, p = _read(data, p)
            e.bits[x] = np.uint32(bits)
        if label:
            known, p = _read(data, p)
            e.known[x] = e.t[x] + _unzigzag(known) * unit
            e.gone[x] = NEVER
    for c in range(e.v.shape[0]):
        s = data[p]
        p += 1
        power = 10.0**s
        for i in range(n):
            x = _at(rows, r, i)
            if s == _RAW:
                one.bits[0], p = _unraw(data, p)
                e.v[c, x] = one.real[0]
            else:
                z, p = _read(data, p)
                e.v[c, x] = np.nan if z == 0 else np.float64(_unzigzag(z - np.uint64(1))) / power
    for c in range(e.k.shape[0]):
        count, p = _read(data, p)
        base = p
        p += 8 * np.int64(count)
        for i in range(n):
            place, p = _read(data, p)
            x = _at(rows, r, i)
            e.k[c, x] = 0
            if place > 0:
                token, _ = _unraw(data, base + 8 * (np.int64(place) - 1))
                e.k[c, x] = np.int64(token)
    if label:
        for i in range(n):
            x = _at(rows, r, i)
            _chain(e, rows, r, e.hid[x], e.t[x])
    if data[p] == 0:
        return r
    blk = new_bucket(b, meta)
    rows.bucket[r] = blk
    count, p = _read(data, p + 1)
    b.n[blk] = np.int64(count)
    last = np.int64(0)
    for q in range(b.n[blk]):
        start, p = _read(data, p)
        span, p = _read(data, p)
        b.start[blk, q] = last + _unzigzag(start)
        last = b.start[blk, q]
        b.end[blk, q] = last + np.int64(span)
        for a in range(accs):
            clear_fields(b.f[blk, q, a], b.i[blk, q, a])
            many, p = _read(data, p)
            b.f[blk, q, a, 0] = np.float64(many)
            if many > 0:
                p = _decode_fields(data, p, b.f[blk, q, a], b.i[blk, q, a], one)
    for c in range(e.k.shape[0]):
        count, p = _read(data, p)
        b.sample_n[blk, c] = np.int64(count)
        for j in range(b.sample_n[blk, c]):
            token, p = _unraw(data, p)
            seen, p = _read(data, p)
            b.sample[blk, c, j] = np.int64(token)
            b.seen[blk, c, j] = _unzigzag(seen)
    return r


@lean_released
def decode_rows(
    e: Entries,
    rows: Rows,
    heads: Ints,
    b: Buckets,
    meta: Ints,
    begin: int,
    slots: Ints,
    parts: Ints,
    data: Bytes,
    starts: Ints,
    block: int,
    accs: int,
    conditions: int,
    label: bool,
    one: Word,
) -> int:
    """Make rows from bytes, from the row `begin` on.

    Returns how many are made; fewer than all: arenas were full. Minus one minus the place of a row of another version.
    """
    for j in range(begin, len(slots)):
        if is_full(e, rows, b, meta, 3 * block):
            return j
        if (
            decode_row(
                e, rows, heads, b, meta, slots[j], parts[j], data, starts[j], accs, conditions, label, one
            )
            < 0
        ):
            return -1 - j
    return len(slots)
