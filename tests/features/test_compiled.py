"""Compiled code on disk is never older than its sources, also where one file's code is compiled into another's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from features.core import compiled

ROOT = Path(__file__).resolve().parents[2]
STEP = "from features.core.compiled import lean\n\n@lean\ndef step(x):\n    return x + {amount}\n"
TWICE = (
    "from features.core.compiled import lean\nfrom features.kernel.step import step\n\n"
    "@lean\ndef twice(x):\n    return step(step(x))\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two files of compiled functions, one calling the other, beside a copy of the module under test."""
    for folder in ("features/core", "features/kernel"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "features" / "__init__.py").touch()
    shutil.copy(ROOT / "features/core/compiled.py", tmp_path / "features/core")
    (tmp_path / "features/kernel/twice.py").write_text(TWICE)
    (tmp_path / "features/kernel/step.py").write_text(STEP.format(amount=1))
    return tmp_path


def run(tree: Path, *, cache: str = "") -> tuple[int, int]:
    """What the calling function gives in a new process, and how many functions came from the cache."""
    program = (
        "from features.kernel.twice import twice; print(twice(10), sum(twice.stats.cache_hits.values()))"
    )
    environment = os.environ | {"PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": cache, "HOME": str(tree)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    value, hits = done.stdout.split()
    return int(value), int(hits)


def test_an_edit_of_one_file_is_seen_by_functions_of_another(tree: Path) -> None:
    assert run(tree) == (12, 0)
    assert run(tree) == (12, 1)
    (tree / "features/kernel/step.py").write_text(STEP.format(amount=5))
    assert run(tree) == (20, 0)
    assert run(tree) == (20, 1)
    written = {path.name for path in (tree / "features/kernel/__pycache__").glob("*.nbc")}
    assert len(written) == 2, "old code is overwritten, not kept beside the new"


def test_a_cache_folder_that_cannot_be_written_costs_time_only(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "features/kernel/__pycache__").touch()
    (tree / ".cache").touch()
    assert run(tree, cache=str(tree / "file")) == (12, 0)


def test_sources_of_compiled_code_are_those_that_define_any_and_the_kernel() -> None:
    sources = {str(path.relative_to(ROOT)) for path in compiled.compiled_sources()}
    assert {
        "features/core/prefetch.py",
        "features/engine/keys.py",
        "models/formats/graph/forest.py",
    } <= sources
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "features/kernel").glob("*.py")} <= sources
