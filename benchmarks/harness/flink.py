"""The Flink peer: built by Maven under build/peers/flink, one Java process with a local mini-cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.harness.contender import PEERS, Contender, Run
from benchmarks.job.build import ROOT

SOURCE = ROOT / "benchmarks" / "peers" / "flink"
BUILT = PEERS / "flink"
OPENS = ("java.base/java.lang=ALL-UNNAMED", "java.base/java.util=ALL-UNNAMED")


def ensure() -> None:
    """Compile the job and fetch its jars, unless that was done for the same sources."""
    if shutil.which("mvn") is None:
        raise SystemExit("Maven is not installed: apt-get install maven, or leave the Flink peer out")
    stamp = BUILT / "built.txt"
    wanted = "".join(path.read_text() for path in [SOURCE / "pom.xml", *sorted(SOURCE.rglob("*.java"))])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("building the Flink peer", flush=True)
    shutil.rmtree(BUILT, ignore_errors=True)
    shutil.copytree(SOURCE, BUILT)
    goals = ["package", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
    subprocess.run(["mvn", "-q", "-B", *goals], cwd=BUILT, check=True)
    stamp.write_text(wanted)


def versions() -> dict[str, str]:
    """Versions of the job's direct dependencies."""
    pom = (SOURCE / "pom.xml").read_text()
    flink = re.findall(r"<flink.version>(.*?)<", pom)[0]
    pairs = re.findall(r"<artifactId>([\w-]+)</artifactId>\s*<version>(.*?)<", pom)
    return {
        name: version.replace("${flink.version}", flink) for name, version in pairs if name != "flink-peer"
    }


def _command(run: Run) -> list[str]:
    (run.folder / "state").mkdir(exist_ok=True)
    opens = [f"--add-opens={module}" for module in OPENS]
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    classes = f"{BUILT / 'target' / 'classes'}:{Path(BUILT / 'libs')}/*"
    return ["java", "-Xmx1g", *opens, log, "-cp", classes, "riskstream.peer.Job"]


FLINK = Contender(
    name="flink",
    delivery="exactly_once",
    warm=60_000,
    events=300_000,
    command=_command,
    versions=versions,
)
