"""`riskstream dlq`: what could not be used, why, and sending it back."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from features.core.errors import ConfigurationError
from stream.cli.options import SETTINGS, ConfigFile, Yes, takes
from stream.telemetry.terminal import echo, escaped

if TYPE_CHECKING:
    from stream.codecs.contracts import DeadLetter

Source = Annotated[str | None, typer.Option(help="Only events of this source.")]
FailedPath = Annotated[
    str | None, typer.Option("--path", help="Only events that failed here, as in `$.amount`.")
]

commands = typer.Typer(name="dlq", help="Look at dead letters, and send them back when the cause is mended.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(commands, no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Options of `riskstream dlq list`."""

    config: ConfigFile = SETTINGS
    source: Source = None
    path: FailedPath = None
    everything: Annotated[bool, typer.Option("--all", help="Those sent back too.")] = False
    limit: Annotated[int, typer.Option(min=1, help="Show the last so many.")] = 20
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object a line, all of them.")] = False


@commands.command("list")
@takes(ListOptions)
def list_(options: ListOptions) -> None:
    """Count dead letters by cause, and show the last ones by place, path and reason."""
    import msgspec

    causes: Counter[tuple[str, str, str]] = Counter()
    last: deque[DeadLetter] = deque(maxlen=options.limit)
    for letter in _letters(options):
        if options.json_output:
            echo(msgspec.json.encode(letter).decode())
            continue
        causes[letter.source, letter.path, letter.reason.split(", got ")[0]] += 1
        last.append(letter)
    if not options.json_output:
        _show_causes(causes, last)


def _letters(options: ListOptions) -> Iterator[DeadLetter]:
    from stream.kafka.readers.dead_letter_log import read
    from stream.settings.config import load

    for record in read(load(options.config), everything=options.everything):
        letter = record.letter
        if options.source in (None, letter.source) and options.path in (None, letter.path):
            yield letter


def _show_causes(causes: Counter[tuple[str, str, str]], last: deque[DeadLetter]) -> None:
    if not causes:
        echo("no dead letters")
        return
    for (name, path, reason), count in causes.most_common():
        echo(f"{count:8}  {escaped(name)}  {escaped(path)}  {escaped(reason)}")
    echo(f"{causes.total():8}  in all; the last {len(last)}:")
    for letter in last:
        echo(escaped(letter.error))


@commands.command()
def show(
    event: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="Where the event stood, as `list` says it: transactions[3]@18234"
        ),
    ],
    config: ConfigFile = SETTINGS,
) -> None:
    """Show one dead letter: reason, key, headers and the value as it came."""
    from stream.kafka.readers.dead_letter_log import read
    from stream.settings.config import load

    settings = load(config)
    records = [record for record in read(settings, everything=True) if record.letter.place == event]
    if not records:
        known = "`riskstream dlq list` shows which there are"
        raise ConfigurationError(f"no dead letter of {event} in {settings.topics.dead_letters}; {known}")
    for record in records:
        letter = record.letter
        echo(escaped(letter.error))
        echo(
            f"source   {escaped(letter.source)}, stage {escaped(letter.stage)}, "
            f"Kafka timestamp {letter.timestamp_ms} ms"
        )
        echo(f"letter   {settings.topics.dead_letters}[{record.partition}]@{record.offset}")
        echo(f"key      {_readable(letter.key)}")
        for name, value in letter.headers:
            echo(f"header   {escaped(name)}: {_readable(value)}")
        echo(f"value    {_readable(letter.value)}")


@commands.command()
def redrive(
    config: ConfigFile = SETTINGS,
    source: Source = None,
    path: FailedPath = None,
    yes: Yes = False,
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
    echo(f"{done.sent} sent back, {done.kept} kept for later, {done.truncated} too long to be whole")


def _readable(data: bytes | None) -> str:
    if data is None:
        return "(null)"
    try:
        return escaped(data.decode())
    except UnicodeDecodeError:
        return f"(not text) {data.hex()}"
