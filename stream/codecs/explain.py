"""Why a value was rejected, in words for the system that sent it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from stream.codecs.shape import Shape

MAX_DEPTH = 64
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_AT = re.compile(r" - at `(\$.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`(?: - at `|$)", re.DOTALL)
_SHOWN = 40


class RejectionError(Exception):
    """One event cannot be used; `path` is where in it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def explain(error: Exception, value: bytes, shape: Shape) -> RejectionError:
    """What `error`, raised when decoding `value`, means: a path, what was expected, what came."""
    if isinstance(error, RecursionError):
        return RejectionError("$", f"expected at most {MAX_DEPTH} levels of nesting, got more")
    if isinstance(error, UnicodeDecodeError):
        return RejectionError("$", f"expected UTF-8, got byte 0x{value[error.start]:02x} at {error.start}")
    if not isinstance(error, msgspec.ValidationError):
        return _malformed(str(error), value, shape)
    message = str(error)
    at = _AT.search(message)
    path = at[1] if at else "$"
    if missing := _MISSING.search(message):
        return RejectionError(f"{path}.{missing[1]}", "expected a value, but the field is missing")
    return RejectionError(path, f"expected {_expected(path, message, shape)}, got {_got(path, value)}")


def nested_too_deeply(value: bytes) -> bool:
    """More than MAX_DEPTH objects and arrays inside each other; brackets within texts do not count."""
    if value.count(b"{") + value.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKENS.finditer(value):
        first = value[token.start()]
        if first in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in b"}]":
            depth -= 1
    return False


def _expected(path: str, message: str, shape: Shape) -> str:
    for leaf in shape.leaves:
        if path == "$." + ".".join(leaf.path):
            return leaf.expected
    return message.partition("`")[2].partition("`")[0].removesuffix(" | null") or "another value"


def _got(path: str, value: bytes) -> str:
    try:
        found: Any = json.loads(value)
    except ValueError:
        return "a number with too many digits"
    for part in path.split(".")[1:]:
        if not isinstance(found, dict) or part not in found:
            break
        found = found[part]
    if isinstance(found, dict):
        return "an object"
    if isinstance(found, list):
        return "an array"
    if isinstance(found, float) and math.isinf(found):
        return "a number too large for 64 bits"
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _malformed(detail: str, value: bytes, shape: Shape) -> RejectionError:
    """Not JSON; NaN and Infinity, which some writers think are, are told by their place."""
    constants: list[str] = []

    def keep(name: str) -> str:
        constants.append(name)
        return name

    try:
        document = json.loads(value, parse_constant=keep)
    except (ValueError, RecursionError):
        return RejectionError(
            "$", f"expected JSON, got something else: {detail.removeprefix('JSON is malformed: ')}"
        )
    for leaf in shape.leaves:
        found = document
        for part in leaf.path:
            found = found.get(part) if isinstance(found, dict) else None
        if constants and found in constants:
            return RejectionError("$." + ".".join(leaf.path), f"expected {leaf.expected}, got {found}")
    named = f"{constants[0]}, which JSON has no word for" if constants else detail
    return RejectionError("$", f"expected JSON, got {named}")
