"""Definitions that tests share: sources in one line, the card and the shop, payments and what became of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from features.definitions.spec import Entity, Field, FieldType, LabelOf, Source

CARD = Entity(name="card", keys=("card",))
SHOP = Entity(name="shop", keys=("shop",))


def make_source(
    name: str, columns: dict[str, FieldType], *, optional: Collection[str] = (), topic: str = "", **more: Any
) -> Source:
    """A source whose first column is the event's id and whose first timestamp is its time; `more` as Source has it."""
    fields = tuple(
        Field(name=key, dtype=dtype, required=key not in optional) for key, dtype in columns.items()
    )
    time = next(key for key, dtype in columns.items() if dtype == "timestamp")
    known = {"event_id": fields[0].name, "event_time": time, **more}
    return Source(name=name, topic=topic or name, fields=fields, **known)


PAYMENTS = make_source(
    "payments", {"id": "string", "at": "timestamp", "card": "string", "amount": "float64"}, key="card"
)
VERDICTS = make_source(
    "verdicts",
    {"id": "string", "at": "timestamp", "card": "string", "of": "string", "bad": "bool"},
    key="card",
    labels=LabelOf(event_id="of", value="bad"),
)
