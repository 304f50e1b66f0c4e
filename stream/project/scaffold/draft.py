"""Writes a guess down as a project's files."""

from __future__ import annotations

import json

from stream.project.scaffold.guess import Guess
from stream.project.scaffold.sample import JsonMember
from stream.telemetry.terminal import escaped

_DEFINITIONS = '''"""Guessed from a sample of events by `riskstream init --from`. Check:

{checks}

    riskstream emit FILE --check        which events of a file fit
    riskstream features list            every feature that these definitions make
"""

from riskstream import Aggregation, Definitions, Entity, FeatureView, Field, Source

events = Source(
    name="events",
    topic="@NAME@-events",
    event_id={event_id},
    event_time={event_time},
    time_format={time_format},
    key={owner},  # must be what the topic is keyed by
{amount}    fields=(
{fields}
    ),
)

entities = (
{entities}
)

views = (
{views}
)

definitions = Definitions(sources=(events,), entities=entities, views=views)
{labels}'''
_LABELS = """
# Verdicts come later, on a topic of their own: send them there, name `labels` among the sources, and import LabelOf.
#
# labels = Source(
#     name="labels",
#     topic="@NAME@-labels",
#     event_id="label_id",
#     event_time="known_at",  # when the verdict became known
#     time_format="iso8601",
#     key={owner},
#     labels=LabelOf(event_id={event_id}, value={label}),
#     fields=(
#         Field(name="label_id", dtype="string"),
#         Field(name="known_at", dtype="timestamp"),
#         Field(name={event_id}, dtype="{id_dtype}"),
#         Field(name={owner}, dtype="{owner_dtype}"),
#         Field(name={label}, dtype="int64"),
#     ),
# )
"""
_VIEW = """    FeatureView(
        name="{name}_activity",
        source="events",
        entity="{name}",
        windows=("1h", "1d", "7d"),
        aggregations=(
{aggregations}
        ),
    ),"""
_POLICY = """# How scores and facts become decisions. Check with `riskstream policy check`.

[sources.events]
review = 0.5  # scores from here on are looked at by a person
decline = 0.9

[[sources.events.rules]]
name = "{rule}"
when = "{when}"
action = "review"
text = "{text}"
"""


def files(guess: Guess) -> dict[str, str]:
    """definitions.py, policy.toml and event.json."""
    return {
        "definitions.py": _definitions(guess),
        "policy.toml": _policy(guess),
        "event.json": json.dumps(guess.first, ensure_ascii=False) + "\n",
    }


def _definitions(guess: Guess) -> str:
    keys = list(dict.fromkeys(member.name for member in (guess.owner, *guess.partners)))
    functions = ['function="count"']
    if guess.money is not None:
        functions += [f'function="{name}", column={_quoted(guess.money.name)}' for name in ("sum", "mean")]
    aggregations = "\n".join(f"            Aggregation({function})," for function in functions)
    return _DEFINITIONS.format(
        checks="\n".join(f"- {_harmless(check)}" for check in guess.checks),
        event_id=_quoted(guess.event_id.name),
        event_time=_quoted(guess.event_time.name),
        time_format=_quoted(guess.time_format),
        owner=_quoted(guess.owner.name),
        amount="" if guess.money is None else f"    amount={_quoted(guess.money.name)},\n",
        fields="\n".join(_field(guess, member) for member in guess.members),
        entities="\n".join(f"    Entity(name={_quoted(name)}, keys=({_quoted(name)},))," for name in keys),
        views="\n".join(_VIEW.format(name=name, aggregations=aggregations) for name in keys),
        labels=_labels(guess),
    )


def _harmless(text: str) -> str:
    """A text for a docstring: nothing in it ends the docstring or begins an escape."""
    return escaped(text).replace("\\", "/").replace('"', "'")


def _dtype(guess: Guess, member: JsonMember) -> str:
    if member is guess.event_time:
        return "timestamp"
    names = any(member is identifier for identifier in guess.identifiers)
    return "string" if names and member.is_long_number else str(member.dtype)


def _field(guess: Guess, member: JsonMember) -> str:
    arguments = [f"name={_quoted(member.name)}", f'dtype="{_dtype(guess, member)}"']
    if member.path != member.name:
        arguments.append(f"alias={json.dumps(member.path, ensure_ascii=False)}")
    if member.path in guess.optional:
        arguments.append("required=False")
    return f"        Field({', '.join(arguments)}),"


def _labels(guess: Guess) -> str:
    if guess.label is None:
        return ""
    return _LABELS.format(
        owner=_quoted(guess.owner.name),
        event_id=_quoted(guess.event_id.name),
        label=_quoted(guess.label.name),
        id_dtype=_dtype(guess, guess.event_id),
        owner_dtype=_dtype(guess, guess.owner),
    )


def _policy(guess: Guess) -> str:
    if guess.money is None:
        count = f"events_count_1h_by_{guess.owner.name}"
        return _POLICY.format(rule="burst", when=f"{count} >= 10", text="Ten events within an hour")
    values = sorted(guess.money.values)
    large = values[len(values) * 99 // 100]
    return _POLICY.format(rule="large", when=f"{guess.money.name} > {large}", text="Larger than 99 of 100")


def _quoted(name: str) -> str:
    return json.dumps(name)
