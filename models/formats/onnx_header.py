"""Reads the operator sets that an ONNX file asks for, without the onnx package.

An ONNX file is a protocol buffer; its field 8 holds one (domain, version) pair per operator set.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_OPERATOR_SETS = 8
_DEFAULT_DOMAIN = "ai.onnx"


def operator_sets(data: bytes) -> dict[str, int]:
    """Versions by domain; ValueError when the bytes are no ONNX model."""
    found: dict[str, int] = {}
    for number, value in _fields(data):
        if number == _OPERATOR_SETS and isinstance(value, bytes):
            parts = dict(_fields(value))
            domain, version = parts.get(1, b""), parts.get(2)
            if not isinstance(domain, bytes) or not isinstance(version, int):
                raise ValueError("an operator set without a version")
            found[domain.decode() or _DEFAULT_DOMAIN] = version
    if not found:
        raise ValueError("no operator set: not an ONNX model")
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
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
