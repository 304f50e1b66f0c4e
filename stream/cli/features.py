"""`riskstream features`: what a project's features are, and features of recorded events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile, InputFiles, Json, ProfileFiles, pairs, takes
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from features.definitions.plan import Plan
    from features.definitions.spec import Definitions
    from features.profiles.joins import FrameProfiles

DefinitionsFile = Annotated[
    Path | None, typer.Option("--definitions", help="Definitions file, instead of the settings' one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="List, explain and materialize features.", no_args_is_help=True)
    group.command("list")(list_features)
    group.command("explain")(explain_feature)
    group.command("materialize")(materialize)
    app.add_typer(group, name="features")


def list_features(
    config: ConfigFile = SETTINGS,
    definitions: DefinitionsFile = None,
    as_json: Json = False,
) -> None:
    """List all features with their definitions, in the order of the model's matrix."""
    import json
    from dataclasses import asdict

    from features.definitions.explain import feature_lines

    plan = _plan(config, definitions)
    lines = feature_lines(plan)
    if as_json:
        echo(json.dumps({"fingerprint": plan.fingerprint, "features": [asdict(line) for line in lines]}))
        return
    width = max((len(line.name) for line in lines), default=0)
    source = None
    for line in lines:
        if line.source != source:
            echo(f"{escaped(line.source)}:")
            source = line.source
        kind = f"{line.kind}, text" if line.text else line.kind
        echo(f"  {line.name:<{width}}  {kind:<13} {' '.join(line.definition.split())}")
    echo(f"{len(lines)} features, fingerprint {plan.fingerprint}")


def explain_feature(
    name: Annotated[str, typer.Argument(help="Name of a feature.")],
    config: ConfigFile = SETTINGS,
    definitions: DefinitionsFile = None,
) -> None:
    """Explain one feature: its definition, window edges, source, and a worked example."""
    from features.definitions.explain import explain

    echo(explain(_plan(config, definitions), name))


@dataclass(frozen=True, kw_only=True)
class MaterializeOptions:
    """Options of `riskstream features materialize`."""

    inputs: InputFiles
    output: Annotated[Path, typer.Option("--output", help="Parquet file to write.")]
    config: ConfigFile = SETTINGS
    definitions: DefinitionsFile = None
    source: Annotated[str | None, typer.Option(help="Scored source, where several are given.")] = None
    profiles: ProfileFiles = None


@takes(MaterializeOptions)
def materialize(options: MaterializeOptions) -> None:
    """Compute the features of recorded events, as each event would have seen them.

    The same engine as live scoring, over files that may be larger than memory. Sources are merged by event
    time. The output has one row an event: its id, time and columns, all features, `duplicate`, `late`, and
    the flags of profiles.
    """
    import time

    from features.offline.materialize import run
    from stream.telemetry.progress_bar import progress_bar

    definitions = _definitions(options.config, options.definitions)
    files = pairs(options.inputs, "--input")
    profiles = _profiles(definitions, pairs(options.profiles or [], "--profile"))
    started = time.perf_counter()
    with progress_bar("events") as advance:
        written = run(definitions, files, options.output, advance, source=options.source, profiles=profiles)
    seconds = time.perf_counter() - started
    rate = written.read / seconds if seconds else 0.0
    echo(f"{written.read:,} events in {seconds:.1f} s, {rate:,.0f} events/s")
    echo(f"{written.rows:,} rows in {escaped(written.path)}")


def _definitions(config: Path, file: Path | None) -> Definitions:
    from features.definitions.project import load_definitions
    from stream.settings.config import load

    if file is not None:
        return load_definitions(file)
    settings = load(config)
    return load_definitions(settings.resolve(settings.project.definitions))


def _plan(config: Path, file: Path | None) -> Plan:
    from features.definitions.compile import compile_plan

    return compile_plan(_definitions(config, file))


def _profiles(definitions: Definitions, files: dict[str, str]) -> FrameProfiles | None:
    from features.definitions.compile import compile_plan
    from features.offline.recorded import read_frame
    from features.profiles.joins import FrameProfiles

    if not files:
        return None
    return FrameProfiles(compile_plan(definitions), {name: read_frame(path) for name, path in files.items()})
