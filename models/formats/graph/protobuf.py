"""Reads and writes the wire format of protocol buffers, which ONNX files are made of, without their schema.

A message is a run of fields; a field is a number, and an integer, bytes, or a message, which are bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Ints
from features.core.compiled import Scalar, compiled, lean

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field in turn; ValueError when the bytes are no message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"byte {at}: not a protocol buffer")
        if at + size > len(data):
            raise ValueError(f"byte {at}: the file is cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError(f"byte {at}: not a protocol buffer")


def messages(data: bytes, wanted: int) -> list[bytes]:
    """The bytes of every field of one number."""
    return [value for number, value in fields(data) if number == wanted and isinstance(value, bytes)]


def field(number: int, value: int | bytes) -> bytes:
    """One field as bytes; integers must not be negative.

    >>> list(fields(field(3, b"abc") + field(4, 300)))
    [(3, b'abc'), (4, 300)]
    """
    if isinstance(value, int):
        return _number(number << 3 | VARINT) + _number(value)
    return _number(number << 3 | BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def whole_numbers(data: bytes, number: int) -> Ints:
    """All whole numbers of a repeated field, packed or not: a large model has millions."""
    decoded, _ = _repeated(np.frombuffer(data, np.uint8), number, VARINT)
    return decoded


def floats(data: bytes, number: int) -> NDArray[np.float32]:
    """All float32 numbers of a repeated field, packed or not."""
    array = np.frombuffer(data, np.uint8)
    starts, _ = _repeated(array, number, FIXED32)
    return np.ascontiguousarray(array[starts[:, None] + np.arange(4)]).view("<f4").ravel()


def texts(data: bytes, number: int) -> list[bytes]:
    """All texts of a repeated field."""
    starts, sizes = _repeated(np.frombuffer(data, np.uint8), number, BYTES)
    return [data[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]


@lean
def _skip_varint(data: NDArray[np.uint8], at: Scalar) -> tuple[Scalar, Scalar]:
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < len(data):
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            break
        shift += np.uint64(7)
    return np.int64(value), at


@compiled
def _repeated(data: NDArray[np.uint8], number: Scalar, kind: Scalar) -> tuple[Ints, Ints]:
    """Values of integers, places and sizes of everything else. What is read was accepted by the runtime before."""
    values = np.empty(len(data), np.int64)
    sizes = np.empty(len(data), np.int64)
    count = 0
    at = 0
    while at < len(data):
        tag, at = _skip_varint(data, at)
        matches = tag >> 3 == number
        how = tag & 7
        if how == 0:
            value, at = _skip_varint(data, at)
            if matches and kind == 0:
                values[count] = value
                count += 1
            continue
        size: Scalar = 8 if how == 1 else 4
        if how == 2:
            size, at = _skip_varint(data, at)
        end = at + size
        if matches and how == 2 and kind == 0:
            while at < end:
                value, at = _skip_varint(data, at)
                values[count] = value
                count += 1
        elif matches and how == 2 and kind == 5:
            for start in range(at, end, 4):
                values[count], sizes[count] = start, 4
                count += 1
        elif matches and how == kind:
            values[count], sizes[count] = at, size
            count += 1
        at = end
    return values[:count].copy(), sizes[:count].copy()
