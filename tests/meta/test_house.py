"""The counters of `make house` count what they say."""

from __future__ import annotations

import pytest

from benchmarks.harness import figures
from tools.house import Tree, listings, measured

RUN = "\n".join(f"    total += step_{number}(x)" for number in range(7))
ONE = f"""
from confluent_kafka import Consumer


class Reader:
    pass


def first(x):
{RUN}
    return Consumer({{}}), call(1, 2, 3)
"""
TWO = f"""
import features.one


class Reader:
    pass


class _Reader:
    pass


def second(x):
{RUN}
"""
LONG = "def long():\n" + "".join(f"    step_{number}()\n" for number in range(30))


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    texts = {"__init__": '"""Said."""', "one": ONE + "\n\nimport features.two\n", "two": TWO, "long": LONG}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return Tree(tmp_path)


def test_figures(tree):
    assert measured(tree) == {
        "modules": 3,
        "largest_folder": 3,
        "largest_file": 31,
        "largest_kernel": 0,
        "widest_call": 3,
        "long_functions": 1,
        "import_cycles": 1,
        "repeated_classes": 1,
        "client_sites": 1,
        "duplicate_lines": {"before": 52, "after": 16},
    }


def test_listings_say_where(tree):
    where = {name: [entry.where for entry in entries] for name, entries in listings(tree).items()}
    assert where["long_functions"] == ["features/long.py:1 long"]
    assert where["import_cycles"] == ["features.one, features.two"]
    assert where["repeated_classes"] == ["Reader: features/one.py, features/two.py"]


def test_a_limit_that_does_not_hold_is_named(tree):
    broken = figures.violations("house", measured(tree))
    assert any(line.startswith("import_cycles: ") for line in broken)
    assert any(line.startswith("repeated_classes: ") for line in broken)


@pytest.mark.parametrize("schema", sorted(figures.SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_every_schema_says_what_its_figures_are(schema):
    """A schema is one that validates, and every figure of it has a description or a schema of its own."""
    assert figures.violations(schema.stem, {}) != []
