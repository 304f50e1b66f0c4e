"""A worker of the chaos job as a process: `python -m tests.chaos.worker_process CONFIG`.

`CHAOS_BREAK` switches a rule of the protocol off, to show that the driver notices: that is why it is here and not in
the product.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the imports below take a second or two

from features.core.errors import FencedError, RiskstreamError
from features.store.redis_store import RedisStore
from stream.kafka.worker.wiring import connect
from stream.kafka.worker.worker import Worker
from stream.project.build import make_store
from stream.settings.config import load
from stream.telemetry import logs
from tests.chaos import breaks, job


def main(path: Path) -> int:
    """Work until SIGTERM."""
    logs.configure("info")
    breaks.apply(os.environ.get("CHAOS_BREAK", ""))
    config = load(path)
    store = make_store(config)
    assert isinstance(store, RedisStore)
    prefix = os.environ["CHAOS_TOPICS"] + "-"
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with connect(config, job.scorer(prefix), store, job.decoders(prefix)) as clients:
            Worker(clients, stop).run()
    except FencedError as error:
        sys.stderr.write(f"fenced: {error}\n")
        return 3
    except RiskstreamError as error:
        sys.stderr.write(f"stopped: {error}\n")
        return 2
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
