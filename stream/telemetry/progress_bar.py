"""A progress bar for commands that go through a file; drawn on a terminal only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function to be called with the number done and the number in all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counts = (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *counts)
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, rate="")
        begun = time.monotonic()

        def advance(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begun, 1e-6)
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

        yield advance
