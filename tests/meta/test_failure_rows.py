"""Every row of docs/concepts/failure-scenarios.md has a test of its name, and the other way round."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "concepts" / "failure-scenarios.md"
TESTS = ROOT / "tests" / "integration" / "test_failure_scenarios.py"


def test_rows_and_tests_are_the_same():
    rows = re.findall(r"^\| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    titles = {row.strip() for row in rows} - {"failure"} - {row for row in rows if set(row) == {"-"}}
    tests = {
        node.name.removeprefix("test_").replace("_", " ")
        for node in ast.parse(TESTS.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert titles == tests
