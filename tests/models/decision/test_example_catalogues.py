"""The example projects' catalogues speak of features that there are."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from models.decision.policy import load_policy

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(("name", "source"), [("payments", "transactions"), ("lending", "applications")])
def test_every_entry_fits_a_feature(name, source):
    plan = compile_plan(load_definitions(EXAMPLES / name / "definitions.py"))
    columns = [field.name for field in plan.sources[source].fields]
    features = [*plan.readers[source].names, *plan.readers[source].text_names, *columns]
    entries = tomllib.loads((EXAMPLES / name / "reasons.toml").read_text())
    idle = [entry for entry in entries if not any(fnmatchcase(feature, entry) for feature in features)]
    assert idle == []
    assert load_policy(EXAMPLES / name / "policy.toml", plan).version
