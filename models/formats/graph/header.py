"""Reads the operator sets that an ONNX file asks for, without the onnx package.

An ONNX file is a protocol buffer; its field 8 holds one (domain, version) pair per operator set.
"""

from __future__ import annotations

from models.formats.graph import protobuf

_OPERATOR_SETS = 8
_DEFAULT_DOMAIN = "ai.onnx"


def operator_sets(data: bytes) -> dict[str, int]:
    """Versions by domain; ValueError when the bytes are no ONNX model."""
    versions: dict[str, int] = {}
    for number, value in protobuf.fields(data):
        if number == _OPERATOR_SETS and isinstance(value, bytes):
            entry = dict(protobuf.fields(value))
            domain, version = entry.get(1, b""), entry.get(2)
            if not isinstance(domain, bytes) or not isinstance(version, int):
                raise ValueError("an operator set without a version")
            versions[domain.decode() or _DEFAULT_DOMAIN] = version
    if not versions:
        raise ValueError("no operator set: not an ONNX model")
    return versions
