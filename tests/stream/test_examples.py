"""The example projects: settings, definitions and policies fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.project import build
from stream.settings.config import load

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["payments", "lending", "handbook"])
def test_settings_definitions_and_policy_agree(name: str) -> None:
    config = load(EXAMPLES / name / "riskstream.toml")
    plan = build.make_plan(config)
    policy = build.make_policy(config, plan)
    assert config.project.name == name
    assert set(config.models.routes) == set(plan.readers)
    assert set(config.profiles) == {profile.name for profile in plan.definitions.profiles}
    for source in plan.readers:
        assert policy.source(source).rules
    assert len(build.make_decoders(config, plan)) == len(plan.sources)


def test_payments_cover_the_entities_and_have_about_25_features() -> None:
    plan = build.make_plan(load(EXAMPLES / "payments" / "riskstream.toml"))
    entities = {group.entity for group in plan.groups}
    assert entities == {"card", "customer", "merchant", "device", "card_merchant"}
    assert 20 <= len(plan.readers["transactions"].names) <= 30
