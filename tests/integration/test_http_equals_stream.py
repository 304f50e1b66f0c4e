"""One event asked over HTTP and then sent through Kafka: the same features, score, reasons and alert_id."""

from __future__ import annotations

import json
from typing import Any

import httpx

from stream.service.serving import make_app
from stream.settings.service import ApiSettings
from tests.servers.process import wait_until
from tests.stream.kafka.project import Project
from tests.stream.service.service_under_test import serving

SAME = (
    "alert_id",
    "event_id",
    "features",
    "score",
    "reasons",
    "decision",
    "rules",
    "entity_keys",
    "case_key",
)


def test_the_same_on_both_doors(tmp_path, kafka, redis_url):
    project = Project(tmp_path, kafka, redis_url)
    event = json.loads((project.folder / "event.json").read_text())
    before = [{**event, "payment_id": f"p{number}", "amount": 10.0 + number} for number in range(20)]
    asked = {**event, "payment_id": "asked"}

    def message(one: dict[str, Any]) -> dict[str, Any]:
        return {"key": one["card"]["token"], "value": json.dumps(one)}

    with project.worker() as worker:
        project.produce([message(one) for one in before])
        project.read("decisions", 20, worker)
        with serving(make_app(project.config, ApiSettings(), insecure=True)) as url:
            http = httpx.Client(base_url=url, timeout=30)

            def seen() -> bool:
                known = http.get("/v1/features/card/card-1").json()["features"]
                return bool(known["payments_count_1d_by_card"]["value"] == 20)

            wait_until(seen, 30, "the state to reach Redis")
            said = http.post("/v1/score/payments", json=asked).json()
            project.produce([message(asked)])
            records = [json.loads(one.value() or b"") for one in project.read("decisions", 21, worker)]
            (decided,) = [one for one in records if one["event_id"] == "asked"]
            assert {name: said[name] for name in SAME} == {name: decided[name] for name in SAME}
            wait_until(lambda: http.get("/v1/decisions/asked").status_code == 200, 30, "the decision")
            assert http.get("/v1/decisions/asked").json() == decided
            http.close()
