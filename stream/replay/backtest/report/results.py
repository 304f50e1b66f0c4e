"""Everything that a backtest report says, as data: what `--json` writes and the HTML page draws."""

from __future__ import annotations

import msgspec

from stream.replay.backtest.request import Setting


class Interval(msgspec.Struct, frozen=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Released(msgspec.Struct, frozen=True):
    """What the randomly released declines tell of all declines.

    Each released decline has the same known chance p of being let through, so each stands for 1/p
    declines (Horvitz and Thompson 1952; with equal chances the ratio form of Hajek is the plain mean).
    """

    events: int
    labelled: int
    bad_rate: Interval | None
    bad_declines: Interval | None


class OutcomeFigures(msgspec.Struct, frozen=True):
    """Figures of one setting. Money is in the unit of the source's amount column.

    `caught` and `missed` count bad events by their decision: one that was reviewed or declined is caught, whether or
    not its alert was suppressed because its case had alerted before. `precision` and `recall` are of decisions;
    `alerts_bad` and `alert_precision` are of the alerts that were published.
    """

    events: int
    alerts: int
    suppressed: int
    approved: int
    reviewed: int
    declined: int
    alerts_per_day: float
    busiest_day: int
    labelled: int
    unknown_share: float
    declined_labelled: int
    bad: int
    caught: int
    missed: int
    precision: float | None
    recall: float | None
    alerts_bad: int
    alert_precision: float | None
    average_precision: float | None
    roc_auc: float | None
    card_precision: float | None
    money_bad: float
    money_caught: float
    money_missed: float
    money_stopped_wrongly: float
    label_delay_days_median: float | None
    released: Released


class Overlap(msgspec.Struct, frozen=True):
    """Alerts by who raised them, with the bad ones among those whose outcome is known."""

    both: int
    only_a: int
    only_b: int
    bad_both: int
    bad_only_a: int
    bad_only_b: int
    bad_neither: int
    decisions_changed: int


class SegmentFigures(msgspec.Struct, frozen=True):
    """Figures of both settings in one segment."""

    segment: str
    a: OutcomeFigures
    b: OutcomeFigures | None


class SweepPoint(msgspec.Struct, frozen=True):
    """What a threshold would give, by score alone (rules and suppression left out)."""

    threshold: float
    alerts_per_day: float
    precision: float | None
    recall: float | None
    money_caught: float
    money_stopped_wrongly: float
    value: float


class Day(msgspec.Struct, frozen=True):
    """One day of one setting."""

    day: str
    events: int
    alerts: int
    bad_alerts: int


class ExampleEvent(msgspec.Struct, frozen=True):
    """One event worth a look, with what the setting said of it."""

    event_id: str
    event_time: str
    score: float
    decision: str
    exposure: float | None
    label: float | None
    reasons: str


class SettingFigures(msgspec.Struct, frozen=True):
    """All figures of one setting."""

    setting: Setting
    outcome: OutcomeFigures
    days: list[Day]
    histogram: list[int]
    histogram_bad: list[int]
    sweep: list[SweepPoint]
    best: list[ExampleEvent]
    missed: list[ExampleEvent]
    false_alarms: list[ExampleEvent]


class Figures(msgspec.Struct, frozen=True):
    """A whole report. `complete` is false for one written after an interruption."""

    source: str
    complete: bool
    events: int
    first: str | None
    last: str | None
    a: SettingFigures
    b: SettingFigures | None
    overlap: Overlap | None
    segments: dict[str, list[SegmentFigures]]
