"""`riskstream state` beside real servers: show, verify, rebuild, drop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stream.cli.app import run
from tests.chaos import job
from tests.chaos.world import World


def test_state_is_shown_verified_rebuilt_and_dropped(
    kafka: str,
    redis_url: str,
    tmp_path: Path,
    make_topic: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = list(job.events(1_000, seed=2))
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        world.produce(sent)
        worker = world.start_thread()
        world.wait_until_flushed(len(sent), 60)
        config = ["--config", str(world.write_config(0))]
        lines = f"from tests.chaos.job import definitions as made\ndefinitions = made('{world.name}-')\n"
        (tmp_path / "definitions.py").write_text(lines)

        assert run(["state", "show", "card", "c1", *config]) == 0
        assert "tx[" in capsys.readouterr().out
        assert run(["state", "show", "card", "nobody", *config]) == 1
        assert run(["state", "show", "planet", "x", *config]) == 2
        capsys.readouterr()

        assert run(["state", "verify", *config]) == 0
        assert ", 0 problems" in capsys.readouterr().out

        assert run(["state", "rebuild", "--yes", *config]) == 0
        world.wait_until_flushed(len(sent), 60)
        assert world.compare(job.reference(sent)).failures == []

        worker.stop()
        assert run(["state", "drop", "--yes", *config]) == 0
        capsys.readouterr()
        assert run(["state", "verify", *config]) == 1
        assert "there is no state" in capsys.readouterr().out
