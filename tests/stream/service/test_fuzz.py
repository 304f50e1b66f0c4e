"""Whatever is sent: no 5xx, nothing of it in the log, no memory kept."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from features.kernel.row_format import STATE_FORMAT
from features.store.base import StateManifest
from stream.project import build
from stream.settings.config import Config
from tests.stream.service.fuzzing import MARK, Connection, Fuzzer
from tests.stream.service.service_under_test import SETTINGS, process

GROWTH_LIMIT = 16 << 20
PROBLEM = re.compile(rb"\r\ncontent-type: application/problem\+json", re.IGNORECASE)
FROM_THE_SERVER = b"Invalid HTTP request received."


def open_state(config: Config) -> None:
    """The namespace as a worker leaves it that has seen no event."""
    store = build.make_store(config)
    plan = build.make_plan(config)
    store.open(StateManifest(plan.fingerprint, STATE_FORMAT, config.worker.shards, "served", "", ()))
    store.close()


def resident(process: subprocess.Popen[bytes]) -> int:
    """Bytes of memory in use."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096


def fuzz(folder: Path, redis_url: str, count: int, seed: int) -> Counter[int]:
    """Statuses of so many requests; asserts what must hold of each answer, of the log and of memory."""
    statuses: Counter[int] = Counter()
    settings = SETTINGS.replace("memory://", redis_url)
    with process(folder, settings, open_state) as (port, server, tokens):
        connection = Connection(port)
        before = 0
        for number, message in enumerate(Fuzzer(seed, tokens).requests(count)):
            status, answer = connection.ask(message)
            assert status < 500, (message[:3000], answer[:1000])
            assert b"Traceback" not in answer
            assert status < 400 or PROBLEM.search(answer) or FROM_THE_SERVER in answer, (message, answer)
            statuses[status] += 1
            if number == count // 5:
                before = resident(server)
        grown = resident(server) - before
        connection.close()
    log = (folder / "service.log").read_bytes()
    assert b"admin call" in log, "the log was not written where it is looked for"
    assert re.findall(MARK, log) == []
    # A token is prefix_id_secret, and a secret may hold underscores of its own.
    assert [name for name, token in tokens.items() if token.split("_", 2)[2].encode() in log] == []
    assert grown < GROWTH_LIMIT, f"{grown / 2**20:.1f} MiB more than after {count // 5} requests"
    return statuses


def test_whatever_is_asked_is_answered_and_leaves_no_trace(tmp_path: Path, redis_url: str) -> None:
    statuses = fuzz(tmp_path, redis_url, 2_000, seed=1)
    assert statuses[200] > 300
    assert set(statuses) >= {400, 401, 403, 404, 405, 422}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_requests(tmp_path: Path, redis_url: str) -> None:
    statuses = fuzz(tmp_path, redis_url, 100_000, seed=2)
    print(dict(sorted(statuses.items())))
    assert sum(statuses.values()) == 100_000
