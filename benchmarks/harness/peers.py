"""The peers of `make bench-peers`. Each is described in its own folder under benchmarks/peers/."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.harness import venvs
from benchmarks.harness.contender import Contender, Run
from benchmarks.job.build import ROOT


def _script(name: str, *arguments: str) -> Callable[[Run], list[str]]:
    path = ROOT / "benchmarks" / "peers" / name / "worker.py"
    return lambda _run: [str(venvs.python(name)), str(path), *arguments]


def _bytewax(run: Run) -> list[str]:
    """Bytewax keeps its recovery store in a folder that must be made beforehand."""
    recovery = run.folder / "state"
    python = str(venvs.python("bytewax"))
    recovery.mkdir()
    make = f"{python} -m bytewax.recovery {recovery} 1"
    start = f"exec {python} -m bytewax.run benchmarks.peers.bytewax.worker:flow -r {recovery} -s 5 -b 0"
    return ["/bin/sh", "-c", f"cd {ROOT} && {make} && {start}"]


def _peer(name: str, venv: str, delivery: str, warm: int, events: int, **options: object) -> Contender:
    command = options.pop("command", _script(venv))
    return Contender(
        name=name,
        delivery=delivery,
        warm=warm,
        events=events,
        command=command,  # type: ignore[arg-type]
        versions=partial(venvs.versions, venv),
        venv=venv,
        **options,  # type: ignore[arg-type]
    )


PEERS: tuple[Contender, ...] = (
    _peer("quix exactly_once", "quix", "exactly_once", 10_000, 50_000),
    _peer("quix at_least_once", "quix", "at_least_once", 10_000, 50_000),
    _peer("faust", "faust", "at_least_once", 2_000, 8_000, command=_script("faust", "worker", "-l", "warn")),
    _peer("bytewax", "bytewax", "at_least_once", 20_000, 100_000, command=_bytewax),
    _peer("plain onnx", "plain", "at_least_once", 10_000, 40_000),
    _peer("plain onnx packed", "plain", "at_least_once", 10_000, 40_000, runtime="onnx packed"),
    _peer("plain sklearn", "plain", "at_least_once", 500, 2_000, runtime="sklearn", latency_rate=40.0),
)
