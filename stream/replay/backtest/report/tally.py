"""Counts decisions part by part: what figures need of them, in memory that does not grow with their number.

What does grow: a line a day, a line a different score (48 bytes), a line a different delay of labels in minutes,
and the cards of the last days. Sums are added in the order of the events, so that equal parts give equal figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from features.core.batch import Bools, Floats, Ints
from models.monitoring.ranking import CardPrecision

DAY = "1d"
BINS = 40
COLUMNS = (
    "event_time", "case_key", "score", "decision", "alert", "suppressed", "released", "exposure",
)  # fmt: skip
_OPEN_DAYS = 7
_MERGE_ROWS = 1_000_000


class Ranking:
    """By score, highest first: events, good, bad, money of bad and of good events."""

    def __init__(self) -> None:
        self._score: Floats = np.zeros(0)
        self._sums: Floats = np.zeros((5, 0))
        self._held: list[tuple[Floats, Floats]] = []
        self._rows = 0

    def add(self, score: Floats, label: Floats, money: Floats) -> None:
        """Events; an unknown label is NaN."""
        bad, good = label > 0, label <= 0
        rows = [np.ones(len(score)), good, bad, np.where(bad, money, 0.0), np.where(good, money, 0.0)]
        self._hold(*_by_score(score, np.vstack(rows)))

    def table(self) -> tuple[Floats, Floats]:
        """(score[n], sums[5, n])."""
        self._merge()
        return self._score, self._sums

    @property
    def good(self) -> Ints:
        """Good events by score."""
        counts: Ints = self.table()[1][1].astype(np.int64)
        return counts

    @property
    def bad(self) -> Ints:
        """Bad events by score."""
        counts: Ints = self.table()[1][2].astype(np.int64)
        return counts

    def _hold(self, score: Floats, sums: Floats) -> None:
        self._held.append((score, sums))
        self._rows += len(score)
        if self._rows > max(_MERGE_ROWS, len(self._score)):
            self._merge()

    def _merge(self) -> None:
        if self._held:
            score = np.concatenate([self._score, *(one for one, _ in self._held)])
            sums = np.hstack([self._sums, *(one for _, one in self._held)])
            self._score, self._sums = _by_score(score, sums)
            self._held, self._rows = [], 0


def _by_score(score: Floats, sums: Floats) -> tuple[Floats, Floats]:
    if not len(score):
        return score, sums
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    return ranked[starts], np.add.reduceat(sums[:, order], starts, axis=1)


class DailyCardPrecision:
    """Card precision over days that come nearly in order; an event a week late for its day is left out."""

    def __init__(self, top: int) -> None:
        self._found = CardPrecision(top)
        self._open: dict[int, list[pl.DataFrame]] = {}
        self._closed = np.iinfo(np.int64).min

    def add(self, known: pl.DataFrame) -> None:
        """Events with a known outcome."""
        day = (pl.col("event_time").cast(pl.Int64) // 86_400_000_000).alias("day")
        cards = known.group_by(day, "case_key").agg(
            pl.col("score").max(), (pl.col("label") > 0).any().alias("bad")
        )
        for (number,), today in cards.partition_by("day", as_dict=True).items():
            if number >= self._closed:
                self._open.setdefault(number, []).append(today)
        if self._open:
            self._close(max(self._open) - _OPEN_DAYS)

    def value(self) -> float | None:
        """The figure. Call once, at the end."""
        self._close(np.iinfo(np.int64).max)
        return self._found.value

    def _close(self, before: int) -> None:
        for number in sorted(number for number in self._open if number < before):
            frames = pl.concat(self._open.pop(number))
            cards = (
                frames.group_by("case_key").agg(pl.col("score").max(), pl.col("bad").any()).sort("case_key")
            )
            self._found.add_day(
                cards["case_key"].to_list(), cards["score"].to_numpy(), cards["bad"].to_numpy()
            )
        self._closed = max(self._closed, before)


@dataclass
class DecisionCounts:
    """Running counts of one setting (or of one segment of it)."""

    top: int = 100
    counts: Counter[str] = field(default_factory=Counter)
    money: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    days: dict[int, Ints] = field(default_factory=dict)
    delays: Counter[int] = field(default_factory=Counter)
    ranking: Ranking = field(default_factory=Ranking)
    cards: DailyCardPrecision = field(init=False)
    histogram: Ints = field(default_factory=lambda: np.zeros(BINS, np.int64))
    histogram_bad: Ints = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def __post_init__(self) -> None:
        self.cards = DailyCardPrecision(self.top)

    def add(self, frame: pl.DataFrame) -> None:
        """Decisions with `label` and `label_known`, after those of all earlier calls."""
        if not frame.height:
            return
        label = frame["label"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        money = frame["exposure"].cast(pl.Float64).fill_null(0.0).to_numpy()
        score, alert = frame["score"].to_numpy(), frame["alert"].to_numpy()
        stopped = (frame["decision"] != "approve").to_numpy()
        bad, good = label > 0, label <= 0
        for name, rows in (("bad", bad), ("caught", bad & stopped), ("missed", bad & ~stopped)):
            self._pay(name, rows, money)
        self._pay("stopped_wrongly", good & stopped, money)
        self.counts["events"] += frame.height
        self.counts["alerts"] += int(alert.sum())
        self.counts["alerts_bad"] += int((bad & alert).sum())
        self.counts["alerts_labelled"] += int(((bad | good) & alert).sum())
        self.counts["labelled"] += int((bad | good).sum())
        declined = (frame["decision"] == "decline").to_numpy()
        self.counts["declined_labelled"] += int(((bad | good) & declined).sum())
        self.counts["suppressed"] += int(frame["suppressed"].sum())
        for decision, number in frame.group_by("decision").len().iter_rows():
            self.counts[decision] += number
        self._released(frame)
        self._days(frame, alert, bad)
        scored = ~np.isnan(score)
        self.ranking.add(score[scored], label[scored], money[scored])
        self.histogram += np.histogram(score, BINS, (0.0, 1.0))[0]
        self.histogram_bad += np.histogram(score[bad], BINS, (0.0, 1.0))[0]
        known = frame.filter(pl.Series(bad | good))
        self.cards.add(known)
        minutes = (known["label_known"] - known["event_time"]).dt.total_minutes().drop_nulls().to_numpy()
        for value, number in zip(*np.unique(minutes, return_counts=True), strict=True):
            self.delays[int(value)] += int(number)

    def median_delay_days(self) -> float | None:
        """Of known labels, to the minute."""
        if not self.delays:
            return None
        minutes = np.array(sorted(self.delays))
        ends = np.cumsum([self.delays[one] for one in minutes.tolist()])
        middle = np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")
        return float(minutes[middle].mean()) / 1440

    def _pay(self, name: str, rows: Bools, money: Floats) -> None:
        self.counts[name] += int(rows.sum())
        self.money[name] += float(money[rows].sum())

    def _released(self, frame: pl.DataFrame) -> None:
        declines = frame.filter((pl.col("decision") == "decline") | pl.col("released"))
        sample = declines.filter("released")
        seen = sample["label"].drop_nulls()
        self.counts["would_decline"] += declines.height
        self.counts["released"] += sample.height
        self.counts["released_labelled"] += len(seen)
        self.counts["released_bad"] += int((seen > 0).sum())

    def _days(self, frame: pl.DataFrame, alert: Bools, bad: Bools) -> None:
        day = frame["event_time"].cast(pl.Int64).to_numpy() // 86_400_000_000
        numbers, place = np.unique(day, return_inverse=True)
        found = np.stack(
            [np.bincount(place), np.bincount(place, alert), np.bincount(place, alert & bad)], axis=1
        )
        for number, counts in zip(numbers.tolist(), found.astype(np.int64), strict=True):
            self.days[number] = self.days.get(number, np.zeros(3, np.int64)) + counts
