"""Tensors of the Open Inference Protocol: JSON, and the binary tensor data extension for requests.

Reference: Open Inference Protocol, HTTP/REST, "Inference Request JSON Object" and "Tensor Data"; the
binary extension as Triton's clients send it (`Inference-Header-Content-Length`).
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.core.batch import Floats, Strings
from models.core.base import Signature
from stream.service.problems import FieldError, Problem
from stream.service.schemas import InferRequest, Tensor

_NUMERIC: Final = {
    "FP64": "<f8",
    "FP32": "<f4",
    "FP16": "<f2",
    "INT64": "<i8",
    "INT32": "<i4",
    "INT16": "<i2",
    "INT8": "<i1",
    "UINT64": "<u8",
    "UINT32": "<u4",
    "UINT16": "<u2",
    "UINT8": "<u1",
    "BOOL": "?",
}
MATRIX = "features"
_DIGITS = re.compile("[0-9]{1,15}")


def split_binary(body: bytes, header_length: str | None) -> tuple[Any, bytes]:
    """(JSON document, binary tail) of a request body."""
    if header_length is None:
        return _json(body), b""
    if not _DIGITS.fullmatch(header_length) or int(header_length) > len(body):
        raise _wrong(
            "Inference-Header-Content-Length",
            f"expected at most the body's {len(body)} bytes, got {header_length[:20]!r}",
        )
    return _json(body[: int(header_length)]), body[int(header_length) :]


def attach_binary(document: Any, tail: bytes) -> Any:
    """Give each input with `parameters.binary_data_size` its bytes, as `data: [bytes]`."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    place = 0
    for index, item in enumerate(inputs if isinstance(inputs, list) else []):
        parameters = item.get("parameters") if isinstance(item, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - place:
            raise _wrong(
                f"$.inputs[{index}].parameters.binary_data_size",
                f"expected at most {len(tail) - place}, got {size}",
            )
        item["data"] = [tail[place : place + size]]
        place += size
    if place != len(tail):
        raise _wrong("body", f"expected {place} bytes of binary tensor data, got {len(tail)}")
    return document


def inputs_of(request: InferRequest, signature: Signature) -> tuple[Floats, dict[str, Strings]]:
    """(float64[n, F], texts by name) from the tensors of a request.

    Numeric features come as one tensor `features` [n, F], or one tensor [n] or [n, 1] each.
    """
    tensors = {tensor.name: (place, tensor) for place, tensor in enumerate(request.inputs)}
    known = {MATRIX, *signature.numeric, *signature.categorical}
    for name, (place, _) in tensors.items():
        if name not in known:
            raise _wrong(f"$.inputs[{place}].name", f"no such input; see the model's metadata: {name[:40]!r}")
    values = _numeric(tensors, signature)
    strings = {name: _texts(*_pick(tensors, name), len(values)) for name in signature.categorical}
    return values, strings


def _numeric(tensors: dict[str, tuple[int, Tensor]], signature: Signature) -> Floats:
    width = len(signature.numeric)
    if MATRIX in tensors:
        place, tensor = tensors[MATRIX]
        if len(tensor.shape) != 2 or tensor.shape[1] != width:
            raise _wrong(f"$.inputs[{place}].shape", f"expected [rows, {width}], got {tensor.shape}")
        return _numbers(place, tensor).reshape(tensor.shape)
    columns = [_numbers(*_pick(tensors, name)).reshape(-1) for name in signature.numeric]
    rows = {len(column) for column in columns} or {math.prod(tensor.shape) for _, tensor in tensors.values()}
    if len(rows) != 1:
        raise _wrong("$.inputs", f"expected the same number of rows in every tensor, got {sorted(rows)}")
    return np.column_stack(columns) if columns else np.empty((rows.pop(), 0))


def _pick(tensors: dict[str, tuple[int, Tensor]], name: str) -> tuple[int, Tensor]:
    if name not in tensors:
        raise _wrong("$.inputs", f"the input {name!r} is missing")
    return tensors[name]


def _numbers(place: int, tensor: Tensor) -> Floats:
    dtype = _NUMERIC.get(tensor.datatype)
    if dtype is None:
        raise _wrong(
            f"$.inputs[{place}].datatype",
            f"expected one of {', '.join(_NUMERIC)}, got {tensor.datatype[:20]!r}",
        )
    count = math.prod(tensor.shape)
    if _is_binary(tensor):
        raw: bytes = tensor.data[0]
        if len(raw) != count * np.dtype(dtype).itemsize:
            raise _wrong(
                f"$.inputs[{place}].data",
                f"expected {count} values of {tensor.datatype}, got {len(raw)} bytes",
            )
        found: Floats = np.frombuffer(raw, dtype).astype(np.float64)
    else:
        found = _from_json(place, tensor, count)
    beyond = np.isinf(found) | (np.abs(found) > float(np.finfo(np.float32).max))
    if beyond.any():
        at = int(np.argmax(beyond))
        raise _wrong(f"$.inputs[{place}].data[{at}]", f"expected a number within float32, got {found[at]:g}")
    return found


def _from_json(place: int, tensor: Tensor, count: int) -> Floats:
    flat = _flatten(tensor.data)
    if len(flat) != count:
        raise _wrong(
            f"$.inputs[{place}].data", f"expected {count} values for shape {tensor.shape}, got {len(flat)}"
        )
    for at, value in enumerate(flat):
        if not isinstance(value, int | float):
            raise _wrong(f"$.inputs[{place}].data[{at}]", f"expected a number, got {type(value).__name__}")
    try:
        return np.array(flat, dtype=np.float64)
    except OverflowError:
        raise _wrong(f"$.inputs[{place}].data", "expected numbers within float32") from None


def _texts(place: int, tensor: Tensor, rows: int) -> Strings:
    if tensor.datatype != "BYTES":
        raise _wrong(f"$.inputs[{place}].datatype", f"expected 'BYTES', got {tensor.datatype[:20]!r}")
    values = _unpack(place, tensor.data[0]) if _is_binary(tensor) else _flatten(tensor.data)
    if len(values) != rows or math.prod(tensor.shape) != rows:
        raise _wrong(
            f"$.inputs[{place}].shape", f"expected {rows} texts, got {len(values)} for shape {tensor.shape}"
        )
    for at, value in enumerate(values):
        if not isinstance(value, str | None):
            raise _wrong(f"$.inputs[{place}].data[{at}]", f"expected a text, got {type(value).__name__}")
    return values


def _unpack(place: int, raw: bytes) -> list[Any]:
    """Texts of a binary BYTES tensor: each a 4-byte little-endian length, then UTF-8."""
    values: list[Any] = []
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        piece = raw[at + 4 : at + 4 + size]
        if len(piece) != size:
            raise _wrong(f"$.inputs[{place}].data", "a text is longer than the tensor's bytes")
        try:
            values.append(piece.decode())
        except UnicodeDecodeError:
            raise _wrong(f"$.inputs[{place}].data[{len(values)}]", "expected UTF-8") from None
        at += 4 + size
    return values


def _flatten(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [value for row in data for value in (row if isinstance(row, list) else [row])]
    return data


def _is_binary(tensor: Tensor) -> bool:
    return len(tensor.data) == 1 and isinstance(tensor.data[0], bytes)


def _json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong("$", f"not JSON: {error}") from None


def _wrong(path: str, detail: str) -> Problem:
    return Problem(400, "invalid-request", f"{path}: {detail}", (FieldError(path, detail),))


def as_tensor(name: str, values: NDArray[np.float64]) -> dict[str, Any]:
    """One FP64 output tensor as JSON."""
    return {"name": name, "shape": [len(values)], "datatype": "FP64", "data": values.tolist()}
