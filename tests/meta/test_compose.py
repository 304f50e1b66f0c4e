"""docker-compose.yml says the same as the code: images, topics, variables, commands, ports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from stream.cli.app import app
from stream.demo.bank import simulator
from stream.demo.run import ALL_TOPICS
from tests.servers.containers import KAFKA_IMAGE

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
SERVICE_KEYS = {
    "build", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image", "ports", "restart",
    "stop_grace_period", "volumes",
}  # fmt: skip
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def test_only_keys_that_compose_knows():
    assert set(COMPOSE) <= {"name", "services", "volumes", "x-riskstream"}
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert "image" in service or "build" in service


def test_dependencies_and_volumes_exist():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS, name
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other], (name, other)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"], (name, volume)


def test_tests_and_compose_run_the_same_broker():
    assert {SERVICES["kafka"]["image"], SERVICES["topics"]["image"]} == {KAFKA_IMAGE}


def test_topics_are_those_of_the_demo():
    script = SERVICES["topics"]["command"][0]
    created = re.search(r"for topic in ([^;]+);", script)
    assert created is not None
    assert set(created[1].split()) == set(ALL_TOPICS)


def test_variables_are_those_of_the_settings():
    text = (ROOT / "stream/demo/project/riskstream.toml").read_text()
    assert tomllib.loads(text)
    for name in ("project", "worker"):
        for variable in SERVICES[name]["environment"]:
            assert f"${{{variable}:-" in text, variable


def test_servers_are_named_with_the_ports_they_listen_on():
    environment = SERVICES["worker"]["environment"]
    host, _, port = environment["KAFKA_BOOTSTRAP_SERVERS"].partition(":")
    assert host in SERVICES
    assert f"PLAINTEXT://:{port}" in SERVICES[host]["environment"]["KAFKA_LISTENERS"]
    redis = re.fullmatch(r"redis://:\$\{REDIS_PASSWORD:-[^}]+\}@(\w+):(\d+)/0", environment["REDIS_URL"])
    assert redis is not None and redis[1] in SERVICES
    assert SERVICES[redis[1]]["ports"][0].endswith(f":{redis[2]}")


def test_redis_is_set_as_the_worker_demands():
    assert SERVICES["redis"]["command"][-1].endswith("--maxmemory-policy noeviction")


def test_redis_asks_for_the_password_that_the_others_give():
    redis = SERVICES["redis"]
    assert '--requirepass "$$REDISCLI_AUTH"' in redis["command"][-1]
    assert f":{redis['environment']['REDISCLI_AUTH']}@" in SERVICES["worker"]["environment"]["REDIS_URL"]


def test_ports_are_open_to_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_serves_without_training_libraries():
    extras = re.search(r"^ARG EXTRAS=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert extras is not None and extras[1] == "api"
    assert SERVICES["worker"]["build"]["args"]["EXTRAS"] == "api,demo"


def test_the_worker_command_exists():
    program, name, *options = SERVICES["worker"]["command"]
    group: Any = get_command(app)
    command = group.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert program == "riskstream"
    assert set(options[::2]) <= known


def test_the_simulator_takes_its_options():
    program, *options = SERVICES["simulator"]["command"][2:]
    given = simulator.parser().parse_args(options)
    assert program == "stream.demo.bank.simulator"
    assert given.bootstrap == SERVICES["worker"]["environment"]["KAFKA_BOOTSTRAP_SERVERS"]


def test_the_image_installs_what_it_copies():
    text = (ROOT / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
