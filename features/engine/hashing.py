"""Stable 64-bit hashes of texts and whole numbers: the same on every machine and in every version.

FNV-1a over UTF-8 bytes, finished with MurmurHash3's fmix64. State and shards depend on them, so
changing one is a change of row_format.STATE_FORMAT. 0 means null and is never a hash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.batch import Column, Floats
from features.core.compiled import compiled

Hashes = NDArray[np.uint64]


def hash_strings(values: Sequence[str | None]) -> Hashes:
    """uint64[n], 0 for null."""
    plain = _hash_plain(values)
    return plain if plain is not None else _hash_any(values)


def _hash_plain(values: Sequence[str | None]) -> Hashes | None:
    """Texts of one byte a character without a null, as most batches are; None for any other."""
    try:
        joined = "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return None
    if not joined.isascii():
        return None
    lengths = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
    return _hash_bytes(np.frombuffer(joined.encode(), np.uint8), lengths, np.ones(len(lengths), np.bool_))


def _hash_any(values: Sequence[str | None]) -> Hashes:
    series = pl.Series(values, dtype=pl.String).cast(pl.Binary)
    lengths = series.bin.size().fill_null(0).to_numpy().astype(np.int64)
    joined = b"".join([value for value in series.to_list() if value is not None])
    known = series.is_not_null().to_numpy()
    return _hash_bytes(np.frombuffer(joined, np.uint8), lengths, known)


def hash_numbers(values: Floats) -> Hashes:
    """uint64[n] of float64 values, 0 for NaN; -0.0 and 0.0 hash alike."""
    hashes: Hashes = _mix((values + 0.0).view(np.uint64) ^ np.uint64(0x51AFD7ED558CCD55))
    hashes[np.isnan(values)] = 0
    return hashes


def hash_column(column: Column) -> Hashes:
    """Either kind of column."""
    if isinstance(column, list):
        return hash_strings(column)
    return hash_numbers(np.asarray(column, dtype=np.float64))


def shard_of(hashes: Hashes, shards: int) -> NDArray[np.int64]:
    """The shard of each key."""
    return (hashes % np.uint64(shards)).astype(np.int64)


@compiled
def _mix(values: Hashes) -> Hashes:
    out = np.empty(len(values), np.uint64)
    for i in range(len(values)):
        h = values[i]
        h ^= h >> np.uint64(33)
        h *= np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(33)
        h *= np.uint64(0xC4CEB9FE1A85EC53)
        h ^= h >> np.uint64(33)
        out[i] = h if h != 0 else np.uint64(1)
    return out


@compiled
def _hash_bytes(data: NDArray[np.uint8], lengths: NDArray[np.int64], known: NDArray[np.bool_]) -> Hashes:
    out = np.zeros(len(lengths), np.uint64)
    at = 0
    for i in range(len(lengths)):
        h = np.uint64(0xCBF29CE484222325)
        for j in range(at, at + lengths[i]):
            h = (h ^ np.uint64(data[j])) * np.uint64(0x100000001B3)
        at += lengths[i]
        out[i] = h
    out = _mix(out)
    for i in range(len(lengths)):
        if not known[i]:
            out[i] = 0
    return out
