"""How two records of one decision differ, told without naming anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stream.codecs.alerts import Record
from stream.codecs.messages import PartitionId as Place
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
_TOUCHES = {
    "policy memory": ("threshold", "decision", "alert", "suppressed"),
    "retention gone": ("features.", "duplicate", "late", "stamps", "alert", "suppressed"),
    "other owner's state": ("features.", "stamps"),
}
_STAMPS = "other owner's state: read at other stamps than the journal says"
_ALTERED = "altered: nobody who had this state, model and policy wrote it"


def name_of(place: Place, offset: int) -> str:
    """A place in the log."""
    return f"{place[0]}[{place[1]}]@{offset}"


def differing(found: RawMessage, expected: Record) -> dict[str, tuple[str, str]]:
    """By field, what was published and what the replay gives; features are named `features.NAME`.

    Floats are equal when their bits are; a record written by other software, with the same values, is equal.
    """
    out: dict[str, tuple[str, str]] = {}
    if found.key != expected.key:
        out["key"] = (_HIDDEN, _HIDDEN)
    if found.value == expected.value:
        return out
    try:
        there = msgspec.json.decode(found.value or b"")
    except msgspec.MsgspecError:
        there = None
    ours = msgspec.json.decode(expected.value or b"{}")
    if not isinstance(there, dict):
        return {"value": ("no JSON object", "a decision")}
    for name in [*ours, *(name for name in there if name not in ours)]:
        if name == "features" and isinstance(there.get(name), dict):
            out |= _fields(there[name], ours[name], "features.")
        elif not _same(there.get(name), ours.get(name)):
            out[name] = (_text(name, there.get(name)), _text(name, ours.get(name)))
    return dict(list(out.items())[:_MOST])


def cause_of(causes: Sequence[str], fields: Mapping[str, object]) -> str:
    """The first known cause that explains these fields, or that the record was altered."""
    for cause in causes:
        touched = _TOUCHES.get(cause.partition(":")[0], ("",))
        if any(name.startswith(touched) for name in fields):
            return cause
    return _STAMPS if "stamps" in fields else _ALTERED


def _fields(there: dict[str, Any], ours: dict[str, Any], prefix: str) -> dict[str, tuple[str, str]]:
    names = [*ours, *(name for name in there if name not in ours)]
    return {
        prefix + name: (_text(name, there.get(name)), _text(name, ours.get(name)))
        for name in names
        if (name in there) != (name in ours) or not _same(there.get(name), ours.get(name))
    }


def _same(one: Any, other: Any) -> bool:
    """Equal to the bit: the text of a float says all of its bits."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, int | float) or name in _SHOWN_TEXTS:
        return msgspec.json.encode(value).decode()
    return _HIDDEN
