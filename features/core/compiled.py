"""Numba's compiler with types kept: how the hot path's functions are made.

Compiled code is cached on disk beside the sources. None of it uses fast-math: the double-double sums need
every rounding as written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])
_njit: Any = numba.njit
Scalar = Any
"""A number in a register: Numba infers whether it is an int64, a uint64 or a float64."""


def compiled(function: F) -> F:
    """Compile a function that allocates arrays; it holds the interpreter lock."""
    return cast(F, _njit(cache=True)(function))


def lean(function: F) -> F:
    """Compile a function that allocates nothing, without reference counting.

    Numba's reference counting is an atomic increment at every mention of an array: with it, a pass
    takes six times as long.
    """
    return cast(F, _njit(cache=True, _nrt=False)(function))


def lean_released(function: F) -> F:
    """The same, letting other threads run meanwhile."""
    return cast(F, _njit(cache=True, nogil=True, _nrt=False)(function))


def inlined(function: F) -> F:
    """A piece of a `lean` function, compiled into its callers."""
    return cast(F, _njit(cache=True, _nrt=False, inline="always")(function))
