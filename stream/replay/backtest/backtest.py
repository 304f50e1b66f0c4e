"""The command `riskstream backtest`: settings to scorers, inputs to batches, decisions to a report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import polars as pl

from features.core.errors import ConfigurationError
from stream.replay.backtest.inputs import opened
from stream.replay.backtest.parts import PartWriter, parts_of
from stream.replay.backtest.report.figures import figures
from stream.replay.backtest.report.results import Figures
from stream.replay.backtest.report.verdicts import Verdicts
from stream.replay.backtest.request import BacktestRequest, span_of
from stream.replay.backtest.run import Keeper, Progress, Ran, run, scoring_here
from stream.replay.backtest.scoring import SettingGroup, SettingScorer
from stream.replay.backtest.setting_groups import setting_groups
from stream.replay.backtest.shares.engines import shares_running
from stream.replay.backtest.shares.share_work import alone, group_folders
from stream.replay.backtest.shares.shares import split_of
from stream.replay.backtest.shares.spill import Rejoin


@dataclass(frozen=True)
class Result:
    """Figures of each scored source; the decisions are where the request wanted them.

    `rejected` messages of topics were no events. `division` says how the work was divided among processes.
    """

    figures: list[Figures]
    complete: bool
    rejected: int = 0
    division: str = ""


def backtest(request: BacktestRequest, progress: Progress | None = None) -> Result:
    """Run and compare. Blocks until done; Ctrl-C gives what is done, and the same request goes on from there."""
    _check(request)
    groups = setting_groups(request)
    with alone(request.work):
        _check_work(request, groups)
        keepers = {side.setting.name: _keeper(request, side) for group in groups for side in group.sides}
        ran, verdicts = _run(request, groups, keepers, progress)
        sides = [side for group in groups for side in group.sides]
        sources = [
            name
            for name in sorted(groups[0].plan.readers)
            if parts_of(keepers[sides[0].setting.name].place(name))
        ]
        for source in sources:
            verdicts.join(source, keepers[sides[0].setting.name].place(source))
        found = [
            figures(
                source,
                [side.setting for side in sides],
                [
                    partial(verdicts.judged, source, keepers[side.setting.name].place(source))
                    for side in sides
                ],
                segment_by=request.segment_by,
                complete=ran.complete,
                review_cost=request.review_cost,
            )
            for source in sources
        ]
        if request.decisions is not None:
            for name, keeper in keepers.items():
                _write(request.decisions / f"{name}.parquet", keeper, verdicts, sources, request.work / "out")
        if ran.complete:
            shutil.rmtree(request.work)
    division = split_of(groups[0].plan).said(groups[0].plan) if _divided(request) else ""
    return Result(found, ran.complete, ran.rejected, division)


def _run(
    request: BacktestRequest,
    groups: Sequence[SettingGroup],
    keepers: dict[str, Keeper],
    progress: Progress | None,
) -> tuple[Ran, Verdicts]:
    span = span_of(request)
    with ExitStack() as stack:
        feed = stack.enter_context(opened(request, groups[0].plan))
        ended = stack.enter_context(shares_running(request)) if _divided(request) else None
        verdicts = Verdicts(request.work / "verdicts", feed.total // 2)
        work = []
        for group in groups:
            mine = [keepers[side.setting.name] for side in group.sides]
            here = scoring_here(group, mine, span)
            there = (
                None if ended is None else Rejoin(group_folders(request, group), group, span, ended).scored
            )
            work.append((there or here, mine))
        return run(feed, work, verdicts, progress), verdicts


def _divided(request: BacktestRequest) -> bool:
    return request.processes > 1 or request.engine != "local"


def _keeper(request: BacktestRequest, side: SettingScorer) -> Keeper:
    return Keeper(side, request.work / side.setting.name, request.with_features)


def _check(request: BacktestRequest) -> None:
    if request.engine not in ("local", "ray"):
        raise ConfigurationError(f"--engine {request.engine}: expected local or ray")
    if not 1 <= request.processes <= 1024:
        raise ConfigurationError(f"--processes {request.processes}: expected 1 to 1024")


def _check_work(request: BacktestRequest, groups: Sequence[SettingGroup]) -> None:
    """A working folder of another run is refused, and one with anything else in it: it is removed in the end."""
    mark = request.work / "request.json"
    if not mark.exists() and any(one.name != "lock" for one in request.work.iterdir()):
        raise ConfigurationError(f"--work {request.work}: the folder is not empty; name a new one")
    said = msgspec.json.encode([
        [side.setting for group in groups for side in group.sides], list(request.inputs), request.start, request.end,
        request.warm_up, request.with_features,
    ])  # fmt: skip
    if mark.exists() and mark.read_bytes() != said:
        raise ConfigurationError(
            f"{request.work} holds another interrupted run; remove it, or choose another --work"
        )
    mark.write_bytes(said)


def _write(path: Path, keeper: Keeper, verdicts: Verdicts, sources: Sequence[str], work: Path) -> None:
    """All decisions of a setting with their labels as one Parquet file, never all in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    scans = []
    for source in sources:
        judged = PartWriter(work / source)
        for frame in verdicts.judged(source, keeper.place(source)):
            judged.add(frame)
        judged.close()
        scans.append(pl.scan_parquet(parts_of(work / source)))
    temporary = path.with_suffix(".tmp")
    if scans:
        pl.concat(scans, how="diagonal").sink_parquet(temporary, maintain_order=True)
        temporary.replace(path)
    shutil.rmtree(work, ignore_errors=True)
