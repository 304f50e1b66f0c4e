"""The simulated bank: who holds cards, who sells, who borrows. Everything follows from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Floats, Ints

CATEGORIES = ("groceries", "restaurants", "fuel", "fashion", "travel", "electronics", "games", "services")
CATEGORY_LEVEL = np.array([0.7, 0.8, 1.0, 1.4, 3.0, 2.5, 0.6, 1.1])
COUNTRIES = ("DE", "FR", "NL", "PL", "ES", "US", "BR", "SG")
COUNTRY_SHARE = np.array([0.45, 0.2, 0.1, 0.1, 0.07, 0.04, 0.02, 0.02])
DAY_US = 86_400_000_000
LIVE_START_US = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC, a Monday


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the bank is; the defaults give about 4,500 card transactions a simulated day."""

    cards: int = 1_500
    merchants: int = 300
    applicants: int = 4_000
    brokers: int = 40


@dataclass(frozen=True, kw_only=True)
class CardHolders:
    """One row a card: whose it is, how much and how often it pays, where it usually shops."""

    customer: Ints
    level: Floats
    per_day: Floats
    online_share: Floats
    country: Ints
    favourites: Ints


@dataclass(frozen=True, kw_only=True)
class Merchants:
    """One row a merchant."""

    category: Ints
    country: Ints
    online: Bools


@dataclass(frozen=True, kw_only=True)
class Applicants:
    """One row an applicant: what the profile file says of them, and the broker who brings them."""

    income: Floats
    bureau_score: Floats
    employed_months: Ints
    broker: Ints
    in_profile_file: Bools


@dataclass(frozen=True, kw_only=True)
class World:
    """What does not change from day to day."""

    seed: int
    size: Size
    cards: CardHolders
    merchants: Merchants
    applicants: Applicants
    broker_pressure: Floats

    def random(self, purpose: str, day: int) -> np.random.Generator:
        """A generator of its own for each purpose and day: days can be made in any order."""
        return np.random.default_rng([self.seed, day + 1_000_000, *purpose.encode()])


def make_world(seed: int, size: Size | None = None) -> World:
    """The bank of a seed: the same seed and size give the same bank."""
    size = size or Size()
    random = np.random.default_rng([seed, 1])
    merchants = _merchants(random, size)
    return World(
        seed=seed,
        size=size,
        cards=_cards(random, size),
        merchants=merchants,
        applicants=_applicants(random, size),
        broker_pressure=random.gamma(1.2, 0.5, size.brokers),
    )


def _merchants(random: np.random.Generator, size: Size) -> Merchants:
    return Merchants(
        category=random.integers(0, len(CATEGORIES), size.merchants),
        country=random.choice(len(COUNTRIES), size.merchants, p=COUNTRY_SHARE),
        online=random.random(size.merchants) < 0.4,
    )


def _cards(random: np.random.Generator, size: Size) -> CardHolders:
    customers = max(1, int(size.cards / 1.25))
    popularity = random.pareto(1.3, size.merchants) + 0.2
    favourites = random.choice(size.merchants, (size.cards, 12), p=popularity / popularity.sum())
    return CardHolders(
        customer=random.integers(0, customers, size.cards),
        level=random.lognormal(3.2, 0.6, size.cards),
        per_day=random.gamma(3.0, 1.0, size.cards),
        online_share=random.beta(2.0, 4.0, size.cards),
        country=random.choice(len(COUNTRIES), size.cards, p=COUNTRY_SHARE),
        favourites=favourites.astype(np.int64),
    )


def _applicants(random: np.random.Generator, size: Size) -> Applicants:
    return Applicants(
        income=np.round(random.lognormal(10.5, 0.45, size.applicants), -2),
        bureau_score=np.clip(random.normal(600.0, 110.0, size.applicants), 250, 850).round(),
        employed_months=random.gamma(2.0, 30.0, size.applicants).astype(np.int64),
        broker=random.integers(0, size.brokers, size.applicants),
        in_profile_file=random.random(size.applicants) < 0.97,
    )


def start_of(day: int) -> int:
    """Midnight of a simulated day in microseconds; day 0 is the first that is streamed live."""
    return LIVE_START_US + day * DAY_US


def names(prefix: str, numbers: NDArray[np.int64]) -> list[str]:
    """`card-000017` and so on."""
    return [f"{prefix}-{number:06d}" for number in numbers.tolist()]
