"""One virtual environment a peer, under build/peers/, made from benchmarks/peers/NAME/requirements.txt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.harness.contender import PEERS
from benchmarks.job.build import ROOT


def requirements(name: str) -> Path:
    """The peer's pins."""
    return ROOT / "benchmarks" / "peers" / name / "requirements.txt"


def python(name: str) -> Path:
    """The peer's interpreter."""
    return PEERS / name / "bin" / "python"


def ensure(name: str) -> None:
    """Make the environment unless it is there with the same pins."""
    stamp = PEERS / name / "requirements.txt"
    wanted = requirements(name).read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"making the virtual environment of {name}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEERS / name)], check=True)
    install = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", str(requirements(name))], check=True)
    stamp.write_text(wanted)


def versions(name: str) -> dict[str, str]:
    """The pins as a mapping."""
    lines = [line.strip() for line in requirements(name).read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)
