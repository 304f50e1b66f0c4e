"""Apache Kafka's jars from Maven, fetched once into a cache that all clones share.

`python -m tests.servers.kafka_jars` fetches them and prints where they are.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

POM = Path(__file__).with_name("kafka_pom.xml")


class ServerMissing(Exception):
    """A server, or what it needs, is not on this machine; says what to install."""


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/riskstream`, in the home directory by default."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "riskstream"


def kafka_jars() -> Path:
    """The folder with the jars; fetches them when they are not there (40 MB, about ten seconds)."""
    folder = cache_dir() / "kafka-4.0.0"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _fetch(folder)
    return folder / "jars"


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise ServerMissing("Maven is not installed: apt-get install maven")
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    done = subprocess.run(
        [*command, f"-DoutputDirectory={folder / 'jars'}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ServerMissing(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr)[-2000:]}")
    (folder / "complete").touch()


if __name__ == "__main__":
    print(kafka_jars())
