"""Two commits in turn: what an event costs this tree, and what it cost a commit, on the same servers and events.

    make bench AGAINST=<commit> [WITHIN=3] [PAIRS=10]
    python -m benchmarks.against <commit> [--pairs 10] [--within 3] [--delivery exactly_once]

Runs alternate (after, before, after, before, ...), each on 300,000 events of the common job with pinned seeds. A pair
gives one ratio of CPU per event, after over before; printed are the median of the ratios and the interval of at least
95 % for it (order statistics: no distribution is assumed). "Within x %" holds when the interval's lower end is at
most 1 + x / 100: ends with 1 otherwise. Writes build/bench_against.json.

The commit is unpacked under build/against/ and runs on this tree's libraries.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import figures, measure, report, riskstream
from benchmarks.harness.contender import Contender, Run
from benchmarks.harness.servers import servers
from benchmarks.job import build

ROOT = figures.ROOT
TREES = figures.BUILD / "against"
# Makes the project in the words of its own tree; the two modules have kept their names since the first round.
MAKE_PROJECT = """
import json, sys
from pathlib import Path
from benchmarks.harness import riskstream
from benchmarks.harness.contender import Run
given = json.loads(sys.argv[1])
run = Run(**given["run"] | {name: Path(given["run"][name]) for name in ("model", "folder")})
print(json.dumps(riskstream.command(run, given["delivery"])[1:]))
"""


def interval(ratios: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Two of the sorted values between which their population's median lies, with at least this confidence.

    The number of values below the median is binomial(n, 1/2). Fewer than six values cannot give 95 %.

    >>> interval([1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 1.0, 1.3, 0.7, 1.0])
    (0.8, 1.2)
    """
    ordered, n = sorted(ratios), len(ratios)
    outside, below = 0.0, 0
    while 2 * (outside + math.comb(n, below) / 2**n) <= 1 - confidence:
        outside += math.comb(n, below) / 2**n
        below += 1
    if not below:
        raise ValueError(f"{n} pairs are too few for an interval of {confidence:.0%}")
    return ordered[below - 1], ordered[n - below]


def unpacked(commit: str) -> Path:
    """The commit's tree under build/against/, unpacked once."""
    revision = ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"]
    sha = subprocess.run(revision, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    folder = TREES / sha[:12]
    if not folder.exists():
        archive = subprocess.run(["git", "archive", sha], cwd=ROOT, check=True, capture_output=True).stdout
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", str(unfinished)], input=archive, check=True)
        unfinished.rename(folder)
    return folder


def entry_point(pyproject: str) -> tuple[str, str]:
    """Module and function of the command `riskstream`."""
    module, _, function = tomllib.loads(pyproject)["project"]["scripts"]["riskstream"].partition(":")
    return module, function


def contender(tree: Path, name: str, delivery: str) -> Contender:
    """The worker of a tree, on this interpreter's libraries."""
    module, function = entry_point((tree / "pyproject.toml").read_text())
    main = f"from {module} import {function}; {function}()"
    # Without the safe path, `-c` looks into the current folder first: this tree, whatever PYTHONPATH says.
    environment = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0"}
    settings = [f"{key}={value}" for key, value in environment.items()]

    def command(run: Run) -> list[str]:
        given = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(run).items()}
        asked = json.dumps({"run": given, "delivery": delivery})
        done = subprocess.run(
            [sys.executable, "-c", MAKE_PROJECT, asked],
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        arguments = json.loads(done.stdout.splitlines()[-1])
        return ["env", *settings, sys.executable, "-c", main, *arguments]

    here = next(entry for entry in riskstream.RISKSTREAM if entry.delivery == delivery)
    return replace(here, name=name, command=command)


def compare(where: measure.Servers, job: build.Job, sides: Sequence[Contender], pairs: int) -> dict[str, Any]:
    """CPU per event of both sides, in turn; `sides` are after and before."""
    costs: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(1, pairs + 1):
        for side in sides:
            costs[side.name].append(measure.throughput(where, side, job).cpu_us_per_event)
        last = {name: values[-1] for name, values in costs.items()}
        ratio = last["after"] / last["before"]
        print(
            f"pair {number} of {pairs}: {last['after']:.2f} us, before {last['before']:.2f}: {ratio:.3f}",
            flush=True,
        )
    ratios = [after / before for after, before in zip(costs["after"], costs["before"], strict=True)]
    low, high = interval(ratios)
    return {
        "pairs": pairs,
        "cpu_us_per_event": costs,
        "ratios": ratios,
        "ratio": {"median": statistics.median(ratios), "low": low, "high": high},
    }


def main() -> int:
    """Measure, print, write; 1 when the limit does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("commit")
    parser.add_argument("--pairs", type=int, default=10, help="at least 6")
    parser.add_argument("--within", type=float, default=3.0, help="per cent that an event may cost more")
    parser.add_argument("--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once")
    arguments = parser.parse_args()
    job, tree = build.load(), unpacked(arguments.commit)
    sides = [contender(ROOT, "after", arguments.delivery), contender(tree, "before", arguments.delivery)]
    with servers(None, None) as where:
        found = compare(where, job, sides, arguments.pairs)
    ratio = found["ratio"]
    held = ratio["low"] <= 1 + arguments.within / 100
    machine = {"machine": report.machine(), "before": tree.name, "delivery": arguments.delivery}
    broken = figures.write(
        "bench_against", machine | found | {"within_percent": arguments.within, "held": held}
    )
    print(
        f"after / before: {ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] over {arguments.pairs} pairs;"
        f" within {arguments.within:g} %: {'yes' if held else 'no'}"
    )
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
