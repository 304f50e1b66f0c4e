"""Single-row scoring over HTTP under a fixed load, beside MLServer and a plain FastAPI and scikit-learn service.

python -m benchmarks.http [--seconds 20] [--rate 510]

The same forest of 100 trees, the same row, the same load (`hey`, from Debian), one server at a time on one
core, the load on the other: ten connections that ask at the same moment, so a burst of ten each 20 ms. riskstream's
answer includes the policy's decision, the others' are scores. Writes build/bench_http.json; `peer` is MLServer, or
the plain service where MLServer cannot be installed.
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
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import venvs
from benchmarks.harness.latency import percentiles
from benchmarks.harness.report import machine, table
from benchmarks.harness.riskstream import contents
from benchmarks.job import build
from benchmarks.job.spec import FEATURES
from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from models.bundles import bundle
from models.bundles.registry import Registry
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
    load_average: float


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


def row() -> list[float]:
    """One row that does not alert: most do not."""
    stored = np.load(build.FOLDER / "scores.npz")
    place = int(np.argsort(stored["scores"])[len(stored["scores"]) // 2])
    return [float(value) for value in stored["matrix"][place]]


@dataclass(frozen=True)
class Contender:
    """A server, what it is asked, and where its score is in the answer."""

    name: str
    command: list[str]
    port: int
    path: str
    ready: str
    body: dict[str, Any]
    score: Callable[[Any], float]


def riskstream(folder: Path, job: build.Job, values: list[float]) -> Contender:
    """The service of this repository."""
    port = free_port()
    file = make_project(folder, job)
    serve = [str(build.ROOT / ".venv/bin/riskstream"), "api", "--config", str(file), "--insecure"]
    return Contender(
        name="riskstream",
        command=[*serve, "--port", str(port)],
        port=port,
        path="/predict",
        ready="/healthz",
        body={"rows": [dict(zip(FEATURES, values, strict=True))]},
        score=lambda answer: answer["predictions"][0]["score"],
    )


def plain(values: list[float]) -> Contender:
    """FastAPI around scikit-learn."""
    port = free_port()
    return Contender(
        name="FastAPI and scikit-learn",
        command=[sys.executable, "-m", "benchmarks.http_peer", str(port)],
        port=port,
        path="/predict",
        ready="/healthz",
        body={"rows": [dict(zip(FEATURES, values, strict=True))]},
        score=lambda answer: answer["predictions"][0]["score"],
    )


def mlserver(folder: Path, values: list[float]) -> Contender | None:
    """MLServer with its scikit-learn runtime, in one process; None where it cannot be installed."""
    try:
        venvs.ensure("mlserver")
    except subprocess.CalledProcessError as error:
        print(f"MLServer cannot be installed here: {error}")
        return None
    port = free_port()
    script = build.ROOT / "benchmarks/peers/mlserver/make_project.py"
    made = [
        str(venvs.python("mlserver")),
        str(script),
        str(build.FOLDER / "model.skops"),
        str(folder),
        str(port),
    ]
    subprocess.run(made, check=True)
    tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    return Contender(
        name=f"MLServer {venvs.versions('mlserver')['mlserver']}",
        command=[str(venvs.python("mlserver").with_name("mlserver")), "start", str(folder)],
        port=port,
        path="/v2/models/forest/infer",
        ready="/v2/models/forest/ready",
        body={"inputs": [tensor], "outputs": [{"name": "predict_proba"}]},
        score=lambda answer: answer["outputs"][0]["data"][1],
    )


@contextmanager
def server(one: Contender, folder: Path) -> Iterator[int]:
    """The server on the first core; its process id."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log_file = folder / "server.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            ["taskset", "-c", "0", *one.command], cwd=build.ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{one.port}{one.ready}", timeout=1)
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(log_file.read_text()[-3000:]) from None
                time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(one: Contender, payload: Path, seconds: float, rate: float) -> list[tuple[float, int]]:
    """Latency in ms and status of each request, as hey saw them."""
    command = ["taskset", "-c", "1", "hey", "-z", f"{seconds:g}s", "-c", str(CONNECTIONS)]
    command += ["-q", f"{rate / CONNECTIONS:g}", "-m", "POST", "-T", "application/json", "-D", str(payload)]
    command += ["-o", "csv", f"http://127.0.0.1:{one.port}{one.path}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = csv.DictReader(done.stdout.splitlines())
    return [(float(row["response-time"]) * 1000, int(row["status-code"])) for row in rows]


def ask(one: Contender, payload: Path) -> float:
    """The score of the row, asked once."""
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{one.port}{one.path}"
    with urllib.request.urlopen(urllib.request.Request(url, payload.read_bytes(), headers)) as answer:
        return one.score(json.load(answer))


def measure(one: Contender, folder: Path, seconds: float, rate: float) -> tuple[Measured, float]:
    """Figures under the load, and the score that the server gives the row."""
    payload = folder / "body.json"
    payload.write_text(json.dumps(one.body))
    with server(one, folder) as process:
        score = ask(one, payload)
        load(one, payload, WARM_SECONDS, rate)
        before, begun = cpu_seconds(process), time.monotonic()
        answers = load(one, payload, seconds, rate)
        took, spent = time.monotonic() - begun, cpu_seconds(process) - before
    figures = percentiles(latency for latency, _ in answers)
    return Measured(
        rate=round(len(answers) / took, 1),
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
        errors=sum(status != 200 for _, status in answers),
        cpu_us_per_request=round(spent / len(answers) * 1e6, 1),
        load_average=os.getloadavg()[0],
    ), score


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=510)
    given = parser.parse_args()
    job, values = build.load(), row()
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contenders = [riskstream(folder, job, values), mlserver(folder, values), plain(values)]
        expected = None
        for one in contenders:
            if one is not None:
                measured[one.name], score = measure(one, folder, given.seconds, given.rate)
                expected = score if expected is None else expected
                if abs(score - expected) > 1e-5:
                    raise SystemExit(f"{one.name} gives {score}, riskstream {expected}: not the same model")
    write(measured, given.rate, given.seconds)


def write(measured: dict[str, Measured], rate: float, seconds: float) -> None:
    """The JSON file and the table; the first is riskstream, the second the peer."""
    (_, own), (peer_name, peer), *more = measured.items()
    result = {
        **asdict(own),
        "peer": {"name": peer_name, **asdict(peer)},
        "cpu_ratio_to_peer": round(own.cpu_us_per_request / peer.cpu_us_per_request, 3),
        "others": [{"name": name, **asdict(one)} for name, one in more],
        "asked_rate": rate,
        "seconds": seconds,
        "machine": machine(),
    }
    (build.ROOT / "build" / "bench_http.json").write_text(json.dumps(result, indent=1))
    rows = [[name, *asdict(one).values()] for name, one in measured.items()]
    print(table(["server", "req/s", "p50 ms", "p99 ms", "errors", "CPU us/request", "load average"], rows))


if __name__ == "__main__":
    main()
