"""Sums without rounding error: double-doubles (Ogita, Rump, Oishi 2005, "Accurate sum and dot product").

A double-double is a float and the rest that its rounding cut off.
"""

from __future__ import annotations

from features.core.compiled import Scalar, inlined

SPLITTER = 134217729.0
"""2**27 + 1: cuts a float into two halves of 26 bits."""


@inlined
def two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a + b and the rest."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


@inlined
def square(a: Scalar) -> tuple[Scalar, Scalar]:
    """a * a and the rest."""
    p = a * a
    c = SPLITTER * a
    h = c - (c - a)
    low = a - h
    return p, ((h * h - p) + 2.0 * h * low) + low * low
