"""`riskstream demo`, from nothing to the summary: every event has a fate, and most alerts are right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "riskstream"]


def run(cache: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "demo", *options],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_json_summary(demo_cache, demo_seed):
    done = run(demo_cache, "--seconds", "12", "--rate", "500", "--seed", str(demo_seed), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert summary["produced"] > 1000
    assert summary["produced"] == summary["scored"] + summary["dead_lettered"]
    assert summary["dead_lettered"] > 0
    assert summary["alerts"] > 0
    assert summary["precision"] > 0.5
    assert summary["recall"] > 0.3
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert summary["loans"]["events"] > 0


def test_alerts_and_summary_in_words(demo_cache, demo_seed):
    done = run(demo_cache, "--seconds", "6", "--rate", "300", "--seed", str(demo_seed))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "card-" in done.stdout
    assert "decline" in done.stdout or "review" in done.stdout
    assert "what the topics say" in done.stdout
    assert "precision" in done.stdout
    assert "riskstream init" in done.stdout
