"""The simulated bank's topics as one stream in order of time, day after day without end."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from stream.demo.bank.card_days import chargebacks_of, transactions_of
from stream.demo.bank.loan_days import REPAYMENT_DAYS, applications_of, repayments_of
from stream.demo.bank.world import World, start_of


class Emission(NamedTuple):
    """One message to be: `truth` is the kind of fraud, or `default`, or "" and is never in the value."""

    time_ms: int
    topic: str
    key: str
    scored: bool
    truth: str
    value: dict[str, object]


class _Stream(NamedTuple):
    topic: str
    time: str
    key: str
    scored: bool


TRANSACTIONS = _Stream("transactions", "event_time", "card_id", scored=True)
CHARGEBACKS = _Stream("chargebacks", "known_at", "merchant_id", scored=False)
APPLICATIONS = _Stream("loan-applications", "event_time", "applicant_id", scored=True)
REPAYMENTS = _Stream("loan-repayments", "known_at", "applicant_id", scored=False)
TOPICS = tuple(stream.topic for stream in (TRANSACTIONS, CHARGEBACKS, APPLICATIONS, REPAYMENTS))


def emissions(world: World, first_day: int) -> Iterator[Emission]:
    """All messages from the first day on, in order of time; labels of earlier days come when they are due.

    The sequence from a day on is the same wherever it begins, labels excepted that fell due before.
    """
    pending: list[Emission] = []
    begin = start_of(first_day) // 1000
    for day in range(first_day - max(REPAYMENT_DAYS), first_day):
        pending.extend(emission for emission in _labels(world, day) if emission.time_ms >= begin)
    for day in itertools.count(first_day):
        pending.extend(_events(world, day))
        pending.extend(_labels(world, day))
        pending.sort(key=_when)
        due = bisect.bisect_left(pending, start_of(day + 1) // 1000, key=_when)
        yield from pending[:due]
        del pending[:due]


def history(world: World, days: int, loan_days: int) -> dict[str, pl.DataFrame]:
    """What was recorded before day 0, by source, as of that moment: labels only where already known."""
    now = start_of(0) // 1000
    cards = {day: transactions_of(world, day) for day in range(-days, 0)}
    loans = {day: applications_of(world, day) for day in range(-loan_days, 0)}
    recorded = {
        "transactions": (TRANSACTIONS, list(cards.values())),
        "chargebacks": (CHARGEBACKS, [chargebacks_of(world, frame, day) for day, frame in cards.items()]),
        "applications": (APPLICATIONS, list(loans.values())),
        "repayments": (REPAYMENTS, [repayments_of(world, frame, day) for day, frame in loans.items()]),
    }
    return {
        source: pl.concat(frames).filter(pl.col(stream.time) < now).sort(stream.time, maintain_order=True)
        for source, (stream, frames) in recorded.items()
    }


def _when(emission: Emission) -> int:
    return emission.time_ms


def _events(world: World, day: int) -> Iterator[Emission]:
    yield from _rows(TRANSACTIONS, transactions_of(world, day))
    yield from _rows(APPLICATIONS, applications_of(world, day))


def _labels(world: World, day: int) -> Iterator[Emission]:
    yield from _rows(CHARGEBACKS, chargebacks_of(world, transactions_of(world, day), day))
    yield from _rows(REPAYMENTS, repayments_of(world, applications_of(world, day), day))


def _rows(stream: _Stream, frame: pl.DataFrame) -> Iterator[Emission]:
    for row in frame.iter_rows(named=True):
        truth = row.pop("kind", "")
        yield Emission(row[stream.time], stream.topic, row[stream.key], stream.scored, truth, row)
