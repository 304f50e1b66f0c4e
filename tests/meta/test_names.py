"""The words of the code (docs/glossary.md): a public class name stands once, and no private dialect comes back."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from benchmarks.harness import figures
from tools.house import Tree, measured

ROOT = Path(__file__).resolve().parents[2]
TREE = Tree(ROOT)
# Words of a private dialect, for which the field has words of its own.
FORBIDDEN = {
    "aside", "desk", "excuse", "gate", "lane", "letterbox", "mend", "ripe", "rota", "sheet", "sheets", "strays",
}  # fmt: skip
WORD = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])")


def names(tree: ast.Module) -> set[str]:
    """What a module defines: classes, functions, arguments, variables, attributes."""
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            defined.add(node.attr)
    return defined


def words(name: str) -> set[str]:
    return {word.lower() for word in WORD.split(name)}


def test_a_public_class_name_stands_once():
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in TREE.modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_names_are_words_of_the_field():
    wrong = {
        path: sorted(name for name in names(tree) if words(name) & FORBIDDEN)
        for path, tree in TREE.modules.items()
    }
    assert {path: bad for path, bad in wrong.items() if bad} == {}


def test_the_house_holds_its_limits():
    assert figures.violations("house", measured(TREE)) == []


def test_words_of_the_glossary_are_in_the_code():
    """The third column of the glossary names something that the code defines."""
    rows = re.findall(
        r"^\| [^|]+ \| .+ \| `([A-Za-z_]+)`.* \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 30
    defined = {name for tree in TREE.modules.values() for name in names(tree)}
    assert [word for word in rows if not any(word == n or word in words(n) for n in defined)] == []
