"""Whole numbers as LEB128 varints, and words of eight bytes, in a buffer of bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.core.compiled import Scalar, inlined, lean

Bytes = NDArray[np.uint8]


@inlined
def write_varint(out: Bytes, p: Scalar, x: Scalar) -> Scalar:
    """Write a whole number in groups of 7 bits, lowest first; returns the end."""
    x = np.uint64(x)
    while x >= np.uint64(128):
        out[p] = np.uint8((x & np.uint64(127)) | np.uint64(128))
        x >>= np.uint64(7)
        p += 1
    out[p] = np.uint8(x)
    return p + 1


@inlined
def zigzag(x: Scalar) -> Scalar:
    """A signed number as an unsigned one that is small when it is near zero."""
    return np.uint64((np.int64(x) << np.int64(1)) ^ (np.int64(x) >> np.int64(63)))


@inlined
def unzigzag(x: Scalar) -> Scalar:
    """The inverse of `zigzag`."""
    return np.int64(x >> np.uint64(1)) ^ -np.int64(x & np.uint64(1))


@lean
def read_varint(data: Bytes, p: Scalar) -> tuple[Scalar, Scalar]:
    """The number at `p` and the end."""
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
def write_word(out: Bytes, p: Scalar, bits: Scalar) -> Scalar:
    """Write eight bytes, lowest first; returns the end."""
    for _ in range(8):
        out[p] = np.uint8(bits & np.uint64(255))
        bits >>= np.uint64(8)
        p += 1
    return p


@inlined
def read_word(data: Bytes, p: Scalar) -> tuple[Scalar, Scalar]:
    """The eight bytes at `p` and the end."""
    bits = np.uint64(0)
    for i in range(8):
        bits |= np.uint64(data[p + i]) << np.uint64(8 * i)
    return bits, p + 8
