"""The demo from start to end: servers, project, worker, simulator, screen, summary."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from stream.demo.bank.days import TOPICS
from stream.demo.processes import SimulatorProcess, await_caught_up, riskstream, worker
from stream.demo.screen.figures import figures
from stream.demo.screen.screen import AlertLines, live_view, summary
from stream.demo.screen.watch import ALERTS, DEAD_LETTERS, DECISIONS, Watch
from stream.demo.servers import mock_kafka, valkey
from stream.demo.training import prepare

WARM_UP_DAYS = 7
DRAIN_SECONDS = 30.0
_FILLING = "filling windows with a simulated week"
ALL_TOPICS = (*TOPICS, ALERTS, DECISIONS, DEAD_LETTERS)


@dataclass(frozen=True)
class Options:
    """What the command line asks for; `seconds` None runs until stopped."""

    seconds: float | None
    rate: float
    seed: int
    screen: bool


def run_demo(options: Options, console: Console) -> dict[str, Any]:
    """Run the whole demo; returns the figures of the summary. Progress and screen go to `console`."""
    with ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riskstream-demo-")))
        bootstrap = stack.enter_context(mock_kafka(ALL_TOPICS))
        redis_url = stack.enter_context(valkey())
        limit = float("inf") if options.seconds is None else options.seconds
        simulator = stack.enter_context(
            SimulatorProcess(bootstrap, options.seed, options.rate, limit, WARM_UP_DAYS)
        )
        variables = {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "REDIS_URL": redis_url,
            "RISKSTREAM_DELIVERY": "at_least_once",
        }
        with progress_bars(console) as report:
            config = prepare(options.seed, report) / "riskstream.toml"
            riskstream(["profiles", "load", "--config", str(config)], variables)
            report(_FILLING, 0, 1)
            simulator.warmed_up()
            log = folder / "worker.log"
            process = stack.enter_context(worker(config, variables, log))
            await_caught_up(bootstrap, process, log)
            report(_FILLING, 1, 1)
        return _watched(bootstrap, simulator, options, console)


def _watched(
    bootstrap: str, simulator: SimulatorProcess, options: Options, console: Console
) -> dict[str, Any]:
    """Let events flow, show what comes of them, and count it to the last one."""
    with ExitStack() as stack:
        watch = Watch(bootstrap)
        watch.begin()
        stack.callback(watch.finish)
        simulator.go()
        _show(watch, simulator, options, console)
        _drain(watch)
        result = figures(watch)
        if options.screen:
            again = f"riskstream demo --seed {options.seed + 1} --rate {options.rate * 2:g}"
            console.print(summary(watch, result, again))
        return result


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that its servers end with it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress_bars(console: Console) -> Iterator[Any]:
    """A bar for each step, on the given console."""
    columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield report


def _show(watch: Watch, simulator: SimulatorProcess, options: Options, console: Console) -> None:
    """Show alerts until the simulator has ended or the user stops it: a screen, or lines where there is none."""
    begin = time.monotonic()
    tick = threading.Event()
    lines = AlertLines(watch)
    with ExitStack() as stack:
        live = None
        if options.screen and console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        try:
            while simulator.running:
                if live is not None:
                    live.update(live_view(watch, time.monotonic() - begin, options.rate), refresh=True)
                elif options.screen:
                    lines.print_new(console)
                tick.wait(0.25)
        except KeyboardInterrupt:
            simulator.stop()


def _drain(watch: Watch) -> None:
    """Wait until every event that was read has its decision or dead letter, and no new one comes."""
    end = time.monotonic() + DRAIN_SECONDS
    tick = threading.Event()
    before = -1
    while time.monotonic() < end and (watch.unsettled or watch.produced != before):
        before = watch.produced
        tick.wait(0.5)
