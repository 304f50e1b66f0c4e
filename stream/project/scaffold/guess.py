"""Guesses what a project's events are from a sample of them, and says how sure it is: a first draft, to be checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.core.errors import ConfigurationError
from stream.project.scaffold.sample import JsonMember, members_of, read_sample

_MOST_ENTITIES = 4
_FEW = 100
_ID = re.compile(r"id$|uuid|ref|numb|nr$|no$|key$|^tx$|^trx$", re.IGNORECASE)
_OWNER = re.compile(
    r"card|(?<![a-z])pan|acc|iban|cc_?num|cust|client|user|member|holder|applicant|konto|compte",
    re.IGNORECASE,
)
_PARTNER = re.compile(
    r"merch|shop|store|terminal|device|branch|mid$|payee|benef|counter|agent|ip$|mail|phone", re.IGNORECASE
)
_MONEY = re.compile(r"amount|amt|sum|total|price|value|loan|betrag|montant|importe", re.IGNORECASE)
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$", re.IGNORECASE)
_BY_HAND = "write definitions.py by hand: docs/guides/own-events.md"


@dataclass(frozen=True)
class Guess:
    """What the events seem to be; `checks` lists what the sample leaves open, in words."""

    members: list[JsonMember]
    optional: frozenset[str]
    event_id: JsonMember
    event_time: JsonMember
    time_format: str
    owner: JsonMember
    partners: list[JsonMember]
    money: JsonMember | None
    label: JsonMember | None
    first: dict[str, Any]
    checks: tuple[str, ...]

    @property
    def identifiers(self) -> list[JsonMember]:
        """Members that name something: read as texts where they are long numbers."""
        return [self.event_id, self.owner, *self.partners]


def guess(file: Path) -> Guess:
    """Look at the events of a file; ConfigurationError names what no member looks like."""
    events = read_sample(file)
    members = members_of(events)
    full = [member for member in members if len(member.values) == len(events)]
    event_time = _event_time(full, file)
    label = next((member for member in full if member.is_label), None)
    keys = _keys(full, event_time)
    event_id = _event_id(keys, len(events), file)
    owner, partners = _owners([member for member in keys if member is not event_id], event_id)
    identifiers = [event_id, owner, *partners]
    lossy = [member for member in _without(members, *identifiers) if member.loses_digits]
    usable = [member for member in _without(members, label, *lossy) if member.dtype is not None]
    result = Guess(
        members=usable,
        optional=frozenset(member.path for member in members if len(member.values) < len(events)),
        event_id=event_id,
        event_time=event_time,
        time_format=event_time.time_formats()[0],
        owner=owner,
        partners=partners,
        money=_money(_without(full, event_time, label, *identifiers)),
        label=label,
        first=events[0],
        checks=(),
    )
    return _with_checks(result, members, len(events))


def _without(members: list[JsonMember], *others: JsonMember | None) -> list[JsonMember]:
    return [member for member in members if not any(member is other for other in others)]


def _event_time(full: list[JsonMember], file: Path) -> JsonMember:
    times = [member for member in full if member.time_formats()]
    if not times:
        raise ConfigurationError(f"{file}: no field of every event looks like a time; {_BY_HAND}")
    return max(times, key=lambda member: (member.sounds_like_a_time, member.distinct))


def _keys(full: list[JsonMember], event_time: JsonMember) -> list[JsonMember]:
    """Members that may name something: texts and whole numbers, no times, no amounts, no verdicts."""
    return [
        member
        for member in full
        if (member.dtype in ("string", "int64"))
        and member is not event_time
        and not (member.time_formats() or member.is_money_text or member.is_label)
    ]


def _event_id(keys: list[JsonMember], count: int, file: Path) -> JsonMember:
    ids = [member for member in keys if member.distinct == count]
    if not ids:
        raise ConfigurationError(
            f"{file}: no field has a value of its own in every event, as an id would; {_BY_HAND}"
        )

    def likely(member: JsonMember) -> tuple[bool, ...]:
        named, owns = bool(_ID.search(member.path)), bool(_OWNER.search(member.path))
        return named and not member.is_prose, not owns, not member.is_prose, member.is_long_number

    return max(ids, key=likely)


def _owners(keys: list[JsonMember], event_id: JsonMember) -> tuple[JsonMember, list[JsonMember]]:
    """Whom the events belong to, and whom else they name."""

    def likely(member: JsonMember) -> tuple[bool, bool, int]:
        return bool(_OWNER.search(member.path)), not member.is_prose, member.distinct

    owner = max(keys, key=likely, default=event_id)
    partners = [
        member
        for member in keys
        if member is not owner and (_PARTNER.search(member.path) or _OWNER.search(member.path))
    ]
    return owner, partners[: _MOST_ENTITIES - 1]


def _money(others: list[JsonMember]) -> JsonMember | None:
    numbers = [
        member for member in others if member.dtype in ("int64", "float64") and not member.time_formats()
    ]
    named = [member for member in numbers if _MONEY.search(member.path)]
    decimals = [member for member in numbers if member.dtype == "float64"]
    return next(iter([*named, *decimals]), None)


def _with_checks(result: Guess, members: list[JsonMember], count: int) -> Guess:
    return replace(result, checks=tuple(_checks(result, members, count)))


def _checks(result: Guess, members: list[JsonMember], count: int) -> Iterator[str]:
    """What a person must look at, in the order of the draft."""
    if count < _FEW:
        yield f"only {count} events were seen; a few hundred tell more"
    id_sure = "" if _ID.search(result.event_id.path) else ", by its values alone: its name does not say so"
    yield f"`{result.event_id.name}` is taken for the event's id{id_sure}"
    formats = result.event_time.time_formats()
    if len(formats) > 1 and formats[0].startswith("%"):
        yield f"day and month of `{result.event_time.name}` can be read either way: {' or '.join(formats)}"
    if not _OFFSET.search(str(result.event_time.values[0])) and result.event_time.dtype == "string":
        yield f"times of `{result.event_time.name}` name no offset: they are read as UTC"
    owner_sure = "" if _OWNER.search(result.owner.path) else ", for want of a better one"
    yield f"`{result.owner.name}` is taken for the key of your topic{owner_sure}"
    for member in result.identifiers:
        if member.is_long_number:
            yield f"`{member.name}` holds numbers of 13 digits or more: read as texts, so that no digit is lost"
    if result.money is None:
        yield "no field looks like an amount; set `amount` where there is one"
    elif not _MONEY.search(result.money.path):
        yield f"`{result.money.name}` is taken for the amount: the only kind of number left"
    for member in members:
        if member.is_money_text:
            shown = repr(str(member.values[0])[:20])
            yield f"`{member.name}` holds amounts as texts ({shown}): send numbers, then set `amount`"
        used = any(member is other for other in result.members)
        if member.loses_digits and not used:
            yield f"`{member.name}` is left out: its numbers have more digits than a float64 holds; send texts"
    if result.label is not None:
        yield f"`{result.label.name}` is a verdict that is known later: left out; see the proposed label source"
