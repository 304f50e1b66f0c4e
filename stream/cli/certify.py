"""`riskstream certify`: proof that what was published is what the system says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import SETTINGS, ConfigFile, takes
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from stream.replay.certify.report.certificate import Certificate


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(certify)


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Options of `riskstream certify`."""

    config: ConfigFile = SETTINGS
    start: Annotated[
        str | None, typer.Option("--from", help="Certify what was scored from this time on, ISO 8601, UTC.")
    ] = None
    end: Annotated[str | None, typer.Option("--to", help="Certify what was scored before this time.")] = None
    out: Annotated[Path, typer.Option(help="Certificate to write, JSON.")] = Path("certificate.json")
    key: Annotated[
        str | None, typer.Option(help="Signing key: a PEM file, or env:NAME. Without one it is unsigned.")
    ] = None
    policy: Annotated[
        list[Path] | None, typer.Option(help="Policy file that decided at some time in the range; repeat.")
    ] = None
    verify: Annotated[
        Path | None,
        typer.Option(help="Only check the signature of this certificate, by models.trusted_keys."),
    ] = None


@takes(CertifyOptions)
def certify(options: CertifyOptions) -> None:
    """Score a range of the log again and compare every decision and alert with what was published, bit for bit.

    Needs `topics.journal`, which tells in which order and with whose state events were scored; with
    `topics.decisions` every scored event is compared, else alerts alone. Nothing is written to Kafka or Redis. Ends
    with 0 when all agrees, 1 when anything differs; the first differences are named by place and cause.

        riskstream certify --from 2026-05-01 --to 2026-06-01 --key auditor.pem --out may.json

        riskstream certify --verify may.json
    """
    certificate = _replayed(options) if options.verify is None else _verified(options.config, options.verify)
    _show(certificate)
    if options.verify is None:
        echo(f"certificate: {escaped(options.out)}")
    raise typer.Exit(0 if certificate.verdict == "agrees" else 1)


def _replayed(options: CertifyOptions) -> Certificate:
    from stream.replay.certify.certify import CertifyRequest
    from stream.replay.certify.certify import certify as run_certify
    from stream.replay.certify.report import certificate as certificates
    from stream.telemetry.progress_bar import progress_bar

    request = CertifyRequest(
        config=options.config, start=options.start, end=options.end, policies=options.policy or []
    )
    with progress_bar("certify") as advance:
        certificate = run_certify(request, advance)
    certificates.write(certificate, options.out, options.key)
    return certificate


def _verified(config: Path, file: Path) -> Certificate:
    from models.core.errors import BundleRefused
    from stream.project import build
    from stream.replay.certify.report import certificate as certificates
    from stream.settings.config import load

    try:
        return certificates.verify(file, build.make_trust(load(config)))
    except BundleRefused as refused:
        echo(escaped(refused), err=True)
        raise typer.Exit(1) from refused


def _show(certificate: Certificate) -> None:
    counts = certificate.counts
    for difference in certificate.differences:
        where = f"{difference.what} {difference.record} {difference.place} {difference.at}"
        echo(escaped(f"{where}: {difference.cause}"))
        for name, (was, is_) in difference.fields.items():
            echo(f"    {escaped(name)}: published {escaped(was)}, replay {escaped(is_)}")
    if certificate.different > len(certificate.differences):
        more = certificate.different - len(certificate.differences)
        echo(f"... and {more} more; by cause: {certificate.causes}")
    echo(
        f"{certificate.verdict}: {counts.events} events ({counts.scored} scored, {counts.folded} labels, "
        f"{counts.dead_letters} dead letters, {counts.missing} missing) in {counts.units} units of work; "
        f"{counts.decisions_compared} decisions and {counts.alerts_compared} alerts compared, "
        f"{certificate.different} differences"
    )
