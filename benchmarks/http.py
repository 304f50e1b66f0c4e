"""Single-row scoring over HTTP under a fixed load, beside a plain FastAPI and scikit-learn service.

python -m benchmarks.http [--seconds 20] [--rate 500]

The same forest of 100 trees, the same rows, the same load (`hey`, from Debian), one server at a time on one
core, the load on the other. Writes build/bench_http.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.latency import percentiles
from benchmarks.harness.report import machine, table
from benchmarks.harness.riskstream import contents
from benchmarks.job import build
from benchmarks.job.spec import FEATURES
from features.compile import compile_plan
from features.project import load_definitions
from models import bundle
from models.registry import Registry
from tests.servers.process import free_port

CONNECTIONS = 10
WARM_SECONDS = 4
SETTINGS = """\
[project]
name = "bench-http"
[redis]
url = "memory://"
[models]
registry = "registry"
routes = { transactions = "forest@champion" }
allow_unsigned = ["forest"]
[api]
rate_per_second = 1e6
burst = 1000000
"""


@dataclass(frozen=True)
class Measured:
    """One server under the load."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us_per_request: float


def make_project(folder: Path, job: build.Job) -> Path:
    """The benchmark's forest as a riskstream project without state."""
    shutil.copy(build.ROOT / "benchmarks" / "job" / "definitions.py", folder / "definitions.py")
    (folder / "policy.toml").write_text(f"[sources.transactions]\nreview = {job.threshold!r}\n")
    (folder / "riskstream.toml").write_text(SETTINGS)
    plan = compile_plan(load_definitions(folder / "definitions.py"))
    registry = Registry(str(folder / "registry"))
    bundle.write(registry.path("forest", "1"), contents(job.folder, plan.fingerprint))
    registry.promote("forest", "1", "champion")
    return folder / "riskstream.toml"


def body() -> bytes:
    """One row that does not alert: most do not."""
    stored = np.load(build.FOLDER / "scores.npz")
    row = stored["matrix"][int(np.argsort(stored["scores"])[len(stored["scores"]) // 2])]
    return json.dumps({"rows": [dict(zip(FEATURES, map(float, row), strict=True))]}).encode()


@contextmanager
def server(command: list[str], port: int, folder: Path) -> Iterator[int]:
    """A server on the first core; its process id."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command], cwd=build.ROOT, env=environment, stderr=log
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
                break
            except (urllib.error.URLError, TimeoutError):
                if process.poll() is not None:
                    raise SystemExit((folder / "server.log").read_text()) from None
                time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, payload: Path, seconds: float, rate: float) -> list[tuple[float, int]]:
    """Latency in ms and status of each request, as hey saw them."""
    command = ["taskset", "-c", "1", "hey", "-z", f"{seconds:g}s", "-c", str(CONNECTIONS)]
    command += ["-q", f"{rate / CONNECTIONS:g}", "-m", "POST", "-T", "application/json", "-D", str(payload)]
    command += ["-o", "csv", f"http://127.0.0.1:{port}/predict"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = csv.DictReader(done.stdout.splitlines())
    return [(float(row["response-time"]) * 1000, int(row["status-code"])) for row in rows]


def measure(command: list[str], port: int, folder: Path, seconds: float, rate: float) -> Measured:
    payload = folder / "body.json"
    payload.write_bytes(body())
    with server(command, port, folder) as process:
        load(port, payload, WARM_SECONDS, rate)
        before, begun = cpu_seconds(process), time.monotonic()
        answers = load(port, payload, seconds, rate)
        took, spent = time.monotonic() - begun, cpu_seconds(process) - before
    figures = percentiles(latency for latency, _ in answers)
    return Measured(
        rate=round(len(answers) / took, 1),
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
        errors=sum(status != 200 for _, status in answers),
        cpu_us_per_request=round(spent / len(answers) * 1e6, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=500)
    given = parser.parse_args()
    if shutil.which("hey") is None:
        raise SystemExit("hey is not installed: apt-get install hey")
    job = build.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = make_project(folder, job)
        port = free_port()
        serve = [str(build.ROOT / ".venv/bin/riskstream"), "api", "--config", str(file), "--insecure"]
        own = measure([*serve, "--port", str(port)], port, folder, given.seconds, given.rate)
        port = free_port()
        plain = [sys.executable, "-m", "benchmarks.http_peer", str(port)]
        peer = measure(plain, port, folder, given.seconds, given.rate)
    ratio = own.cpu_us_per_request / peer.cpu_us_per_request
    result = {
        **asdict(own),
        "peer": {"name": "FastAPI and scikit-learn", **asdict(peer)},
        "cpu_ratio_to_peer": round(ratio, 3),
        "asked_rate": given.rate,
        "seconds": given.seconds,
        "machine": machine(),
    }
    (build.ROOT / "build" / "bench_http.json").write_text(json.dumps(result, indent=1))
    rows = [[who, *asdict(one).values()] for who, one in (("riskstream", own), ("plain service", peer))]
    print(table(["server", "req/s", "p50 ms", "p99 ms", "errors", "CPU us/request"], rows))


if __name__ == "__main__":
    main()
