"""`riskstream init`, `doctor`, `worker`, `emit` on real servers: a project that runs as it is."""

from __future__ import annotations

import json
import signal
import time
import urllib.request

import pytest

from stream.cli.app import run
from stream.project.scaffold.project import make_project
from tests.servers.process import free_port
from tests.stream.kafka.project import Project, stopped


def scraped(port: int, wanted: str) -> str:
    """The metrics, once they hold a line: they are written after the commit that made the alert visible."""
    deadline = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        if wanted in text:
            return text
        assert time.monotonic() < deadline, text


@pytest.fixture
def project(tmp_path, kafka, redis_url) -> Project:
    return Project(tmp_path, kafka, redis_url)


def test_the_sample_event_alerts(project, capsys):
    port = free_port()
    project.edit("[worker]", f"[worker]\nmetrics_port = {port}")
    with project.worker() as worker:
        assert run(["emit", str(project.folder / "event.json"), "--config", str(project.file)]) == 0
        assert f"1 sent to {project.topic('payments')}, 0 rejected" in capsys.readouterr().out
        (record,) = project.read("alerts", 1, worker)
        measured = scraped(port, 'riskstream_alerts_total{severity="low",source="payments"} 1.0')
        assert stopped(worker) == 0
    for line in (
        'riskstream_events_total{source="payments"} 1.0',
        'riskstream_decisions_total{decision="review",mode="live",source="payments"} 1.0',
        'riskstream_model_info{name="none",source="payments",version="0"} 1.0',
    ):
        assert line in measured
    assert "card-1" not in measured
    alert = json.loads(record.value())
    assert record.key() == b"card-1"
    assert (alert["decision"], alert["rules"], alert["exposure"]) == ("review", ["unusually_large"], 2500.0)
    assert alert["reasons"][0]["text"] == "Far more than this card usually pays"
    assert (alert["entity_keys"]["card_shop"], alert["model"]["name"]) == ("card-1|shop-7", "none")
    assert alert["features"]["payments_count_1d_by_card"] == 1.0


def test_events_nobody_here_has_seen(project):
    """Other names, nested objects, whole-number ids and keys, times as text: only the project's files change."""
    (project.folder / "definitions.py").write_text(f'''
from features.definitions.spec import *

source = Source(
    name="mouvements", topic="{project.topic("payments")}", event_id="numero", event_time="quand",
    time_format="%d/%m/%Y %H:%M:%S", key="compte", amount="montant",
    fields=(
        Field(name="numero", dtype="int64", alias="numéro"),
        Field(name="quand", dtype="timestamp", alias="meta.horodatage"),
        Field(name="compte", dtype="string", alias="client.compte"),
        Field(name="montant", dtype="float64", alias="montant €"),
        Field(name="agence", dtype="int64", alias="meta.agence.id", required=False),
    ),
)
definitions = Definitions(
    sources=(source,),
    entities=(Entity(name="compte", keys=("compte",)), Entity(name="agence", keys=("agence",))),
    views=(
        FeatureView(name="a", source="mouvements", entity="compte", windows=("2h",),
                    aggregations=(Aggregation(function="sum", column="montant", name="total"),)),
        FeatureView(name="b", source="mouvements", entity="agence", windows=("7d",),
                    aggregations=(Aggregation(function="count"),)),
    ),
)
''')
    (project.folder / "policy.toml").write_text(
        '[[sources.mouvements.rules]]\nname = "gros"\nwhen = "total > 100"\naction = "decline"\n'
    )
    events = [
        {
            "numéro": 100 + row,
            "montant €": 30 * (row + 1),
            "client": {"compte": 7000, "nom": "x"},
            "meta": {"horodatage": f"05/03/2026 10:{row:02}:00", "agence": {"id": 3} if row else None},
        }
        for row in range(4)
    ]
    project.produce([{"key": b"7000", "value": json.dumps(one).encode(), "partition": 0} for one in events])
    with project.worker() as worker:
        records = project.read("decisions", 4, worker)
        assert stopped(worker) == 0
    made = {one["event_id"]: one for one in (json.loads(record.value()) for record in records)}
    assert [made[str(100 + row)]["features"]["total"] for row in range(4)] == [30, 90, 180, 300]
    assert [made[str(100 + row)]["decision"] for row in range(4)] == [
        "approve",
        "approve",
        "decline",
        "decline",
    ]
    assert [made[str(100 + row)]["entity_keys"]["agence"] for row in range(4)] == [None, "3", "3", "3"]
    assert made["101"]["entity_keys"]["compte"] == "7000"
    assert made["101"]["event_time"] == "2026-03-05T10:01:00.000000Z"
    assert {record.key() for record in records} == {b"7000"}


def test_doctor_names_what_is_missing(tmp_path, kafka, redis_url, monkeypatch, capsys):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("REDIS_URL", redis_url)
    folder = tmp_path / "unmade"
    make_project(folder)
    assert run(["doctor", "--config", str(folder / "riskstream.toml")]) == 1
    said = capsys.readouterr().out
    assert "WRONG  topic unmade-alerts: there is no such topic" in said
    assert "riskstream doctor --create-topics N" in said
    assert "note   model of payments: none: rules alone decide" in said
    assert "4 to mend" in said


def test_doctor_tells_servers_that_do_not_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr("stream.kafka.client.brokers.TIMEOUT_S", 1.0)
    make_project(tmp_path / "p")
    assert run(["doctor", "--config", str(tmp_path / "p" / "riskstream.toml")]) == 1
    said = capsys.readouterr().out
    assert "WRONG  kafka: kafka.bootstrap_servers: no answer from 127.0.0.1:1" in said
    assert "WRONG  redis:" in said


def test_doctor_refuses_a_compacted_input(project, make_topic, capsys):
    name = make_topic(config={"cleanup.policy": "compact"})
    project.edit(project.topic("payments"), name, "definitions.py")
    capsys.readouterr()
    assert run(["doctor", "--config", str(project.file)]) == 1
    assert f"WRONG  topic {name}: cleanup.policy is compact" in capsys.readouterr().out


def test_doctor_tells_state_of_other_definitions(project, capsys):
    with project.worker() as worker:
        assert run(["emit", str(project.folder / "event.json"), "--config", str(project.file)]) == 0
        project.read("decisions", 1, worker)
        assert stopped(worker, signal.SIGINT) == 130
    capsys.readouterr()
    assert run(["doctor", "--config", str(project.file)]) == 0
    assert f"namespace {project.name} holds state of this plan" in capsys.readouterr().out
    project.edit('windows=("1h", "1d", "7d")', 'windows=("1h", "7d")', "definitions.py")
    assert run(["doctor", "--config", str(project.file)]) == 1
    said = capsys.readouterr().out
    assert f"WRONG  redis: namespace {project.name} holds state of plan" in said
    assert "name another redis.namespace" in said
