"""`riskstream state`: look at state in Redis, check it, have it rebuilt, delete it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from features.store.base import Mark, Partition
    from stream.settings.config import Config

ConfigOption = Annotated[Path, typer.Option(help="Settings of the project.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


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
    config: ConfigOption = Path("riskstream.toml"),
) -> None:
    """Show the slices of one entity: partition, stamp, bytes, and how far its shard's mark is.

    Ends with 1 when there are none.
    """
    from features.state.check import slices_of
    from stream.project.build import make_plan, make_store
    from stream.settings.config import load

    settings = load(config)
    known = {one.name for one in make_plan(settings).definitions.entities}
    if entity not in known:
        raise typer.BadParameter(f"no such entity; known: {', '.join(sorted(known))}")
    store = make_store(settings)
    try:
        shard, found = slices_of(store, settings.worker.shards, entity, key)
    finally:
        store.close()
    for one in found:
        mark = "no mark" if one.mark is None else f"mark {one.mark.offset} {_age(one.mark)}"
        name = f"{one.partition.source}[{one.partition.number}]"
        typer.echo(f"{name}: events below {one.stamp}, {one.size} bytes; shard {shard}: {mark}")
    if not found:
        typer.echo(f"no state of this {entity} (shard {shard})")
        raise typer.Exit(1)


def verify(config: ConfigOption = Path("riskstream.toml")) -> None:
    """Check all state: marks against committed offsets, slices against marks, keys against shards.

    Reads every slice; safe beside running workers. Ends with 1 when something does not hold.
    """
    from features.state.check import verify as check
    from stream.project.build import make_store
    from stream.settings.config import load

    settings = load(config)
    store = make_store(settings)
    try:
        report = check(store, _committed(settings))
    finally:
        store.close()
    for problem in report.problems[:20]:
        typer.echo(problem)
    typer.echo(
        f"{report.entities} entities, {report.slices} slices, {report.bytes} bytes, "
        f"{len(report.problems)} problems"
    )
    if report.problems:
        raise typer.Exit(1)


def rebuild(
    config: ConfigOption = Path("riskstream.toml"),
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Keep state; go on without the events that the log no longer holds."
        ),
    ] = False,
    yes: YesOption = False,
) -> None:
    """Delete slices and marks, so that workers rebuild them from the log, muted.

    Running workers notice and do it at once; alerts stop until they have caught up. With `--accept-loss` nothing is
    deleted: marks below the start of the log are raised to it.
    """
    from stream.project.build import make_store
    from stream.settings.config import load

    settings = load(config)
    store = make_store(settings)
    try:
        if accept_loss:
            count = _raise_marks(settings, yes)
            typer.echo(f"raised {count} marks to the start of the log")
            return
        manifest = store.manifest()
        _confirm(yes, "Delete state and have it rebuilt from the log?")
        typer.echo(f"deleted {store.drop()} keys; workers rebuild them")
        if manifest is not None:
            store.open(manifest)
    finally:
        store.close()


def drop(config: ConfigOption = Path("riskstream.toml"), yes: YesOption = False) -> None:
    """Delete everything of this namespace but profiles. Stop its workers first.

    A worker that starts afterwards rebuilds state from where its group began.
    """
    from stream.project.build import make_store
    from stream.settings.config import load

    store = make_store(load(config))
    try:
        _confirm(yes, "Delete all state of this namespace?")
        typer.echo(f"deleted {store.drop()} keys")
    finally:
        store.close()


def _confirm(yes: bool, question: str) -> None:
    if not yes:
        typer.confirm(question, abort=True)


def _age(mark: Mark) -> str:
    import time

    return f"{max(0.0, time.time() - mark.time_ms / 1000):.1f} s ago"


def _committed(config: Config) -> dict[Partition, int]:
    from stream.kafka.readers.offsets import GroupOffsets
    from stream.project.build import make_plan

    with GroupOffsets(config, make_plan(config)) as offsets:
        return offsets.committed()


def _raise_marks(config: Config, yes: bool) -> int:
    """Empty flushes from each mark to the start of the log: what lies between is given up."""
    import time

    from features.store.base import Flush
    from stream.kafka.readers.offsets import GroupOffsets
    from stream.project.build import make_plan, make_store

    with GroupOffsets(config, make_plan(config)) as offsets:
        starts = offsets.log_starts()
    store = make_store(config)
    now = time.time_ns() // 1_000_000
    flushes = [
        Flush(partition, shard, found, start, found, now)
        for shard, marks in enumerate(store.marks())
        for partition, start in starts.items()
        if (found := marks[partition].offset if partition in marks else 0) < start
    ]
    try:
        if flushes:
            _confirm(yes, f"Give up the events below the start of the log for {len(flushes)} marks?")
            store.flush(flushes)
    finally:
        store.close()
    return len(flushes)
