"""How two records of one decision differ, without naming a person."""

from __future__ import annotations

from typing import Any

import msgspec

from stream.codecs.alerts import Record
from stream.codecs.messages import RawMessage

_HIDDEN = "(not shown)"
_SHOWN_TEXTS = {
    "decision",
    "severity",
    "mode",
    "plan",
    "policy",
    "model",
    "rules",
    "flags",
    "stamps",
    "times",
}
_MOST = 40


def differing(published: RawMessage, expected: Record) -> dict[str, tuple[str, str]]:
    """By field, what was published and what the replay gives; features are named `features.NAME`.

    Floats are equal when their bits are; a record written by other software, with the same values, is equal.
    """
    out: dict[str, tuple[str, str]] = {}
    if published.key != expected.key:
        out["key"] = (_HIDDEN, _HIDDEN)
    if published.value == expected.value:
        return out
    try:
        theirs = msgspec.json.decode(published.value or b"")
    except msgspec.MsgspecError:
        theirs = None
    ours = msgspec.json.decode(expected.value or b"{}")
    if not isinstance(theirs, dict):
        return {"value": ("no JSON object", "a decision")}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name == "features" and isinstance(theirs.get(name), dict):
            out |= _fields(theirs[name], ours[name], "features.")
        elif not _same(theirs.get(name), ours.get(name)):
            out[name] = (_text(name, theirs.get(name)), _text(name, ours.get(name)))
    return dict(list(out.items())[:_MOST])


def _fields(theirs: dict[str, Any], ours: dict[str, Any], prefix: str) -> dict[str, tuple[str, str]]:
    names = [*ours, *(name for name in theirs if name not in ours)]
    return {
        prefix + name: (_text(name, theirs.get(name)), _text(name, ours.get(name)))
        for name in names
        if (name in theirs) != (name in ours) or not _same(theirs.get(name), ours.get(name))
    }


def _same(one: Any, other: Any) -> bool:
    """Equal to the bit: the text of a float says all of its bits."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, int | float) or name in _SHOWN_TEXTS:
        return msgspec.json.encode(value).decode()
    return _HIDDEN
