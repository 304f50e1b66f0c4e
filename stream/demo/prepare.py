"""Puts the demo's project into a directory and its profiles into Redis: `python -m stream.demo.prepare DIR`.

For docker-compose.yml, where the worker is a container of its own.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.console import Console

from stream.demo.processes import riskstream
from stream.demo.run import progress_bars
from stream.demo.training import prepare


def main() -> None:
    """Command line of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with progress_bars(Console()) as report:
        project = prepare(given.seed, report)
    shutil.copytree(project, given.directory, dirs_exist_ok=True)
    riskstream(["profiles", "load", "--config", str(given.directory / "riskstream.toml")], {})


if __name__ == "__main__":
    main()
