"""Writes the reference pages from the code: run it after changing a setting, contract, command or metric.

    python tools/reference.py

tests/stream/test_reference.py fails when a page is not what this writes.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import typer.main

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from features.definitions.spec import Source  # noqa: E402
from stream.cli.app import app  # noqa: E402
from stream.codecs import contracts  # noqa: E402
from stream.codecs.shape import Shape  # noqa: E402
from stream.project import build  # noqa: E402
from stream.settings import config  # noqa: E402
from stream.settings.tables import Settings  # noqa: E402
from stream.telemetry.metrics import Metrics  # noqa: E402

NOTE = "<!-- Written by tools/reference.py from the code. Change the code, then run it again. -->"
EXAMPLES = ("payments", "lending")


def pages() -> dict[str, str]:
    """Every generated file, by its path below docs/reference/."""
    made = {
        "settings.md": settings_page(),
        "contracts.md": contracts_page(),
        "cli.md": cli_page(),
        "metrics.md": metrics_page(),
        "asyncapi.json": asyncapi(),
        "schemas/alert.json": schema(contracts.Alert),
        "schemas/decision.json": schema(contracts.Decision),
        "schemas/dead-letter.json": schema(contracts.DeadLetter),
    }
    for source in example_sources():
        made[f"schemas/{source.name}.json"] = schema(Shape(source).strict, source.name)
    return made


def example_sources() -> Iterator[Source]:
    """Sources of the example projects."""
    for name in EXAMPLES:
        settings = config.load(ROOT / "examples" / name / "riskstream.toml")
        yield from build.make_plan(settings).sources.values()


# --- settings ------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """One table a TOML table."""
    lines = [
        "# Settings",
        NOTE,
        "`riskstream.toml` describes a project; paths in it are relative to it. Every setting has a default, and a "
        "name that is no setting is an error.",
        '`"${NAME}"` takes a value from the environment, `"${NAME:-fallback}"` with a default, `"$${"` is a plain '
        "`${`. Secrets belong there or in files (`password_file`). TLS and SASL of Kafka are librdkafka properties:",
        "```toml\n[kafka.properties]\n"
        '"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "SCRAM-SHA-512"\n"sasl.username" = "risk"\n'
        '"sasl.password_file" = "kafka-password"   # any property ending in _file is read from that file\n'
        '"ssl.ca.location" = "/etc/ssl/kafka-ca.pem"\n```',
    ]
    for field in msgspec.structs.fields(Settings):
        struct = struct_within(field.type)
        if struct is None:
            continue
        title = f"[{field.name}.NAME]" if "dict" in str(field.type) else f"[{field.name}]"
        lines += section(title, struct, 2)
    lines += [
        "## [train]",
        "What to train, as in `train.toml`; `riskstream train --config riskstream.toml` reads it here.",
    ]
    return "\n\n".join(lines) + "\n"


def section(title: str, struct: type[Any], level: int) -> list[str]:
    """Heading, sentence, table; nested tables after it."""
    said = descriptions(struct)
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    nested: list[str] = []
    for field in msgspec.structs.fields(struct):
        rows.append(f"| `{field.name}` | {default_of(field)} | {said[field.name]} |")
        inner = struct_within(field.type)
        if inner is not None:
            nested += section(f"{title[:-1]}.{field.name}]", inner, level + 1)
    return [
        f"{'#' * level} {title}",
        inspect.cleandoc(struct.__doc__ or "").split("\n")[0],
        "\n".join(rows),
        *nested,
    ]


def descriptions(struct: type[Any]) -> dict[str, str]:
    """The lines `name: meaning` of a settings docstring; every setting has one."""
    found = dict(re.findall(r"^ {4}(\w+): (.+)$", struct.__doc__ or "", re.MULTILINE))
    names = {field.name for field in msgspec.structs.fields(struct)}
    if set(found) != names:
        raise SystemExit(f"{struct.__name__}: docstring and settings differ: {sorted(set(found) ^ names)}")
    return found


def default_of(field: Any) -> str:
    if field.default is msgspec.NODEFAULT:
        value: object = {} if field.default_factory is dict else [] if field.default_factory is list else None
        return "required" if field.default_factory is msgspec.NODEFAULT else f"`{value}`"
    if field.default in ("", None):
        return ""
    return f"`{json.dumps(field.default)}`"


def struct_within(kind: Any) -> type[Any] | None:
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return kind
    for part in getattr(kind, "__args__", ()):
        if (found := struct_within(part)) is not None:
            return found
    return None


# --- contracts -----------------------------------------------------------------------------------------------


def contracts_page() -> str:
    """What comes in, what goes out."""
    lines = [
        "# Contracts",
        NOTE,
        "What riskstream reads from and writes to Kafka. The same as JSON Schema: "
        "[alert](schemas/alert.json), [decision](schemas/decision.json), [dead letter](schemas/dead-letter.json); "
        "events of the examples: "
        + ", ".join(f"[{source.name}](schemas/{source.name}.json)" for source in example_sources())
        + ". The topics of the payments example as [AsyncAPI](asyncapi.json).",
        "## Events",
        events_text(),
        "## Alerts and decisions",
        inspect.cleandoc(contracts.__doc__ or "").split("\n\n")[1],
        "The alerts topic (`topics.alerts`) holds decisions that a person should look at: review or decline, not "
        "suppressed. The decisions topic (`topics.decisions`, if named) holds every decision. Both are keyed by the "
        "primary entity's key, so that one card's alerts stay in order. Headers: CloudEvents 1.0 in binary mode "
        "(`ce_specversion`, `ce_id` = `alert_id`, `ce_source`, `ce_type` = `riskstream.alert.v1` or "
        "`riskstream.decision.v1`, `ce_time`, `content-type`), and the event's own `traceparent` and `tracestate`.",
        "Read them with `isolation.level=read_committed`: then each alert is there once, whatever failed. With "
        '`delivery = "at_least_once"` a crash repeats some: drop those whose `alert_id` you have seen.',
        struct_table(contracts.Decision),
    ]
    for struct in (contracts.RankedReason, contracts.DecidedBy, contracts.EventPlace, contracts.Times):
        lines += [f"### {struct.__name__}", inspect.cleandoc(struct.__doc__ or ""), struct_table(struct)]
    lines += [
        "## Dead letters",
        inspect.cleandoc(contracts.DeadLetter.__doc__ or ""),
        struct_table(contracts.DeadLetter),
    ]
    lines += [
        "A header of your own that starts with `riskstream-` is not kept, except `riskstream-redriven`, which counts "
        "how often a message was sent back. `riskstream-truncated` marks a value longer than the dead-letter topic "
        "takes; it was cut, and its full length is in the header."
    ]
    return "\n\n".join(lines) + "\n"


def asyncapi() -> str:
    """The topics of the payments example as an AsyncAPI document."""
    settings = config.load(ROOT / "examples" / "payments" / "riskstream.toml")
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}

    def topic(name: str, address: str, action: str, payload: str, headers: dict[str, str], text: str) -> None:
        messages[name] = {
            "name": name,
            "contentType": "application/json",
            "headers": {
                "type": "object",
                "properties": {h: {"type": "string", "description": d} for h, d in headers.items()},
            },
            "payload": {"$ref": f"schemas/{payload}.json"},
        }
        channels[name] = {
            "address": address,
            "description": text,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{action}_{name}"] = {"action": action, "channel": {"$ref": f"#/channels/{name}"}}

    trace = {"traceparent": "W3C trace context, passed on to the alert."}
    for source in build.make_plan(settings).sources.values():
        text = f"Events, keyed by `{source.key}`." if source.key else "Events."
        topic(source.name, source.topic, "receive", source.name, trace, text)
    cloud = {
        "ce_id": "The alert_id.",
        "ce_type": "riskstream.alert.v1 or riskstream.decision.v1.",
        "ce_source": "Path with the source's name.",
        "ce_time": "The event's time, RFC 3339.",
        **trace,
    }
    topic(
        "alerts",
        settings.topics.alerts,
        "send",
        "alert",
        cloud,
        "Review or decline, by entity.",
    )
    topic(
        "decisions",
        settings.topics.decisions or "decisions",
        "send",
        "decision",
        cloud,
        "Every decision, if named.",
    )
    letter = {
        f"riskstream-{name}": "See the schema." for name in ("source", "stage", "path", "reason", "topic")
    }
    letter |= {f"riskstream-{name}": "See the schema." for name in ("partition", "offset", "timestamp")}
    topic(
        "dead_letters",
        settings.topics.dead_letters,
        "send",
        "dead-letter",
        letter,
        "Original bytes.",
    )
    # The value of a dead letter is whatever was sent; the schema is how `riskstream dlq list --json` shows it.
    messages["dead_letters"] |= {"contentType": "application/octet-stream", "payload": {}}
    made = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "riskstream: the payments example",
            "version": str(contracts.SCHEMA_VERSION),
            "description": "What a worker reads (receive) and writes (send). Written by tools/reference.py.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }
    return json.dumps(made, indent=2) + "\n"


def events_text() -> str:
    return """An event is a JSON object in UTF-8 whose members are the fields of a `Source` in the project's
definitions. The rules:

- A member given twice: the last one counts, and each must fit.
- Members that are no field are ignored; the message's bytes stay as they are in your topic.
- An optional field that is missing or null is missing. A required one that is missing or null is an error.
- Types are strict: a text is no number. A whole number is fine where a number is wanted, and where an identifier
  (event id, key, entity key) is declared as text. Whole numbers beyond 2**53, NaN and infinity are errors.
- `alias = "card.number"` reads member `number` of the object `card`.
- Times: `s` and `ms` since 1970 UTC (fractions allowed), `us`, `ns`, `iso8601`, or a strptime format; without an
  offset they are UTC. An event's time lies in the years 1900 to 2199, and within `max_age` and `max_ahead` of its
  Kafka timestamp where the source says so.
- A message has a key where the source names one (`Source.key`), has a value, is smaller than
  `worker.max_value_bytes`, and nests at most 64 levels deep.

Whatever breaks a rule goes to the dead-letter topic with its place and reason, such as
`transactions[3]@18234 $.amount: expected number, got "12,0"`; the events around it are scored as if it were not
there."""


def struct_table(struct: type[Any]) -> str:
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        kind, meaning = field.type, ""
        for meta in getattr(kind, "__metadata__", ()):
            meaning = (meta.description or "") if isinstance(meta, msgspec.Meta) else meaning
        if not meaning and (inner := struct_within(kind)) is not None:
            meaning = inspect.cleandoc(inner.__doc__ or "").split("\n")[0]
        rows.append(f"| `{field.name}` | {type_name(kind)} | {meaning} |")
    return "\n".join(rows)


def type_name(kind: Any) -> str:
    """A type in words of JSON."""
    schemas, _ = msgspec.json.schema_components([kind])
    return json_type(schemas[0])


def json_type(found: dict[str, Any]) -> str:
    if "$ref" in found:
        return str(found["$ref"]).rsplit("/", 1)[-1]
    if "enum" in found:
        return ", ".join(f"`{word}`" for word in found["enum"])
    if "anyOf" in found:
        return " or ".join(dict.fromkeys(json_type(one) for one in found["anyOf"]))
    if found.get("type") == "array" and isinstance(found.get("items"), dict):
        return f"list of {json_type(found['items'])}"
    if found.get("type") == "object" and isinstance(found.get("additionalProperties"), dict):
        return f"object of {json_type(found['additionalProperties'])}"
    return str(found.get("type", "any"))


def schema(struct: type[Any], title: str | None = None) -> str:
    """JSON Schema of one contract."""
    made = msgspec.json.schema(struct)
    if title is not None:
        made["title"] = title
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    return json.dumps(made, indent=2) + "\n"


# --- command line and metrics --------------------------------------------------------------------------------


def cli_page() -> str:
    """Every command with its options."""
    command = typer.main.get_command(app)
    lines = [
        "# Command line",
        NOTE,
        "`riskstream --help` and `riskstream COMMAND --help` say the same. Exit codes: 0 done, 1 the checked thing "
        "does not hold, 2 wrong use or environment (one line on stderr says what and how to mend it), 3 fenced by "
        "another worker, 130 interrupted.",
    ]
    for path, one in commands(command, "riskstream"):
        lines += [f"## {path}", unwrapped(one.help or "")]
        rows = [
            f"| {name_of(param)} | {default_text(param)} | {getattr(param, 'help', None) or ''} |"
            for param in one.params
            if "--help" not in param.opts
        ]
        if rows:
            lines.append("\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(lines) + "\n"


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    nested = getattr(command, "commands", None)
    if nested is None:
        yield path, command
        return
    for name in sorted(nested):
        yield from commands(nested[name], f"{path} {name}")


def unwrapped(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def name_of(param: Any) -> str:
    if param.param_type_name == "argument":
        return (
            f"`{param.make_metavar_text()}`"
            if hasattr(param, "make_metavar_text")
            else f"`{param.name.upper()}`"
        )
    return ", ".join(f"`{opt}`" for opt in (*param.opts, *param.secondary_opts))


def default_text(param: Any) -> str:
    if param.required:
        return "required"
    value = param.default
    if value is None or value is False or callable(value) or value == ():
        return ""
    return f"`{value}`"


def metrics_page() -> str:
    """Every metric."""
    registry = Metrics().registry
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for collector in dict.fromkeys(registry._collector_to_names):
        one: Any = collector
        name = one._name + ("_total" if one._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in one._labelnames)
        rows.append(f"| `{name}` | {one._type} | {labels} | {one._documentation} |")
    lines = [
        "# Metrics",
        NOTE,
        "Served at `/metrics` in Prometheus text format: by a worker where `worker.metrics_port` is set, by "
        "`riskstream api` always. No label holds an entity's key or an event's id.",
        "\n".join(rows),
    ]
    return "\n\n".join(lines) + "\n"


def main() -> None:
    """Write all pages."""
    folder = ROOT / "docs" / "reference"
    for name, text in pages().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        sys.stdout.write(f"{file.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
