"""The Faust face against the worker: the same events, the same alerts, compared by `alert_id`.

python -m benchmarks.faust_agrees [--events 50000] [--kills 3]

Both score one topic of the benchmark's job, each as a group of its own with its own Redis namespace; one event in
twenty alerts. The Faust app is killed by SIGKILL so often on its way, and started again. Writes
build/faust_agrees.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from benchmarks.harness.broker import Input, create_topic
from benchmarks.harness.contender import Run
from benchmarks.harness.riskstream import make_project
from benchmarks.harness.servers import servers
from benchmarks.job import build

COMPARED = ("decision", "score", "features", "reasons", "rules", "entity_keys", "source")
WAIT_S = 240.0
COMMAND = str(build.ROOT / ".venv" / "bin" / "riskstream")


@contextmanager
def running(face: str, file: Path, input_topic: str) -> Iterator[subprocess.Popen[bytes]]:
    with (file.parent / f"{face}.log").open("ab") as log:
        process = subprocess.Popen(
            [COMMAND, face, "--config", str(file)],
            cwd=build.ROOT,
            env={**os.environ, "BENCH_INPUT": input_topic},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def reader(bootstrap: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )


def committed(consumer: Consumer, topic: str) -> int:
    """The group's committed offset; -1 while the broker is still finding out who coordinates the group."""
    try:
        return int(consumer.committed([TopicPartition(topic, 0)], 10)[0].offset)
    except KafkaException as error:
        if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_COORDINATOR:
            raise
        return -1


def wait_for_offset(bootstrap: str, group: str, topic: str, offset: int, process: Any, log: Path) -> None:
    """Until the group has committed so many events."""
    consumer = reader(bootstrap, group)
    end = time.monotonic() + WAIT_S
    try:
        while committed(consumer, topic) < offset:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{group} did not come to {offset}: {log.read_text()[-3000:]}")
            time.sleep(0.2)
    finally:
        consumer.close()


def alerts(bootstrap: str, topic: str) -> tuple[dict[str, dict[str, Any]], int]:
    """Alerts by id, and how many messages there are."""
    consumer = reader(bootstrap, "look")
    place = TopicPartition(topic, 0, 0)
    _, high = consumer.get_watermark_offsets(place, 10)
    consumer.assign([place])
    found: dict[str, dict[str, Any]] = {}
    messages = 0
    quiet = 0
    while quiet < 4:
        batch = consumer.consume(10_000, 0.5)
        quiet = 0 if batch else quiet + 1
        for message in batch:
            alert = json.loads(message.value() or b"{}")
            found[alert["alert_id"]] = {name: alert[name] for name in COMPARED}
            messages += 1
            offset = message.offset()
            quiet = 0 if offset is not None and offset < high - 1 else quiet
    consumer.close()
    return found, messages


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--kafka")
    parser.add_argument("--redis")
    given = parser.parse_args()
    job = build.load()
    threshold = float(np.quantile(np.load(build.FOLDER / "scores.npz")["scores"][: given.events], 0.95))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    messages = {}
    with servers(given.kafka, given.redis) as using, tempfile.TemporaryDirectory() as name:
        topic = f"agrees-{os.getpid()}"
        create_topic(using.bootstrap, topic)
        Input(using.bootstrap, topic, job.events).write(0, given.events)
        for face in ("worker", "faust"):
            group = f"{topic}-{face}"
            folder = Path(name) / face
            folder.mkdir()
            create_topic(using.bootstrap, f"{group}-alerts")
            run = Run(
                bootstrap=using.bootstrap,
                redis_url=using.redis_url,
                input_topic=topic,
                alert_topic=f"{group}-alerts",
                group=group,
                threshold=threshold,
                model=job.folder,
                folder=folder,
                low_latency=False,
            )
            file = make_project(run, "exactly_once", 0) / "riskstream.toml"
            text = file.read_text().replace("[redis]\n", f'[redis]\nnamespace = "{group}"\n')
            file.write_text(re.sub(r"\[worker\]\n", "[worker]\nbatch_size = 2000\n", text))
            log = file.parent / f"{face}.log"
            for kill in range(given.kills if face == "faust" else 0):
                with running(face, file, topic) as process:
                    reached = given.events * (kill + 1) // (given.kills + 1)
                    wait_for_offset(using.bootstrap, group, topic, reached, process, log)
                    process.kill()
                    process.wait()
            with running(face, file, topic) as process:
                wait_for_offset(using.bootstrap, group, topic, given.events, process, log)
            found[face], messages[face] = alerts(using.bootstrap, f"{group}-alerts")
    ids = set(found["worker"]) | set(found["faust"])
    different = sum(found["worker"].get(one) != found["faust"].get(one) for one in ids)
    result = {
        "events": given.events,
        "alerts": len(found["worker"]),
        "different": different,
        "repeated_by_faust": messages["faust"] - len(found["faust"]),
        "kills": given.kills,
    }
    (build.ROOT / "build" / "faust_agrees.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    sys.exit(1 if different or not ids else 0)


if __name__ == "__main__":
    main()
