"""A project's definitions file is run, and told about where it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from features.core.errors import ConfigurationError, DefinitionError
from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["payments", "lending", "handbook"])
def test_the_examples_compile(name: str) -> None:
    plan = compile_plan(load_definitions(ROOT / "examples" / name / "definitions.py"))
    assert len(plan.readers) == 1
    assert any(group.label for group in plan.groups)


def test_a_project_may_import_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "project_fields.py").write_text(
        "from features.definitions.spec import Field\n"
        "FIELDS = (Field(name='id', dtype='string'), Field(name='at', dtype='timestamp'))\n"
    )
    file = tmp_path / "definitions.py"
    file.write_text(
        "from features.definitions.spec import Definitions, Source\n"
        "from project_fields import FIELDS\n"
        "source = Source(name='s', topic='s', event_id='id', event_time='at', fields=FIELDS)\n"
        "definitions = Definitions(sources=(source,))\n"
    )
    before = list(sys.path)
    assert load_definitions(file).sources[0].name == "s"
    assert sys.path == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "project_fields.py").write_text(
        (tmp_path / "project_fields.py").read_text().replace("'id'", "'uid'")
    )
    (other / "definitions.py").write_text(file.read_text().replace("'id'", "'uid'"))
    assert load_definitions(other / "definitions.py").sources[0].fields[0].name == "uid"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("import nothing_like_this\n", ":1", "ModuleNotFoundError"),
        ("x = 1\ny = (\n", ":2", "SyntaxError"),
        ("from features.definitions.spec import Field\n\nField(nam='x')\n", ":3", "unexpected keyword"),
        ("x = 1\n", "", "does not set `definitions"),
        ("definitions = {}\n", "", "is a `dict`"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, text: str, line: str, words: str) -> None:
    file = tmp_path / "definitions.py"
    file.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_definitions(file)
    assert caught.value.path == f"{file}{line}"
    assert words in caught.value.reason


def test_a_missing_file_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_definitions(tmp_path / "none.py")
