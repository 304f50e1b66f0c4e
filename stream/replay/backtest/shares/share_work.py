"""One share of a run, from inputs to scores on disk: what a process or a Ray task does."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from features.core.errors import ConfigurationError
from stream.replay.backtest.inputs import opened
from stream.replay.backtest.request import BacktestRequest, span_of
from stream.replay.backtest.scoring import GroupScorer, SettingGroup
from stream.replay.backtest.setting_groups import setting_groups
from stream.replay.backtest.shares.shares import Share, split_of
from stream.replay.backtest.shares.spill import Shared, Spill

_LOOK_S = 0.2


def folder_of(request: BacktestRequest, number: int) -> Path:
    """Where a share keeps its scores."""
    return request.work / f"shares-{request.processes}" / str(number)


def group_folders(request: BacktestRequest, group: SettingGroup) -> list[Path]:
    """Where all shares keep a group's scores."""
    return [folder_of(request, number) / f"group-{group.number}" for number in range(request.processes)]


def score_share(request: BacktestRequest, number: int, stopped: Callable[[], bool]) -> Shared:
    """Score one share to its end, or until `stopped`."""
    groups, span = setting_groups(request), span_of(request)
    folder = folder_of(request, number)
    work = []
    for group in groups:
        spill = Spill(folder / f"group-{group.number}", group)
        share = Share(split_of(group.plan), number, request.processes)
        work.append((GroupScorer(group, span, spill.known, share), spill))
    events, complete = 0, True
    with opened(request, groups[0].plan) as feed:
        for start, batch in feed.batches:
            if stopped():
                complete = False
                break
            for scorer, spill in work:
                for scored in scorer.score(batch, start):
                    spill.add(scored)
            events += len(batch)
    for _, spill in work:
        spill.close()
    return Shared(events, complete)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time in a folder; ConfigurationError where another does not leave within some seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        for attempt in range(50):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 49:
                    raise ConfigurationError(
                        f"{folder} is in use by another run; choose another --work"
                    ) from None
                time.sleep(_LOOK_S)
        yield


def note(file: Path, text: str) -> None:
    """Write a small file as a whole."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def checked(found: Shared) -> Shared:
    """The same; ConfigurationError where an error stopped the share."""
    if found.error is not None:
        raise ConfigurationError(found.error)
    return found
