"""`make chaos KILLS=200`: kill workers at every point of the protocol, and compare with one calm pass.

Prints `N kills, 0 lost, 0 duplicated, 0 different` and writes build/chaos.json; ends with 1 when something is not 0.
The workers' settings and logs stay in build/chaos/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path

from tests.chaos.breaks import NAMES
from tests.chaos.driver import Driver, Result

OUT = Path(__file__).resolve().parents[1] / "build" / "chaos.json"
LOGS = OUT.with_suffix("")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broken", choices=NAMES, default="", help="switch a rule off: must report failures")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # so that the servers end too
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    driver = Driver(
        LOGS, seed=options.seed, kills=options.kills, events=options.events, broken=options.broken
    )
    result = driver.run(lambda line: print(line, flush=True))
    write(result, options.seed)
    return 1 if result.findings.failures else 0


def write(result: Result, seed: int) -> None:
    """Figures to build/chaos.json and the last line."""
    found = dataclasses.asdict(result.findings)
    examples = found.pop("examples")
    figures = dataclasses.asdict(result) | found | {"seed": seed}
    figures.pop("findings")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    for example in examples:
        print(example)
    print(f"points: {result.points}")
    print(f"faults: {result.faults}; {result.events} events, {found['alerts']} alerts, {result.seconds} s")
    print(
        f"{result.kills} kills, {found['lost']} lost, {found['duplicated']} duplicated, "
        f"{found['different'] + found['state_different'] + found['unexplained']} different"
    )


if __name__ == "__main__":
    sys.exit(main())
