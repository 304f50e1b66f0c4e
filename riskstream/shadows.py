"""Whether `features`, `models` and `stream` are riskstream's own: names that others use too.

Seen: a folder `features/` of a user on PYTHONPATH, and a distribution that writes its own `stream/__init__.py` over
ours. Both would end in an import error somewhere deep; here they are one line, before anything is imported.
"""

from __future__ import annotations

import ast
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("features", "models", "stream")


def shadowed(home: Path) -> str | None:
    """What stands in the way of riskstream's packages in `home`, and what to do; None where nothing does."""
    for name in PACKAGES:
        own = (home / name / "__init__.py").resolve()
        existing = _location(name)
        if existing != own:
            where = "nothing" if existing is None else str(existing)
            return (
                f"`import {name}` finds {where} instead of riskstream's own {own.parent}. "
                f"Rename that folder, or take it from PYTHONPATH and from the current directory"
            )
        if not _is_ours(own):
            others = sorted(set(packages_distributions().get(name, ())) - {"riskstream"})
            other = f"the distribution {', '.join(others)}" if others else "another distribution"
            return (
                f"{own} was overwritten by {other}, which has a package `{name}` too. "
                f"Uninstall it and install riskstream again, in an environment of its own"
            )
    return None


def _location(name: str) -> Path | None:
    spec = find_spec(name)
    if spec is None:
        return None
    if spec.origin is None:
        return next((Path(folder).resolve() for folder in spec.submodule_search_locations or ()), None)
    return Path(spec.origin).resolve()


def _is_ours(file: Path) -> bool:
    """Our `__init__.py` hold a docstring and nothing else."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.Expr)
