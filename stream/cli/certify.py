"""`riskstream certify`: proof that what was published is what the system says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream.replay.certify.certificate import Certificate


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(certify)


def certify(
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("riskstream.toml"),
    start: Annotated[
        str | None, typer.Option("--from", help="Certify what was scored from this time on, ISO 8601, UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Certify what was scored before this time.")] = None,
    out: Annotated[Path, typer.Option(help="Certificate to write, JSON.")] = Path("certificate.json"),
    key: Annotated[
        str | None, typer.Option(help="Signing key: a PEM file, or env:NAME. Without one it is unsigned.")
    ] = None,
    policy: Annotated[
        list[Path] | None, typer.Option(help="Policy file that decided at some time in the range; repeat.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(help="Only check the signature of this certificate, by models.trusted_keys."),
    ] = None,
) -> None:
    """Score a range of the log again and compare every decision and alert with what was published, bit for bit.

    Needs `topics.journal`, which tells in which order and with whose state events were scored; with
    `topics.decisions` every scored event is compared, else alerts alone. Nothing is written to Kafka or Redis. Ends
    with 0 when all agrees, 1 when anything differs; the first differences are named by place and cause.

        riskstream certify --from 2026-05-01 --to 2026-06-01 --key auditor.pem --out may.json

        riskstream certify --verify may.json
    """
    from stream.replay.certify import certificate as certificates
    from stream.replay.certify.certify import Request
    from stream.replay.certify.certify import certify as run_certify
    from stream.telemetry.progress_bar import progress_bar

    if verify is not None:
        from models.core.errors import BundleRefused
        from stream.project import build
        from stream.settings.config import load

        try:
            found = certificates.verify(verify, build.make_trust(load(config)))
        except BundleRefused as refused:
            typer.echo(str(refused), err=True)
            raise typer.Exit(1) from refused
        _say(found)
        raise typer.Exit(0 if found.verdict == "agrees" else 1)
    request = Request(config=config, start=start, end=end, policies=policy or [])
    with progress_bar("certify") as advance:
        found = run_certify(request, advance)
    certificates.write(found, out, key)
    _say(found)
    typer.echo(f"certificate: {out}")
    raise typer.Exit(0 if found.verdict == "agrees" else 1)


def _say(found: Certificate) -> None:
    counts = found.counts
    for one in found.differences:
        typer.echo(f"{one.what} {one.record} {one.place} {one.at}: {one.cause}")
        for name, (was, is_) in one.fields.items():
            typer.echo(f"    {name}: published {was}, replay {is_}")
    if found.different > len(found.differences):
        typer.echo(f"... and {found.different - len(found.differences)} more; by cause: {found.causes}")
    typer.echo(
        f"{found.verdict}: {counts.events} events ({counts.scored} scored, {counts.folded} labels, "
        f"{counts.dead_letters} dead letters, {counts.missing} missing) in {counts.units} units of work; "
        f"{counts.decisions_compared} decisions and {counts.alerts_compared} alerts compared, "
        f"{found.different} differences"
    )
