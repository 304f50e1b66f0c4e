"""`riskstream policy`: check a policy, and see on recorded events what it would change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Settings = Annotated[Path, typer.Option("--config", "-c", help="Settings of the project.")]
_DEFAULT = Path("riskstream.toml")

policies = typer.Typer(name="policy", no_args_is_help=True, help="Thresholds, rules and reasons.")


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(policies)


@policies.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Policy file; default: the settings' one.")] = None,
    config: Settings = _DEFAULT,
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
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path} holds: policy {policy.version}, plan {plan.fingerprint}")


@policies.command("dry-run")
def dry_run(
    inputs: Annotated[
        list[str], typer.Option("--input", help="SOURCE=FILE, Parquet or CSV in order of time; repeat.")
    ],
    candidate: Annotated[Path, typer.Argument(help="The policy to try.")],
    profiles: Annotated[
        list[str] | None, typer.Option("--profile", help="PROFILE=FILE, Parquet or CSV; repeat.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Settings = _DEFAULT,
) -> None:
    """Decide recorded events by the current policy and by another, and show what would change.

    The same engine, models and rules as live scoring; nothing is published.
    """
    import msgspec

    from stream.project.dry_run import compare
    from stream.settings import config as configs

    given, tables = _files(inputs, "--input"), _files(profiles or [], "--profile")
    result = compare(configs.load(config), candidate, given, tables)
    if json_output:
        typer.echo(msgspec.json.encode(result).decode())
        return
    typer.echo(result.text())


def _files(texts: list[str], option: str) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]}: expected NAME=FILE", param_hint=option)
    return pairs
