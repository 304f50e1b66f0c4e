"""`riskstream profiles`: static facts of entities, from files into Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.core.errors import ConfigurationError
from stream.cli.options import SETTINGS, ConfigFile, Json
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from features.definitions.plan import Plan
    from features.definitions.spec import Profile
    from features.profiles.loader import Loaded
    from stream.settings.config import Config

ProfileFile = Annotated[
    Path | None, typer.Option("--file", help="CSV or Parquet file, instead of the settings' one.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Do not go on where a load stopped.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Load profiles: static facts of entities.", no_args_is_help=True)
    group.callback()(lambda: None)
    group.command("load")(load_profiles)
    app.add_typer(group, name="profiles")


def load_profiles(
    names: Annotated[
        list[str] | None, typer.Argument(help="Profiles to load; default: all with a file.")
    ] = None,
    config: ConfigFile = SETTINGS,
    file: ProfileFile = None,
    restart: Restart = False,
    as_json: Json = False,
) -> None:
    """Load profiles from Parquet or CSV into Redis.

    A load that was interrupted goes on where it stopped. Rows that do not fit are left out and counted by
    reason; a row never replaces a newer one of its key. Ends with 1 when rows were rejected.
    """
    from features.profiles.loader import load_profile
    from stream.project.build import make_plan, make_store
    from stream.settings.config import load
    from stream.telemetry.progress_bar import progress_bar

    settings = load(config)
    plan = make_plan(settings)
    files = _files(settings, plan, names or [], file)
    results = {}
    with closing(make_store(settings)) as store:
        for profile, path in files:
            with progress_bar(profile.name) as advance:
                results[profile.name] = load_profile(plan, profile, path, store, advance, restart=restart)
    _print(results, as_json)
    if any(result.rejected for result in results.values()):
        raise typer.Exit(1)


def _files(settings: Config, plan: Plan, names: list[str], file: Path | None) -> list[tuple[Profile, Path]]:
    """Which profiles to load from which files."""
    declared = {profile.name: profile for profile in plan.definitions.profiles}
    wanted = names or list(settings.profiles) or list(declared)
    if not wanted:
        raise ConfigurationError(f"{settings.path}: the definitions have no profile to load")
    if file is not None and len(wanted) != 1:
        raise ConfigurationError("--file: name the one profile that it is for")
    pairs = []
    for name in wanted:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ConfigurationError(f"profile `{name}` is not defined; known: {known}")
        if file is None and name not in settings.profiles:
            raise ConfigurationError(
                f"{settings.path}: profiles.{name}.file is not set; set it or give --file"
            )
        path = file if file is not None else Path(settings.resolve(settings.profiles[name].file))
        pairs.append((declared[name], path))
    return pairs


def _print(results: Mapping[str, Loaded], as_json: bool) -> None:
    if as_json:
        rows = {
            name: {"read": loaded.read, "written": loaded.written, "rejected": dict(loaded.rejected)}
            for name, loaded in results.items()
        }
        echo(json.dumps(rows))
        return
    for name, result in results.items():
        resumed = f" (went on after {result.resumed:,})" if result.resumed else ""
        echo(f"{name}: {result.read:,} rows read{resumed}, {result.written:,} written")
        for reason, count in result.rejected.most_common():
            echo(f"  {count:,} rejected: {escaped(reason)}")
