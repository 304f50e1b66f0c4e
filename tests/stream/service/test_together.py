"""Questions asked at once are answered as if each were asked alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stream.project import build
from stream.service.client import AsyncClient, Client
from stream.service.serving import make_app
from stream.settings.config import load
from stream.settings.service import ApiSettings
from tests.stream.service.service_under_test import EVENT, make_project, serving

BUDGET = "[sources.payments.budget]\nalerts_per_day = 1\nstart = 0.5\n"
SUPPRESS = '[sources.payments]\nreview = 0.5\n[sources.payments.suppress]\nentity = "card"\nperiod = "1h"\n'
PLAIN = "[sources.payments]\nreview = 0.5\n"
ROWS = [{"amount": 3.0, "n": 3, "ratio": value / 10} for value in range(40)]
EVENTS = [{**EVENT, "id": f"e{number}", "amount": 3.0 + number} for number in range(40)]


@pytest.mark.parametrize("policy", [PLAIN, BUDGET, SUPPRESS], ids=["plain", "budget", "suppress"])
def test_together_as_alone(tmp_path: Path, policy: str) -> None:
    file = make_project(tmp_path)
    (tmp_path / "policy.toml").write_text(policy)

    async def together(url: str) -> tuple[list[object], list[object]]:
        async with AsyncClient(url) as client:
            rows = await asyncio.gather(*(client.predict([row]) for row in ROWS))
            events = await asyncio.gather(*(client.score("payments", event) for event in EVENTS))
        return [one.predictions[0] for one in rows], [(one.decision, one.score, one.alert) for one in events]

    settings = ApiSettings(batch_delay_ms=20)
    with serving(make_app(load(file), settings, insecure=True)) as url, Client(url) as client:
        rows, events = asyncio.run(together(url))
        assert rows == [client.predict([row]).predictions[0] for row in ROWS]
        assert rows == list(client.predict(ROWS).predictions)
        alone = [client.score("payments", event) for event in EVENTS]
    assert events == [(one.decision, one.score, one.alert) for one in alone]
    assert sum(one.alert for one in alone) > 1


def test_the_door_reads_json_whatever_the_topic_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project whose topics are in another wire format is asked over HTTP in JSON all the same."""

    def no_json_topics(*_: object) -> None:
        raise AssertionError("the service asks for the decoders of topics")

    config = load(make_project(tmp_path))
    monkeypatch.setattr(build, "make_decoders", no_json_topics)
    with serving(make_app(config, ApiSettings(), insecure=True)) as url, Client(url) as client:
        assert client.score("payments", EVENT).event_id == EVENT["id"]
