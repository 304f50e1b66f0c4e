"""Writes a guess down as a project's files."""

from __future__ import annotations

import json

from stream.project.scaffold.guess import Guess, JsonMember

_DEFINITIONS = '''"""Guessed from a sample of events by `riskstream init --from`: look before you trust it.

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
'''
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


def files(found: Guess) -> dict[str, str]:
    """definitions.py, policy.toml and event.json."""
    return {
        "definitions.py": _definitions(found),
        "policy.toml": _policy(found),
        "event.json": json.dumps(found.first, ensure_ascii=False) + "\n",
    }


def _definitions(found: Guess) -> str:
    keys = list(dict.fromkeys(one.name for one in (found.owner, *found.partners)))
    functions = ['function="count"']
    if found.money is not None:
        functions += [f'function="{name}", column={_quoted(found.money.name)}' for name in ("sum", "mean")]
    aggregations = "\n".join(f"            Aggregation({one})," for one in functions)
    return _DEFINITIONS.format(
        event_id=_quoted(found.event_id.name),
        event_time=_quoted(found.event_time.name),
        time_format=_quoted(found.time_format),
        owner=_quoted(found.owner.name),
        amount="" if found.money is None else f"    amount={_quoted(found.money.name)},\n",
        fields="\n".join(_field(found, one) for one in found.members),
        entities="\n".join(f"    Entity(name={_quoted(name)}, keys=({_quoted(name)},))," for name in keys),
        views="\n".join(_VIEW.format(name=name, aggregations=aggregations) for name in keys),
    )


def _field(found: Guess, one: JsonMember) -> str:
    dtype = "timestamp" if one is found.event_time else one.dtype
    parts = [f"name={_quoted(one.name)}", f'dtype="{dtype}"']
    if one.path != one.name:
        parts.append(f"alias={json.dumps(one.path, ensure_ascii=False)}")
    if one.path in found.optional:
        parts.append("required=False")
    return f"        Field({', '.join(parts)}),"


def _policy(found: Guess) -> str:
    if found.money is None:
        count = f"events_count_1h_by_{found.owner.name}"
        return _POLICY.format(rule="burst", when=f"{count} >= 10", text="Ten events within an hour")
    values = sorted(found.money.values)
    large = values[len(values) * 99 // 100]
    return _POLICY.format(rule="large", when=f"{found.money.name} > {large}", text="Larger than 99 of 100")


def _quoted(name: str) -> str:
    return json.dumps(name)
