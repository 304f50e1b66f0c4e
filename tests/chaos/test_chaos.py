"""The promise of exactly once under every failure that the driver knows; and that the driver would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.telemetry.moments import POINTS
from tests.chaos.driver import Driver
from tests.servers.kafka_server import KafkaServer


@pytest.mark.timeout(900)
def test_twenty_kills_and_broken_servers_change_nothing(kafka_server: KafkaServer, tmp_path: Path) -> None:
    result = Driver(tmp_path, seed=20, kills=20, events=100_000).run()
    assert result.findings.failures == []
    assert result.kills >= 20
    assert set(result.points) == set(POINTS)
    assert result.findings.alerts > 10_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("broken", "faults", "noticed"),
    [
        # Once marks are written again, nothing is left that would say that rows were lost.
        ("mark_check", ("calm", "redis_empty", "calm", "random_kill"), "state_different"),
        ("transaction", ("point:before_send_offsets",), "duplicated"),
        ("muted_replay", ("point:after_commit",), "state_different"),
    ],
)
def test_the_driver_notices_a_rule_switched_off(
    broken: str, faults: tuple[str, ...], noticed: str, kafka_server: KafkaServer, tmp_path: Path
) -> None:
    result = Driver(tmp_path, seed=3, kills=1, events=4_000, broken=broken, only=faults).run()
    assert getattr(result.findings, noticed) > 0, result.findings
