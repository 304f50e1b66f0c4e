"""What the demo shows: a live table of alerts with their reasons, and the closing summary."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.demo.screen.watch import Hits, Seen, Watch

COLOURS = {"review": "yellow", "decline": "bold red", "approve": "green"}
ROWS = 14


def live_view(watch: Watch, seconds: float, rate: float) -> RenderableType:
    """The screen while events flow."""
    done = watch.scored / seconds if seconds else 0.0
    head = Text.assemble(
        ("riskstream ", "bold"),
        f"  {watch.produced:,} events produced   {watch.scored:,} scored   {done:,.0f}/s of {rate:,.0f}/s   ",
        (f"{watch.alerts:,} alerts", "bold yellow"),
        f"   {watch.dead_lettered:,} dead-lettered   {watch.unsettled:,} in flight",
    )
    foot = Text("Ctrl-C stops and sums up", style="dim")
    return Group(Panel(head), alert_table(list(watch.latest)[-ROWS:]), foot)


class AlertLines:
    """Alerts one a line, for a console that is no terminal."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._printed = 0

    def print_new(self, console: Console) -> None:
        """Print the alerts read since the last call; some are left out when very many came."""
        read = self._watch.alerts_read
        latest = list(self._watch.latest)
        for alert in latest[max(0, len(latest) - (read - self._printed)) :]:
            who, reasons = _who(alert), "; ".join(reason.text for reason in alert.reasons[:3])
            line = f"{alert.event_time[:19]}  {who}  {alert.exposure or 0:,.2f}  {_score(alert)}"
            console.print(
                f"{line}  {alert.decision}  {reasons}", soft_wrap=True, markup=False, highlight=False
            )
        self._printed = read


def alert_table(alerts: list[Seen]) -> Table:
    """Newest last: when, who, how much, the score, the decision and why."""
    table = Table(expand=True, box=None, header_style="bold")
    for name, options in (
        ("event time", {"no_wrap": True}),
        ("who", {"no_wrap": True}),
        ("amount", {"justify": "right", "no_wrap": True}),
        ("score", {"justify": "right", "no_wrap": True}),
        ("decision", {"no_wrap": True}),
        ("because", {"ratio": 1, "no_wrap": True, "overflow": "ellipsis"}),
    ):
        table.add_column(name, **options)
    for alert in alerts:
        table.add_row(
            alert.event_time[5:19].replace("T", " "),
            _who(alert),
            f"{alert.exposure or 0:,.2f}",
            _score(alert),
            Text(alert.decision, style=COLOURS.get(alert.decision, "")),
            "; ".join(reason.text for reason in alert.reasons[:3]),
        )
    return table


def summary(watch: Watch, figures: dict[str, Any], again: str) -> RenderableType:
    """The closing words: what happened, how well, how fast, and what to try."""
    latency = figures["latency_ms"]
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "events",
        f"{watch.produced:,} produced = {watch.scored:,} scored + {watch.dead_lettered:,} dead-lettered",
    )
    table.add_row("alerts", f"{figures['alerts']:,}")
    for name, topic in (("fraud", "transactions"), ("loans", "loan-applications")):
        table.add_row(name, _quality(watch.hits[topic]))
    table.add_row(
        "latency", f"p50 {latency['p50']} ms, p99 {latency['p99']} ms from produced to decision read"
    )
    table.add_row("try next", "riskstream init my-project, or: " + again)
    return Panel(table, title="what the topics say")


def _who(alert: Seen) -> str:
    return alert.entity_keys.get("card") or alert.entity_keys.get("applicant") or ""


def _quality(hits: Hits) -> str:
    kinds = ", ".join(
        f"{hits.caught_by_kind[kind]} of {count} {kind.replace('_', ' ')}"
        for kind, count in sorted(hits.bad_by_kind.items())
    )
    shares = f"precision {_share(hits.precision)}, recall {_share(hits.recall)}"
    return f"{shares} of {hits.bad:,} in {hits.events:,} ({kinds})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _score(alert: Seen) -> str:
    return "no score" if alert.score is None else f"{alert.score:.3f}"
