"""Compiles what the worker will call, in a process beside the training: `python -m stream.demo.compiling`.

Compiled code is cached on disk beside the sources, so only the first demo on a machine gains by it.
"""

from __future__ import annotations

from pathlib import Path

from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from features.engine.engine import FeatureEngine
from features.offline.merge import batches
from stream.demo.bank.days import history
from stream.demo.bank.world import Size, make_world

DEFINITIONS = Path(__file__).with_name("project") / "definitions.py"
SMALL = Size(cards=30, merchants=10, applicants=30, brokers=3)


def main() -> None:
    """Score a few events and encode their state."""
    plan = compile_plan(load_definitions(DEFINITIONS))
    recorded = history(make_world(1, SMALL), 5, 70)
    engine = FeatureEngine(plan)
    for batch in batches(plan, {name: frame.head(100).lazy() for name, frame in recorded.items()}):
        engine.run(engine.prepare(batch))
        engine.take_dirty()


if __name__ == "__main__":
    main()
