"""Files and folders keep the sizes that read well."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "models", "stream")
KERNELS = {
    "features/kernel/row_codec.py",
    "features/kernel/windows.py",
}  # compiled, numeric: one long function reads better than ten that pass arrays
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def lengths_of_functions() -> list[int]:
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_files_are_short():
    counts = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert statistics.median(counts.values()) <= 150
    long = {path: count for path, count in counts.items() if count > 300 and path not in KERNELS}
    assert len(long) <= len(counts) * 0.05, long
    assert max(long.values(), default=0) <= 500, long


def test_functions_are_short():
    counts = lengths_of_functions()
    assert statistics.median(counts) <= 12
    assert sum(count > 30 for count in counts) <= len(counts) * 0.05


def test_every_module_says_what_it_is():
    silent = [str(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
