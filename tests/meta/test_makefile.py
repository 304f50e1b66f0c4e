"""Every make target runs something that is there."""

from __future__ import annotations

import ast
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


# What every Debian has, or what a checkout cannot be without.
BASE = {"bash", "env", "git", "rm", "tar", "taskset"}
INSTALL = (ROOT / "tests" / "servers" / "install.sh").read_text()
STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.check_output", "shutil.which"}


def programs(path: Path) -> set[str]:
    """Programs that a file starts or looks for by name: the first words of its commands."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        command: ast.AST | None = None
        if isinstance(node, ast.Call) and node.args:
            command = node.args[0] if ast.unparse(node.func) in STARTERS else None
        elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "command" for t in node.targets):
            command = node.value
        elif isinstance(node, ast.Return):
            command = node.value if isinstance(node.value, ast.List) else None
        if isinstance(command, ast.List) and command.elts:
            # taskset -c CORES PROGRAM
            first = command.elts[0]
            pinned = isinstance(first, ast.Constant) and first.value == "taskset"
            command = command.elts[3 if pinned else 0]
        if isinstance(command, ast.Constant) and isinstance(command.value, str):
            named.add(command.value)
    return {name for name in named if re.fullmatch(r"[a-z][a-z0-9-]*", name)}


def test_what_targets_start_is_installed_by_a_target():
    """Nobody is asked to install a program: one of Debian's comes from tests/servers/install.sh."""
    installed = set(re.findall(r"^    \[([\w-]+)\]=", INSTALL, re.MULTILINE))
    folders = ("benchmarks", "tests/servers", "tests/chaos", "tools")
    started = {name: path for f in folders for path in (ROOT / f).rglob("*.py") for name in programs(path)}
    assert {"hey", "mvn", "java", "redis-server"} <= started.keys()
    assert {name: path for name, path in started.items() if name not in installed | BASE} == {}


def test_what_only_some_targets_start_is_asked_for_by_them():
    assert re.search(r"^bench-http:.*\n\tbash tests/servers/install.sh hey$", TEXT, re.MULTILINE)
    assert re.search(r"^bench-peers:.*\n\tbash tests/servers/install.sh javac$", TEXT, re.MULTILINE)


def test_ci_runs_check_unit_and_test():
    assert "make check unit test" in (ROOT / ".ci" / "run").read_text()
