"""The guide to one's own events holds: its event, its definitions, its commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from features.definitions import spec
from features.definitions.compile import compile_plan
from features.definitions.spec import Definitions
from stream.cli.app import app
from stream.codecs.json import JsonDecoder
from stream.codecs.messages import RawBatch, RawMessage

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-events.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def definitions() -> Definitions:
    names: dict[str, Any] = vars(spec).copy()
    for block in blocks("python"):
        exec(block, names)
    return Definitions(sources=(names["cards"],), entities=names["entities"], views=names["views"])


def test_its_event_is_what_its_source_says():
    (event,) = blocks("json")
    source = definitions().sources[0]
    raw = RawBatch.of(source.topic, [RawMessage(source.topic, 0, 0, -1, b"9f3c", event.strip().encode())])
    batch, letters = JsonDecoder(source).decode(raw)
    assert letters == []
    assert batch.event_ids == ["991"]
    assert batch.columns["pan"] == ["9f3c"]
    assert np.asarray(batch.columns["mid"]).tolist() == [4471]
    assert batch.event_time.tolist() == [1_772_359_200_000_000]
    broken = {**json.loads(event), "eur": "12,0"}
    raw = RawBatch.of(
        source.topic, [RawMessage(source.topic, 3, 18_234, -1, b"k", json.dumps(broken).encode())]
    )
    _, (letter,) = JsonDecoder(source).decode(raw)
    assert letter.error in GUIDE


def test_its_definitions_compile():
    plan = compile_plan(definitions())
    assert "eur_mean_7d_by_card" in plan.readers["cards"].names
    assert set(plan.readers["cards"].entity_keys) == {"card", "merchant", "card_at_merchant"}


def test_its_commands_exist():
    from typer.main import get_command

    known = get_command(app).commands  # type: ignore[attr-defined]
    named = set(re.findall(r"(?:\$ |`)riskstream ([a-z]+)", GUIDE))
    assert len(named) > 5
    assert named - set(known) == set()
