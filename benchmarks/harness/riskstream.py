"""riskstream itself as a contender: `riskstream worker` in a project made for the run."""

from __future__ import annotations

import json
import os
import shutil
import statistics
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.harness.broker import create_topic
from benchmarks.harness.contender import Contender, Run
from benchmarks.harness.report import versions
from benchmarks.job.build import ROOT
from benchmarks.job.spec import FEATURES
from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from models.bundles import bundle
from models.bundles.bundle import Contents
from models.bundles.registry import Registry
from models.core.manifest import Manifest

COMMAND = ROOT / ".venv" / "bin" / "riskstream"
DEFINITIONS = ROOT / "benchmarks" / "job" / "definitions.py"
GOLDEN_ROWS = 50

SETTINGS = """\
[project]
name = "bench"

[kafka]
bootstrap_servers = "{run.bootstrap}"
group_id = "{run.group}"

[redis]
url = "{run.redis_url}"

[topics]
alerts = "{run.alert_topic}"
dead_letters = "{run.alert_topic}-dead-{ordinal}"

[models]
registry = "registry"
routes = {{ transactions = "forest@champion" }}
allow_unsigned = ["forest"]

[worker]
delivery = "{delivery}"
ordinal = {ordinal}
log_interval_s = 2
"""

POLICY = """\
[sources.transactions]
review = {threshold!r}
"""


def contents(model: Path, plan: str) -> Contents:
    """The job's forest as a bundle's contents, with rows of the stream as golden rows."""
    stored = np.load(model / "scores.npz")
    rows = np.linspace(0, len(stored["matrix"]) - 1, GOLDEN_ROWS).astype(int)
    matrix = stored["matrix"][rows]
    baseline = np.median(stored["matrix"][:10_000], axis=0)
    manifest = Manifest(
        name="forest",
        version="1",
        algorithm="random_forest",
        source="transactions",
        plan=plan,
        numeric=FEATURES,
        categorical=(),
        baseline={name: float(value) for name, value in zip(FEATURES, baseline, strict=True)},
        files={},
        input="X",
        output="probabilities",
    )
    return Contents(
        manifest=manifest,
        model=(model / "model.onnx").read_bytes(),
        golden={name: matrix[:, place].tolist() for place, name in enumerate(FEATURES)},
        golden_scores=stored["scores"][rows].tolist(),
    )


def make_project(run: Run, delivery: str, ordinal: int) -> Path:
    """A project folder for one worker: settings, definitions, policy, registry with the forest."""
    folder = run.folder / f"project-{ordinal}"
    folder.mkdir()
    shutil.copy(DEFINITIONS, folder / "definitions.py")
    (folder / "policy.toml").write_text(POLICY.format(threshold=run.threshold))
    settings = SETTINGS.format(run=run, delivery=delivery, ordinal=ordinal)
    (folder / "riskstream.toml").write_text(settings)
    os.environ["BENCH_INPUT"] = run.input_topic
    plan = compile_plan(load_definitions(folder / "definitions.py"))
    registry = Registry(str(folder / "registry"))
    bundle.write(registry.path("forest", "1"), contents(run.model, plan.fingerprint))
    registry.promote("forest", "1", "champion")
    create_topic(run.bootstrap, f"{run.alert_topic}-dead-{ordinal}")
    return folder


def command(run: Run, delivery: str, ordinal: int = 0) -> list[str]:
    """The command line of one worker, its project made."""
    folder = make_project(run, delivery, ordinal)
    return [str(COMMAND), "worker", "--config", str(folder / "riskstream.toml")]


def _contender(delivery: str) -> Contender:
    return Contender(
        name=f"riskstream {delivery}",
        delivery=delivery,
        warm=60_000,
        events=300_000,
        command=lambda run: command(run, delivery),
        versions=lambda: {"riskstream": version("riskstream"), **versions()},
    )


RISKSTREAM: tuple[Contender, ...] = (_contender("exactly_once"), _contender("at_least_once"))


def commit_ms(log: Path) -> dict[str, float]:
    """What a worker's progress lines say of its commits: medians over the lines."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"event": "progress"' in line]
    busy = [line for line in lines if line["units"]]
    names = ("commit_ms_p50", "commit_ms_p99")
    return {name: statistics.median(line[name] for line in busy) for name in names}
