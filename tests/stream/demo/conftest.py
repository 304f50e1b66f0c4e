"""One prepared project for all tests of the demo."""

from __future__ import annotations

import pytest

SEED = 11


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def demo_seed():
    return SEED
