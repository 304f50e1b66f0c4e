"""`riskstream model` and `riskstream policy` in a project, from a key to a champion."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from models.bundles import bundle
from models.bundles.registry import Registry
from stream.cli import app as cli
from tests.models import small

DEFINITIONS = """
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, Source
definitions = Definitions(
    sources=(Source(name="payments", topic="payments", event_id="id", event_time="time", key="card",
        amount="amount", fields=(
            Field(name="id", dtype="string"), Field(name="time", dtype="timestamp"),
            Field(name="card", dtype="string"), Field(name="amount", dtype="float64"),
            Field(name="ratio", dtype="float64"))),),
    entities=(Entity(name="card", keys=("card",)),),
    views=(FeatureView(name="v", source="payments", entity="card", windows=("1d",),
        aggregations=(Aggregation(function="count", name="n"),)),),
)
"""
SETTINGS = """
[models]
routes = { payments = "fraud@champion" }
trusted_keys = ["signer.pub.pem"]
"""
DECLARATION = """
name = "fraud"
source = "payments"
version = "imported"
numeric = ["amount", "n", "ratio"]
[baseline]
amount = 0.5
n = 0
ratio = 0
[thresholds]
cheapest = 0.4
"""


class Project:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "definitions.py").write_text(DEFINITIONS)
        (directory / "riskstream.toml").write_text(SETTINGS)
        (directory / "policy.toml").write_text("[sources.payments]\nreview = 0.9\n")
        plan = compile_plan(load_definitions(directory / "definitions.py"))
        self.registry = Registry(str(directory / "registry"))
        for version in ("1", "2"):
            contents = small.contents(version=version, plan=plan.fingerprint)
            bundle.write(self.registry.path("fraud", version), contents)

    def run(self, *arguments: str) -> tuple[int, str]:
        shown = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=True)
        code = shown.exit_code if shown.exception is None or isinstance(shown.exception, SystemExit) else 2
        return code, shown.output + ("" if shown.exception is None else str(shown.exception))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def test_from_a_key_to_a_champion_and_back(project):
    code, said = project.run("model", "keygen", "signer")
    assert code == 0
    assert (project.directory / "signer.pem").stat().st_mode & 0o777 == 0o600
    code, said = project.run("model", "promote", "fraud@1")
    assert (code, "not signed" in said) == (2, True)
    assert project.registry.aliases("fraud").current() == {}
    for version in ("1", "2"):
        assert project.run("model", "sign", f"fraud@{version}", "--key", "signer.pem")[0] == 0
        code, said = project.run("model", "promote", f"fraud@{version}")
        assert (code, f"fraud@champion is {version}" in said) == (0, True)
    assert project.run("model", "verify", "fraud@champion")[0] == 0
    code, said = project.run("model", "list")
    assert code == 0
    assert "champion" in said
    code, said = project.run("model", "rollback", "fraud")
    assert (code, "fraud@champion is 1" in said) == (0, True)
    code, said = project.run("model", "show", "fraud@champion")
    assert code == 0
    assert '"rollback"' in said
    assert json.JSONDecoder().raw_decode(said)[0]["version"] == "1"


def test_keys_are_never_overwritten(project):
    project.run("model", "keygen", "signer")
    before = (project.directory / "signer.pem").read_text()
    assert project.run("model", "keygen", "signer")[0] == 2
    assert (project.directory / "signer.pem").read_text() == before


def test_verify_says_what_was_altered(project):
    project.run("model", "keygen", "signer")
    project.run("model", "sign", "fraud@1", "--key", "signer.pem")
    assert project.run("model", "verify", "fraud@1")[0] == 0
    card = project.directory / "registry" / "fraud" / "1" / "card.md"
    card.write_text("# other\n")
    code, said = project.run("model", "verify", "fraud@1")
    assert (code, "card.md was altered" in said) == (1, True)


def test_an_onnx_file_from_elsewhere(project):
    (project.directory / "model.onnx").write_bytes(small.graph())
    (project.directory / "declared.toml").write_text(DECLARATION)
    project.run("model", "keygen", "signer")
    arguments = ("model", "import", "model.onnx", "--signature", "declared.toml", "--key", "signer.pem")
    code, said = project.run(*arguments)
    assert (code, said.strip()) == (0, "fraud@imported")
    assert project.run("model", "promote", "fraud@imported")[0] == 0
    assert project.run(*arguments)[0] == 2
    (project.directory / "declared.toml").write_text(
        DECLARATION.replace('"n", ', "").replace("imported", "x")
    )
    code, said = project.run(*arguments)
    assert (code, "takes 3 numeric features" in said) == (2, True)


@pytest.fixture
def champion(project):
    project.run("model", "keygen", "signer")
    project.run("model", "sign", "fraud@1", "--key", "signer.pem")
    project.run("model", "promote", "fraud@1")
    return project


def test_policy_check(champion):
    assert champion.run("policy", "check")[0] == 0
    other = champion.directory / "other.toml"
    other.write_text('[sources.payments]\nreview = "dearest"\n')
    code, said = champion.run("policy", "check", "other.toml")
    assert (code, "no threshold `dearest`" in said) == (1, True)


def test_policy_dry_run_shows_what_would_change(champion):
    inputs, _ = small.training_set(3000, seed=4)
    events = pl.DataFrame({
        "id": [f"e{number}" for number in range(3000)],
        "time": [number * 60_000 for number in range(3000)],
        "card": [f"c{number}" for number in range(3000)],
        "amount": inputs[:, 0].astype(float), "ratio": inputs[:, 2].astype(float),
    })  # fmt: skip
    events.write_parquet(champion.directory / "events.parquet")
    (champion.directory / "other.toml").write_text(
        "[sources.payments]\nreview = 0.6\n[[sources.payments.rules]]\n"
        'name = "large"\nwhen = "amount > 2"\naction = "decline"\n'
    )
    arguments = ("policy", "dry-run", "other.toml", "--input", "payments=events.parquet")
    code, said = champion.run(*arguments, "--json")
    assert code == 0
    (change,) = json.loads(said)["sources"]
    model = bundle.load(champion.registry.path("fraud", "1"), small.TRUST.__class__(keys=_keys(champion)))
    features = inputs.copy()
    features[:, 1] = 1
    from models.core.base import ModelInputs

    score = model.score_inputs(ModelInputs(features, {}))
    large = inputs[:, 0] > 2
    assert change["events"] == 3000
    assert change["days"] == 3
    assert change["current"]["decisions"]["review"] == (score >= 0.9).sum()
    assert change["candidate"]["decisions"]["decline"] == large.sum() == change["candidate"]["rules"]["large"]
    assert change["moves"]["approve"]["review"] == ((score < 0.9) & (score >= 0.6) & ~large).sum()
    assert len(change["examples"]) == 10
    code, said = champion.run(*arguments)
    assert (code, "approve -> decline" in said) == (0, True)


def _keys(project):
    from models.bundles import signing

    return (signing.public_key((project.directory / "signer.pub.pem").read_text(), "signer"),)
