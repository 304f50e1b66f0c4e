"""Seeded card transactions: the input of every benchmark.

Times rise strictly, so that workers without a notion of late events compute the same features as
those with one. Amounts are whole cents, so that sums are exact in every arithmetic. No merchant has
more than 512 events in 30 days: every worker's windows are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CARDS = 20_000
CUSTOMERS = 12_000
MERCHANTS = 4_000
START_MS = 1_772_323_200_000  # 2026-03-01 UTC
MEAN_GAP_MS = 11_000
BURST = 0.012
SEED = 20_260_301


@dataclass(frozen=True, slots=True)
class Events:
    """Columns of the stream; the entity columns hold numbers, `fraud` is for training only."""

    time: NDArray[np.int64]
    card: NDArray[np.int64]
    customer: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount: NDArray[np.int64]
    fraud: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)


def _skewed(rng: np.random.Generator, size: int, sigma: float, draws: int) -> NDArray[np.int64]:
    weights = rng.lognormal(0.0, sigma, size)
    return rng.choice(size, draws, p=weights / weights.sum())


def _bursts(rng: np.random.Generator, events: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A card that is being abused keeps coming back: gives the distance to the event it repeats."""
    source = np.arange(events)
    fraud = rng.random(events) < BURST / 4
    for start in np.flatnonzero(fraud).tolist():
        stop = min(events, start + 400)
        places = rng.integers(start, stop, 3)
        source[places] = start
        fraud[places] = True
    return source, fraud


def generate(events: int, seed: int = SEED) -> Events:
    """The first `events` transactions of the stream; always the same for the same `events` and `seed`."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(MEAN_GAP_MS - 1, events).astype(np.int64) + 1
    card = _skewed(rng, CARDS, 0.7, events)
    merchant = _skewed(rng, MERCHANTS, 0.6, events)
    level = rng.lognormal(0.0, 0.5, CARDS)
    source, fraud = _bursts(rng, events)
    card = card[source]
    amount = 3_000 * level[card] * rng.lognormal(0.0, 0.6, events)
    amount *= np.where(fraud, rng.uniform(2.0, 12.0, events), 1.0)
    return Events(
        time=START_MS + np.cumsum(gaps),
        card=card,
        customer=card % CUSTOMERS,
        merchant=merchant,
        amount=np.maximum(amount.astype(np.int64), 100),
        fraud=fraud,
    )


def event_id(row: int) -> str:
    """The id of the event in row `row`."""
    return f"tx-{row:09d}"


def encode(events: Events, start: int, stop: int) -> list[tuple[bytes, bytes]]:
    """Kafka keys (the card) and JSON values of rows `start` to `stop`."""
    out = []
    for row in range(start, stop):
        card = f"card-{events.card[row]:06d}"
        value = (
            f'{{"event_id":"{event_id(row)}","event_time":{events.time[row]},"card_id":"{card}",'
            f'"customer_id":"cust-{events.customer[row]:06d}","merchant_id":"mer-{events.merchant[row]:06d}",'
            f'"amount":{events.amount[row]},"currency":"EUR","country":"{"DE" if row % 7 else "FR"}",'
            f'"mcc":"{5000 + events.merchant[row] % 400}","channel":"{"pos" if row % 3 else "web"}"}}'
        )
        out.append((card.encode(), value.encode()))
    return out
