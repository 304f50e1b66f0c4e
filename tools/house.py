"""`make house`: the shape of the code as figures, with their limits (benchmarks/schemas/house.json).

    python -m tools.house              print the figures, write build/house.json; 1 when a limit does not hold
    python -m tools.house --list       also where each figure comes from, largest first
    python -m tools.house --at COMMIT  print the figures of a commit

Counted are the modules of the packages (`features`, `models`, `stream`, `riskstream`); tests, tools and benchmarks are
not. `__init__` modules count only for imports.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.harness import figures

PACKAGES = ("features", "models", "stream", "riskstream")
# Compiled, numeric: one long loop reads better there than ten functions that pass arrays.
KERNELS = "features/kernel/"
LONG = 30
RUN = 7
# Lines in repeated runs at 636e186, before the packages were laid out by subject: `--at 636e186` counts them again.
DUPLICATES_BEFORE = 52
CLIENTS = {"Consumer", "Producer", "AdminClient"}
# The demo speaks to librdkafka's mock cluster, which it starts itself; Faust has a client of its own.
NO_CLIENT_SITES = ("stream/demo/", "stream/faust/")


@dataclass(frozen=True)
class Entry:
    """One line of `--list`: how much, and where."""

    count: int
    where: str


class Tree:
    """The packages below a folder, parsed once."""

    def __init__(self, root: Path) -> None:
        paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
        self.texts = {str(path.relative_to(root)): path.read_text() for path in paths}
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}

    @cached_property
    def modules(self) -> dict[str, ast.Module]:
        """The modules that hold code, by path."""
        return {path: tree for path, tree in self.trees.items() if Path(path).name != "__init__.py"}

    def folders(self) -> list[Entry]:
        """Modules a folder."""
        counts = Counter(str(Path(path).parent) for path in self.modules)
        return _ranked(Entry(count, folder) for folder, count in counts.items())

    def files(self) -> list[Entry]:
        """Lines a file, kernels apart."""
        return _ranked(
            Entry(len(self.texts[path].splitlines()), path)
            for path in self.modules
            if not path.startswith(KERNELS)
        )

    def kernels(self) -> list[Entry]:
        """Lines a compiled file."""
        return _ranked(
            Entry(len(self.texts[path].splitlines()), path)
            for path in self.modules
            if path.startswith(KERNELS)
        )

    def long_functions(self) -> list[Entry]:
        """Functions of more than 30 lines, decorators apart, signature and docstring included."""
        functions = (
            Entry((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
            for path, node in self._nodes()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        return _ranked(entry for entry in functions if entry.count > LONG)

    def calls(self) -> list[Entry]:
        """Positional arguments a call."""
        return _ranked(
            Entry(len(node.args), f"{path}:{node.lineno}")
            for path, node in self._nodes()
            if isinstance(node, ast.Call) and node.args
        )

    def repeated_classes(self) -> list[Entry]:
        """Public classes whose name stands in more than one module."""
        homes: dict[str, list[str]] = defaultdict(list)
        for path, tree in self.modules.items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(path)
        return _ranked(
            Entry(len(paths), f"{name}: {', '.join(paths)}")
            for name, paths in homes.items()
            if len(paths) > 1
        )

    def client_sites(self) -> list[Entry]:
        """Places that construct a Kafka consumer, producer or admin client, or hand its class to what does."""
        return [
            Entry(1, f"{path}:{node.lineno}")
            for path, node in self._nodes()
            if isinstance(node, ast.Call)
            and not path.startswith(NO_CLIENT_SITES)
            and {_last_name(term) for term in (node.func, *node.args)}
            & CLIENTS
            & _kafka_names(self.trees[path])
        ]

    def import_cycles(self) -> list[Entry]:
        """Groups of modules that import each other in a circle, imports inside functions included."""
        graph = self._imports()
        reach = {name: _reachable(graph, name) for name in graph}
        circles = {
            frozenset(other for other in reach[name] if name in reach[other])
            for name in graph
            if name in reach[name]
        }
        return _ranked(Entry(len(circle), ", ".join(sorted(circle))) for circle in circles)

    def duplicate_lines(self) -> list[Entry]:
        """Lines of code in runs of over six that occur elsewhere in the tree too, by file.

        Compared without indentation; blank lines, comments, docstrings, imports and the lists of parameters that
        functions declare are left out: what takes the same arguments says so twice.
        """
        lines = {path: list(_code_lines(self.texts[path], tree)) for path, tree in self.modules.items()}
        runs: Counter[tuple[str, ...]] = Counter()
        for texts in lines.values():
            runs.update(tuple(texts[start : start + RUN]) for start in range(len(texts) - RUN + 1))
        return _ranked(Entry(_repeated(texts, runs), path) for path, texts in lines.items())

    def _nodes(self) -> Iterator[tuple[str, ast.AST]]:
        for path, tree in self.modules.items():
            yield from ((path, node) for node in ast.walk(tree))

    def _imports(self) -> dict[str, set[str]]:
        names = {
            path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in self.trees
        }
        return {name: set(_imported(self.trees[path])) & set(names) - {name} for name, path in names.items()}


def _ranked(entries: Iterator[Entry]) -> list[Entry]:
    return sorted((entry for entry in entries if entry.count), key=lambda entry: (-entry.count, entry.where))


def _last_name(function: ast.expr) -> str:
    return str(getattr(function, "attr", getattr(function, "id", "")))


def _kafka_names(tree: ast.Module) -> set[str]:
    """Names that a module takes from confluent_kafka; all client names when it imports the package itself."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "confluent_kafka":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import) and any(
            a.name.split(".")[0] == "confluent_kafka" for a in node.names
        ):
            names |= CLIENTS
    return names


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    pending = list(graph[start])
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending.extend(graph[name])
    return reached


def _code_lines(text: str, tree: ast.Module) -> Iterator[str]:
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
        ):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out.update(range(node.lineno, node.body[0].lineno))
    for number, line in enumerate(text.splitlines(), 1):
        code = line.strip()
        if code and not code.startswith("#") and number not in left_out:
            yield code


def _repeated(lines: list[str], runs: Counter[tuple[str, ...]]) -> int:
    repeated: set[int] = set()
    for start in range(len(lines) - RUN + 1):
        if runs[tuple(lines[start : start + RUN])] > 1:
            repeated.update(range(start, start + RUN))
    return len(repeated)


def listings(tree: Tree) -> dict[str, list[Entry]]:
    """Where each figure comes from."""
    return {
        "largest_folder": tree.folders(),
        "largest_file": tree.files(),
        "largest_kernel": tree.kernels(),
        "long_functions": tree.long_functions(),
        "import_cycles": tree.import_cycles(),
        "repeated_classes": tree.repeated_classes(),
        "widest_call": tree.calls(),
        "client_sites": tree.client_sites(),
        "duplicate_lines": tree.duplicate_lines(),
    }


def measured(tree: Tree) -> dict[str, Any]:
    """The figures of build/house.json."""
    found = listings(tree)
    largest = ("largest_folder", "largest_file", "largest_kernel", "widest_call")
    counted = ("long_functions", "import_cycles", "repeated_classes", "client_sites")
    duplicates = sum(entry.count for entry in found["duplicate_lines"])
    return {
        "modules": len(tree.modules),
        **{name: max((entry.count for entry in found[name]), default=0) for name in largest},
        **{name: len(found[name]) for name in counted},
        "duplicate_lines": {"before": DUPLICATES_BEFORE, "after": duplicates},
    }


def _at(commit: str) -> Tree:
    """The packages of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit], cwd=figures.ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        return Tree(Path(folder))


def main() -> int:
    """Print the figures; 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.house",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="where each figure comes from, twenty lines each")
    parser.add_argument("--at", metavar="COMMIT", help="count a commit instead; nothing is written")
    arguments = parser.parse_args()
    tree = _at(arguments.at) if arguments.at else Tree(figures.ROOT)
    if arguments.list:
        for name, entries in listings(tree).items():
            print(f"\n{name}")
            print("\n".join(f"  {entry.count:>5}  {entry.where}" for entry in entries[:20]))
        print()
    for name, value in measured(tree).items():
        print(f"{name:<20}{value}")
    return 0 if arguments.at else int(bool(figures.write("house", measured(tree))))


if __name__ == "__main__":
    sys.exit(main())
