"""The registry: immutable versions, aliases that switch as a whole, and their history."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.core.errors import ConfigurationError
from models.bundles import bundle
from models.bundles.registry import Registry
from tests.models import small


@pytest.fixture(params=["directory", "object store"])
def registry(request, tmp_path):
    url = str(tmp_path) if request.param == "directory" else f"memory://{tmp_path.name}"
    made = Registry(url)
    for version in ("1", "2", "3"):
        bundle.write(made.path("fraud", version), small.contents(version=version))
    return made


def test_lists_versions(registry):
    assert registry.names() == ["fraud"]
    assert registry.versions("fraud") == ["1", "2", "3"]
    assert registry.versions("unheard") == []


def test_resolves_versions_and_aliases(registry):
    assert registry.resolve("fraud@2").path == registry.path("fraud", "2")
    registry.promote("fraud", "2")
    registry.promote("fraud", "3", "challenger")
    assert registry.resolve("fraud@champion").version == "2"
    assert registry.resolve("fraud@challenger").version == "3"
    assert bundle.load(registry.resolve("fraud@champion").path, small.TRUST).version.version == "2"


def test_promotes_and_rolls_back(registry):
    for version in ("1", "2", "2", "3"):
        registry.promote("fraud", version)
    assert registry.rollback("fraud").current() == {"champion": "2"}
    assert registry.rollback("fraud").current() == {"champion": "1"}
    with pytest.raises(ConfigurationError, match="no earlier version"):
        registry.rollback("fraud")
    history = [(change.action, change.before, change.version) for change in registry.aliases("fraud").history]
    assert history == [
        ("promote", None, "1"), ("promote", "1", "2"), ("promote", "2", "2"), ("promote", "2", "3"),
        ("rollback", "3", "2"), ("rollback", "2", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("fraud@9", "no such alias or version of `fraud`; it has 1, 2, 3"),
        ("fraud@champion", "no such alias or version"),
        ("fraud", "write NAME@ALIAS or NAME@VERSION"),
        ("../fraud@1", "use letters"),
        ("fraud@../1", "use letters"),
    ],
)
def test_refuses_what_is_not_there(registry, reference, reason):
    with pytest.raises(ConfigurationError, match=reason):
        registry.resolve(reference)


def test_an_alias_cannot_hide_a_version(registry):
    with pytest.raises(ConfigurationError, match="`1` is a version"):
        registry.promote("fraud", "2", alias="1")


def test_half_written_bundle_is_no_version(tmp_path):
    registry = Registry(str(tmp_path))
    (tmp_path / "fraud" / "1").mkdir(parents=True)
    (tmp_path / "fraud" / "1" / "model.onnx").write_bytes(small.graph())
    assert registry.versions("fraud") == []
    with pytest.raises(ConfigurationError):
        registry.promote("fraud", "1")


def test_promotions_at_once_lose_none_and_readers_see_whole_files(tmp_path):
    registry = Registry(str(tmp_path))
    for version in ("1", "2"):
        bundle.write(registry.path("fraud", version), small.contents(version=version))
    registry.promote("fraud", "1")

    def switch(number: int) -> str:
        registry.promote("fraud", str(1 + number % 2))
        return Registry(str(tmp_path)).resolve("fraud@champion").version

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(switch, range(200)))
    assert set(seen) <= {"1", "2"}
    history = registry.aliases("fraud").history
    assert len(history) == 201
    assert all(after.before == before.version for before, after in itertools.pairwise(history))
