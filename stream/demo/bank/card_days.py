"""One simulated day of card transactions, with three kinds of fraud among them.

large_amount           one payment of 6 to 20 times the card's usual amount
compromised_merchant   for three days a merchant's card data is abused by others: usual amounts, new devices
stolen_card            for a day a card pays fast, more, online, and where it never did
"""

from __future__ import annotations

import numpy as np
import polars as pl

from features.core.batch import Bools, Floats, Ints
from stream.demo.bank.world import CATEGORIES, CATEGORY_LEVEL, COUNTRIES, DAY_US, World, names, start_of

KINDS = ("", "large_amount", "compromised_merchant", "stolen_card")
LARGE_SHARE = 0.002
MERCHANTS_A_DAY = 0.6
MERCHANT_DAYS = 3
ABUSED_SHARE = 0.35
CARDS_STOLEN_SHARE = 0.0018
STOLEN_PAYMENTS = (5, 12)


class _Payments:
    """Columns of a day's transactions while they are made."""

    def __init__(self, card: Ints, merchant: Ints, time: Ints, amount: Floats) -> None:
        self.card = card
        self.merchant = merchant
        self.time = time
        self.amount = amount
        self.kind = np.zeros(len(card), dtype=np.int64)
        self.foreign_device = np.zeros(len(card), dtype=np.bool_)
        self.forced_online = np.zeros(len(card), dtype=np.bool_)


def transactions_of(world: World, day: int) -> pl.DataFrame:
    """The day's transactions in order of time, with their `kind` of fraud ("" is honest).

    Days are numbered from the start of the live stream; history has negative numbers. A day depends on
    the seed and its number alone.
    """
    days_payments = [_usual(world, day), _stolen(world, day)]
    frames = [
        _frame(world, day, payments, letter) for payments, letter in zip(days_payments, "ns", strict=True)
    ]
    return pl.concat(frames).sort("event_time", "transaction_id")


def chargebacks_of(world: World, transactions: pl.DataFrame, day: int) -> pl.DataFrame:
    """What cardholders will say of a day's frauds, half a day to two days later."""
    random = world.random("chargebacks", day)
    frauds = transactions.filter(pl.col("kind") != "")
    delay = random.integers(DAY_US // 2, 2 * DAY_US, len(frauds)) // 1000
    return frauds.select(
        chargeback_id="cb-" + pl.col("transaction_id"),
        known_at=pl.col("event_time") + pl.Series(delay, dtype=pl.Int64),
        transaction_id="transaction_id",
        transaction_time="event_time",
        card_id="card_id",
        merchant_id="merchant_id",
        fraud=pl.lit(value=True),
    ).sort("known_at", "chargeback_id")


def _times_of_day(random: np.random.Generator, count: int) -> Ints:
    hour = np.where(
        random.random(count) < 0.07, random.random(count) * 24, random.normal(14.5, 3.6, count) % 24
    )
    return (hour * 3_600e6).astype(np.int64)


def _usual(world: World, day: int) -> _Payments:
    random = world.random("usual", day)
    cards = world.cards
    card = np.repeat(np.arange(world.size.cards), random.poisson(cards.per_day))
    favourite = cards.favourites[card, random.integers(0, cards.favourites.shape[1], len(card))]
    anywhere = random.integers(0, world.size.merchants, len(card))
    merchant = np.where(random.random(len(card)) < 0.93, favourite, anywhere)
    level = cards.level[card] * CATEGORY_LEVEL[world.merchants.category[merchant]]
    amount = level * random.lognormal(-0.1, 0.45, len(card))
    payments = _Payments(card, merchant, start_of(day) + _times_of_day(random, len(card)), amount)
    payments.foreign_device = random.random(len(card)) < 0.01
    _abuse_merchants(world, day, random, payments)
    large = (random.random(len(card)) < LARGE_SHARE) & (payments.kind == 0)
    payments.amount[large] *= random.uniform(6, 20, int(large.sum()))
    payments.kind[large] = 1
    return payments


def _abuse_merchants(world: World, day: int, random: np.random.Generator, payments: _Payments) -> None:
    abused = np.unique(np.concatenate([_compromised_on(world, day - age) for age in range(MERCHANT_DAYS)]))
    taken = np.isin(payments.merchant, abused) & (random.random(len(payments.card)) < ABUSED_SHARE)
    payments.amount[taken] *= random.uniform(0.8, 2.0, int(taken.sum()))
    payments.kind[taken] = 2
    payments.foreign_device[taken] = random.random(int(taken.sum())) < 0.8
    payments.forced_online[taken] = True


def _compromised_on(world: World, day: int) -> Ints:
    random = world.random("compromised", day)
    count = min(int(random.poisson(MERCHANTS_A_DAY)), 2)
    return random.integers(0, world.size.merchants, count)


def _stolen(world: World, day: int) -> _Payments:
    random = world.random("stolen", day)
    stolen = np.flatnonzero(random.random(world.size.cards) < CARDS_STOLEN_SHARE)
    counts = random.integers(*STOLEN_PAYMENTS, len(stolen))
    card = np.repeat(stolen, counts)
    begin = np.repeat(random.integers(0, DAY_US * 3 // 4, len(stolen)), counts)
    time = start_of(day) + begin + (random.random(len(card)) * DAY_US / 5).astype(np.int64)
    merchant = random.integers(0, world.size.merchants, len(card))
    amount = world.cards.level[card] * random.lognormal(0.9, 0.6, len(card))
    payments = _Payments(card, merchant, time, amount)
    payments.kind[:] = 3
    payments.foreign_device[:] = random.random(len(card)) < 0.9
    payments.forced_online[:] = random.random(len(card)) < 0.8
    return payments


def _online(world: World, random: np.random.Generator, payments: _Payments) -> Bools:
    by_choice = random.random(len(payments.card)) < world.cards.online_share[payments.card]
    return world.merchants.online[payments.merchant] & by_choice | payments.forced_online


def _devices(
    world: World, random: np.random.Generator, payments: _Payments, online: Bools
) -> list[str | None]:
    own = payments.card
    thieves = world.size.cards + random.integers(0, 20_000, len(own))
    device = names("device", np.where(payments.foreign_device, thieves, own))
    return [name if at else None for name, at in zip(device, online.tolist(), strict=True)]


def _frame(world: World, day: int, payments: _Payments, letter: str) -> pl.DataFrame:
    random = world.random("details" + letter, day)
    online = _online(world, random, payments)
    merchants = world.merchants
    count = len(payments.card)
    return pl.DataFrame(
        {
            "transaction_id": [f"t{letter}{day:+05d}-{number:06d}" for number in range(count)],
            "event_time": payments.time // 1000,
            "card_id": names("card", payments.card),
            "customer_id": names("customer", world.cards.customer[payments.card]),
            "merchant_id": names("merchant", payments.merchant),
            "device_id": pl.Series(_devices(world, random, payments, online), dtype=pl.String),
            "amount": np.round(np.maximum(payments.amount, 0.5), 2),
            "currency": pl.Series(["EUR"] * count, dtype=pl.String),
            "country": [COUNTRIES[index] for index in merchants.country[payments.merchant].tolist()],
            "category": [CATEGORIES[index] for index in merchants.category[payments.merchant].tolist()],
            "channel": ["ecommerce" if at else "pos" for at in online.tolist()],
            "kind": [KINDS[kind] for kind in payments.kind.tolist()],
        },
        schema_overrides=dict.fromkeys(("country", "category", "channel", "kind"), pl.String),
    )
