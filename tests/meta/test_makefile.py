"""Every make target runs something that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Makefile").read_text()
MODULES = sorted(set(re.findall(r"\$\(PY\) -m (benchmarks[.\w]*|tests[.\w]*)", TEXT)))
FILES = sorted(set(re.findall(r"(?:\$\(PY\)|bash) ([\w./-]+\.(?:py|sh))", TEXT)))


@pytest.mark.parametrize("module", MODULES)
def test_module_exists(module):
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@pytest.mark.parametrize("file", FILES)
def test_file_exists(file):
    assert (ROOT / file).exists()


def test_phony_targets_are_all_there():
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
    assert phony is not None
    named = set(phony[1].replace("\\\n", " ").split())
    assert named == set(re.findall(r"^([a-z][a-z-]*):", TEXT, re.MULTILINE))


def test_ci_runs_check_unit_and_test():
    assert "make check unit test" in (ROOT / ".ci" / "run").read_text()
