"""riskstream itself as a contender: `riskstream worker` in a project made for the run."""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.harness.contender import Contender, Run
from benchmarks.harness.report import versions
from benchmarks.job.build import ROOT
from benchmarks.job.spec import FEATURES
from features.compile import compile_plan
from features.project import load_definitions
from models import bundle
from models.bundle import Contents
from models.manifest import Manifest

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
dead_letters = "{run.alert_topic}-dead"

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
[thresholds]
review = {threshold!r}
decline = 1.1
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
