"""`riskstream state`: look at state in Redis, check it, have it rebuilt, delete it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile, Yes
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from features.store.base import Mark, Partition
    from stream.settings.config import Config


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(name="state", help="State in Redis.", no_args_is_help=True, rich_markup_mode=None)
    group.command()(show)
    group.command()(verify)
    group.command()(rebuild)
    group.command()(drop)
    app.add_typer(group)


def show(
    entity: Annotated[str, typer.Argument(help="Name of the entity, such as card.")],
    key: Annotated[str, typer.Argument(help="Its key; parts of a composite key are joined with |.")],
    config: ConfigFile = SETTINGS,
) -> None:
    """Show the slices of one entity: partition, stamp, bytes, and how far its shard's mark is.

    Ends with 1 when there are none.
    """
    from features.state.check import slices_of
    from stream.project.build import make_plan, make_store
    from stream.settings.config import load

    settings = load(config)
    known = {declared.name for declared in make_plan(settings).definitions.entities}
    if entity not in known:
        raise typer.BadParameter(f"no such entity; known: {', '.join(sorted(known))}")
    with closing(make_store(settings)) as store:
        shard, slices = slices_of(store, settings.worker.shards, entity, key)
    for row in slices:
        mark = "no mark" if row.mark is None else f"mark {row.mark.offset} {_age(row.mark)}"
        name = f"{row.partition.source}[{row.partition.number}]"
        echo(f"{name}: events below {row.stamp}, {row.size} bytes; shard {shard}: {mark}")
    if not slices:
        echo(f"no state of this {entity} (shard {shard})")
        raise typer.Exit(1)


def verify(config: ConfigFile = SETTINGS) -> None:
    """Check all state: marks against committed offsets, slices against marks, keys against shards.

    Reads every slice; safe beside running workers. Ends with 1 when something does not hold.
    """
    from features.state.check import verify as check
    from stream.project.build import make_store
    from stream.settings.config import load

    settings = load(config)
    with closing(make_store(settings)) as store:
        report = check(store, _committed(settings))
    for problem in report.problems[:20]:
        echo(escaped(problem))
    echo(
        f"{report.entities} entities, {report.slices} slices, {report.bytes} bytes, "
        f"{len(report.problems)} problems"
    )
    if report.problems:
        raise typer.Exit(1)


def rebuild(
    config: ConfigFile = SETTINGS,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Keep state; go on without the events that the log no longer holds."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete slices and marks, so that workers rebuild them from the log, muted.

    Running workers notice and do it at once; alerts stop until they have caught up. With `--accept-loss` nothing is
    deleted: marks below the start of the log are raised to it.
    """
    from stream.project.build import make_store
    from stream.settings.config import load

    settings = load(config)
    if accept_loss:
        count = _raise_marks(settings, yes)
        echo(f"raised {count} marks to the start of the log")
        return
    with closing(make_store(settings)) as store:
        manifest = store.manifest()
        _confirm(yes, "Delete state and have it rebuilt from the log?")
        echo(f"deleted {store.drop()} keys; workers rebuild them")
        if manifest is not None:
            store.open(manifest)


def drop(config: ConfigFile = SETTINGS, yes: Yes = False) -> None:
    """Delete everything of this namespace but profiles. Stop its workers first.

    A worker that starts afterwards rebuilds state from where its group began.
    """
    from stream.project.build import make_store
    from stream.settings.config import load

    with closing(make_store(load(config))) as store:
        _confirm(yes, "Delete all state of this namespace?")
        echo(f"deleted {store.drop()} keys")


def _confirm(yes: bool, question: str) -> None:
    if not yes:
        typer.confirm(question, abort=True)


def _age(mark: Mark) -> str:
    from features.core.times import now_ms

    return f"{max(0, now_ms() - mark.time_ms) / 1000:.1f} s ago"


def _committed(config: Config) -> dict[Partition, int]:
    from stream.kafka.readers.offsets import GroupOffsets
    from stream.project.build import make_plan

    with GroupOffsets(config, make_plan(config)) as offsets:
        return offsets.committed_by_source()


def _raise_marks(config: Config, yes: bool) -> int:
    """Empty flushes from each mark to the start of the log: what lies between is given up."""
    from features.core.times import now_ms
    from features.store.base import Flush
    from stream.kafka.readers.offsets import GroupOffsets
    from stream.project.build import make_plan, make_store

    with GroupOffsets(config, make_plan(config)) as offsets:
        starts = offsets.log_starts()
    now = now_ms()
    with closing(make_store(config)) as store:
        flushes = [
            Flush(partition, shard, offset, start, offset, now)
            for shard, marks in enumerate(store.marks())
            for partition, start in starts.items()
            if (offset := marks[partition].offset if partition in marks else 0) < start
        ]
        if flushes:
            _confirm(yes, f"Give up the events below the start of the log for {len(flushes)} marks?")
            store.flush(flushes)
    return len(flushes)
