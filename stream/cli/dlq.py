"""`riskstream dlq`: what could not be used, why, and sending it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream.kafka.readers.dead_letter_log import Found

ConfigFile = Annotated[Path, typer.Option("--config", help="Settings of the project.")]
Source = Annotated[str | None, typer.Option(help="Only events of this source.")]
At = Annotated[str | None, typer.Option("--path", help="Only events that failed here, as in `$.amount`.")]

commands = typer.Typer(name="dlq", help="Look at dead letters, and send them back when the cause is mended.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(commands, no_args_is_help=True)


@commands.command("list")
def list_(
    config: ConfigFile = Path("riskstream.toml"),
    source: Source = None,
    path: At = None,
    everything: Annotated[bool, typer.Option("--all", help="Those sent back too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show the last so many.")] = 20,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object a line, all of them.")] = False,
) -> None:
    """Count dead letters by cause, and show the last ones by place, path and reason."""
    from collections import Counter, deque

    import msgspec

    from stream.kafka.readers.dead_letter_log import read
    from stream.settings.config import load

    causes: Counter[tuple[str, str, str]] = Counter()
    last: deque[Found] = deque(maxlen=limit)
    for found in read(load(config), everything=everything):
        letter = found.letter
        if source not in (None, letter.source) or path not in (None, letter.path):
            continue
        causes[letter.source, letter.path, letter.reason.split(", got ")[0]] += 1
        last.append(found)
        if json_output:
            typer.echo(msgspec.json.encode(letter).decode())
    if json_output:
        return
    for (name, where, wanted), count in causes.most_common():
        typer.echo(f"{count:8}  {name}  {where}  {wanted}")
    if not causes:
        typer.echo("no dead letters")
        return
    typer.echo(f"{causes.total():8}  in all; the last {len(last)}:")
    for found in last:
        typer.echo(found.letter.error)


@commands.command()
def show(
    place: Annotated[
        str, typer.Argument(help="Where the event stood, as `list` says it: transactions[3]@18234")
    ],
    config: ConfigFile = Path("riskstream.toml"),
) -> None:
    """Show one dead letter: reason, key, headers and the value as it came."""
    from features.core.errors import ConfigurationError
    from stream.kafka.readers.dead_letter_log import read
    from stream.settings.config import load

    settings = load(config)
    hits = [found for found in read(settings, everything=True) if found.letter.place == place]
    if not hits:
        known = "`riskstream dlq list` shows which there are"
        raise ConfigurationError(f"no dead letter of {place} in {settings.topics.dead_letters}; {known}")
    for found in hits:
        letter = found.letter
        typer.echo(letter.error)
        typer.echo(
            f"source   {letter.source}, stage {letter.stage}, Kafka timestamp {letter.timestamp_ms} ms"
        )
        typer.echo(f"letter   {settings.topics.dead_letters}[{found.partition}]@{found.offset}")
        typer.echo(f"key      {_readable(letter.key)}")
        for name, value in letter.headers:
            typer.echo(f"header   {name}: {_readable(value)}")
        typer.echo(f"value    {_readable(letter.value)}")


@commands.command()
def redrive(
    config: ConfigFile = Path("riskstream.toml"),
    source: Source = None,
    path: At = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send dead letters back to their own topics, each once.

    Bytes, key, headers and partition are the original ones; the header `riskstream-redriven` counts how often.
    Mend the cause first, or they come straight back.
    """
    from stream.kafka.readers.dead_letter_log import redrive as send_back
    from stream.settings.config import load

    settings = load(config)
    if not yes:
        typer.confirm(f"Send the dead letters of {settings.topics.dead_letters} back?", abort=True)
    done = send_back(settings, source, path)
    typer.echo(f"{done.sent} sent back, {done.kept} kept for later, {done.truncated} too long to be whole")


def _readable(data: bytes | None) -> str:
    if data is None:
        return "(null)"
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"(not text) {data.hex()}"
