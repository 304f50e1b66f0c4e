"""The front door: what a project writes with, taken from where it stands when it is first used.

    from riskstream import Aggregation, Definitions, Entity, FeatureView, Field, Source

Importing it is quick: nothing of features, models or stream is loaded until one of these names is used, and nothing in
those packages imports this one (tests/meta/test_imports.py).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.definitions.spec import (
        Aggregation,
        Definitions,
        Derived,
        Entity,
        FeatureView,
        Field,
        LabelOf,
        Profile,
        Source,
    )
    from features.offline.materialize import materialize
    from stream.service.client import ApiError, AsyncClient, Client

    __version__: str

__all__ = [
    "Aggregation",
    "ApiError",
    "AsyncClient",
    "Client",
    "Definitions",
    "Derived",
    "Entity",
    "FeatureView",
    "Field",
    "LabelOf",
    "Profile",
    "Source",
    "__version__",
    "materialize",
]

_SPEC = "features.definitions.spec"
_CLIENT = "stream.service.client"
_HOMES = {
    "Aggregation": _SPEC,
    "ApiError": _CLIENT,
    "AsyncClient": _CLIENT,
    "Client": _CLIENT,
    "Definitions": _SPEC,
    "Derived": _SPEC,
    "Entity": _SPEC,
    "FeatureView": _SPEC,
    "Field": _SPEC,
    "LabelOf": _SPEC,
    "Profile": _SPEC,
    "Source": _SPEC,
    "materialize": "features.offline.materialize",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("riskstream")
    if name not in _HOMES:
        raise AttributeError(f"module 'riskstream' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
