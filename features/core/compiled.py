"""Numba's compiler with types kept: how the hot path's functions are made.

Compiled code is cached on disk beside the sources, or in the user's cache folder where the tree is read-only. Numba
alone compares a cached function with its own file only, although code of other files is compiled into it. Here
each cached function also carries a digest of every source that compiled code is drawn from: after any edit of one
of them nothing old is loaded, and old code is overwritten.

None of it uses fast-math: the double-double sums need every rounding as written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])
_njit: Any = numba.njit
Scalar = Any
"""A number in a register: Numba infers whether it is an int64, a uint64 or a float64."""


_COMPILES = re.compile(rb"^(?:from features\.core\.compiled|from numba|import numba)\b", re.MULTILINE)


def compiled_sources() -> list[Path]:
    """Every file that compiled code is drawn from: those that use this module or Numba, and the kernel's folder."""
    root = Path(__file__).resolve().parents[2]
    return [
        path
        for package in ("features", "models")
        for path in sorted((root / package).rglob("*.py"))
        if path.parent.name == "kernel" or _COMPILES.search(path.read_bytes())
    ]


def _digest() -> str:
    digest = hashlib.sha256()
    for path in compiled_sources():
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


_DIGEST = _digest()


def _compile(function: F, **options: Any) -> F:
    try:
        dispatcher = _njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache can be written: compiled anew by each process
        return cast(F, _njit(**options)(function))
    index = dispatcher._cache._cache_file
    index._source_stamp = (index._source_stamp, _DIGEST)
    return cast(F, dispatcher)


def compiled(function: F) -> F:
    """Compile a function that allocates arrays; it holds the interpreter lock."""
    return _compile(function)


def lean(function: F) -> F:
    """Compile a function that allocates nothing, without reference counting.

    Numba's reference counting is an atomic increment at every mention of an array: with it, a pass
    takes six times as long.
    """
    return _compile(function, _nrt=False)


def lean_released(function: F) -> F:
    """Compile like `lean`; other threads run while it does."""
    return _compile(function, nogil=True, _nrt=False)


def inlined(function: F) -> F:
    """A piece of a `lean` function, compiled into its callers."""
    return _compile(function, _nrt=False, inline="always")
