"""`riskstream policy`: check a policy, and see on recorded events what it would change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile, InputFiles, Json, ProfileFiles, pairs
from stream.telemetry.terminal import echo, escaped

policies = typer.Typer(name="policy", no_args_is_help=True, help="Thresholds, rules and reasons.")


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(policies)


@policies.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Policy file; default: the settings' one.")] = None,
    config: ConfigFile = SETTINGS,
) -> None:
    """Check a policy against definitions and routed models. Ends with 1 where something is wrong."""
    from features.core.errors import ConfigurationError
    from models.decision.policy import load_policy
    from stream.project import build
    from stream.settings import config as configs

    loaded = configs.load(config)
    plan = build.make_plan(loaded)
    path = file or Path(loaded.resolve(loaded.policy.file))
    try:
        policy = load_policy(path, plan)
        for source, model in build.load_models(loaded, plan).items():
            policy.check_model(source, model)
    except ConfigurationError as error:
        echo(error, err=True)
        raise typer.Exit(1) from error
    echo(f"{escaped(path)} holds: policy {escaped(policy.version)}, plan {plan.fingerprint}")


@policies.command("dry-run")
def dry_run(
    inputs: InputFiles,
    candidate: Annotated[Path, typer.Argument(help="The policy to try.")],
    profiles: ProfileFiles = None,
    json_output: Json = False,
    config: ConfigFile = SETTINGS,
) -> None:
    """Decide recorded events by the current policy and by another, and show what would change.

    The same engine, models and rules as live scoring; nothing is published.
    """
    import msgspec

    from stream.project.dry_run import compare
    from stream.settings import config as configs

    given, tables = pairs(inputs, "--input"), pairs(profiles or [], "--profile")
    result = compare(configs.load(config), candidate, given, tables)
    if json_output:
        echo(msgspec.json.encode(result).decode())
        return
    echo(result.text())
