"""The front door: what it gives, how quickly, and what it says when other packages stand in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import riskstream
from riskstream.shadows import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, cwd: Path = ROOT, path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", riskstream.__all__)
def test_every_name_is_given(name):
    assert getattr(riskstream, name)


def test_every_class_that_a_definition_may_hold_is_given():
    from features.definitions import spec

    own = (
        value
        for value in vars(spec).values()
        if isinstance(value, type) and value.__module__ == spec.__name__
    )
    classes = {value.__name__ for value in own}
    assert classes <= set(riskstream.__all__)


def test_other_names_are_an_error_that_says_which_there_are():
    with pytest.raises(AttributeError, match="it has Aggregation, "):
        _ = riskstream.Spurce


def test_importing_it_loads_nothing():
    code = "import riskstream, sys; print({'features', 'models', 'stream', 'numba', 'polars'} & set(sys.modules))"
    assert run("-c", code).stdout.strip() == "set()"


def test_the_version():
    assert riskstream.__version__ == version("riskstream")
    done = run("-m", "riskstream", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"riskstream {version('riskstream')}")


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("where", ["PYTHONPATH", "current directory"])
def test_a_package_of_the_user_in_the_way_is_one_line(tmp_path, name, where):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    on_path = where == "PYTHONPATH"
    path = f"{tmp_path}{os.pathsep}{ROOT}" if on_path else str(ROOT)
    done = run("-m", "riskstream", "--help", cwd=ROOT.parent if on_path else tmp_path, path=path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"`import {name}` finds {tmp_path / name}" in done.stderr


@pytest.mark.parametrize("name", ["models", "features"])
def test_a_folder_of_data_with_such_a_name_is_in_nobodys_way(tmp_path, name):
    (tmp_path / name / "fraud").mkdir(parents=True)
    assert run("-m", "riskstream", "--help", cwd=tmp_path).returncode == 0


def test_a_package_that_another_distribution_overwrote_is_one_line(tmp_path):
    for name in ("riskstream", *PACKAGES):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stream" / "__init__.py").write_text("from .stream import Stream\n")
    done = run("-m", "riskstream", "worker", cwd=tmp_path, path=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'stream' / '__init__.py'} was overwritten by" in done.stderr
