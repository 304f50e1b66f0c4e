"""A project with the small forest, its service on a free port, and keys of every kind."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from models.bundles import bundle
from models.bundles.registry import Registry
from stream.service.access.keys import KeyFile
from stream.service.serving import make_app
from stream.settings.config import Config, load
from tests.models import small
from tests.servers.process import free_port, wait_until

SETTINGS = """
[project]
name = "served"
[redis]
url = "memory://"
[models]
registry = "registry"
routes = { payments = "fraud@champion" }
allow_unsigned = ["fraud"]
[api]
max_body_bytes = 2000000
rate_per_second = 100000
burst = 100000
"""
EVENT = {"id": "e1", "time": 1_000_000, "card": "c1", "amount": 3.0, "age": 30.0, "channel": "web"}


def make_project(folder: Path, settings: str = SETTINGS) -> Path:
    """The settings file of a new project; state is in memory, so always empty."""
    (folder / "definitions.py").write_text("from tests.models.small import DEFINITIONS as definitions\n")
    (folder / "policy.toml").write_text("[sources.payments]\nreview = 0.5\n")
    (folder / "riskstream.toml").write_text(settings)
    registry = Registry(str(folder / "registry"))
    for version in ("1", "2"):
        bundle.write(registry.path("fraud", version), small.contents(version=version))
    registry.promote("fraud", "1")
    return folder / "riskstream.toml"


@dataclass(frozen=True)
class Running:
    """A service that answers at `url`; `tokens` by scope, and `expired`, `revoked`."""

    url: str
    folder: Path
    tokens: dict[str, str]

    def client(self, token: str | None = "all") -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {self.tokens.get(token, token)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The application under uvicorn, in a thread."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, 60, "the service to start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def make_keys(folder: Path) -> dict[str, str]:
    keys = KeyFile(folder / "api_keys.json")
    now = datetime.now(UTC)
    tokens = {scope: keys.create([scope], now=now)[1] for scope in ("score", "read", "admin")}
    tokens["all"] = keys.create(["score", "read", "admin"], now=now)[1]
    day = timedelta(days=1)
    tokens["expired"] = keys.create(["score", "read"], now=now - 2 * day, expires=now - day)[1]
    key, tokens["revoked"] = keys.create(["score", "read"], now=now)
    keys.revoke(key.id)
    return tokens


@contextmanager
def running(folder: Path, settings: str = SETTINGS) -> Iterator[Running]:
    file = make_project(folder, settings)
    tokens = make_keys(folder)
    config = load(file)
    with serving(make_app(config, config.api, insecure=False)) as url:
        yield Running(url, folder, tokens)


@contextmanager
def process(
    folder: Path, settings: str, prepare: Callable[[Config], None] = lambda _: None
) -> Iterator[tuple[int, subprocess.Popen[bytes], dict[str, str]]]:
    """`riskstream api` as a process of its own: port, process, keys. It logs to service.log."""
    file = make_project(folder, settings)
    tokens = make_keys(folder)
    prepare(load(file))
    port = free_port()
    command = [sys.executable, "-m", "riskstream", "api", "--config", str(file)]
    with (folder / "service.log").open("wb") as log:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), 120, "the service to start")
        yield port, server, tokens
    finally:
        server.terminate()
        server.wait(30)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
