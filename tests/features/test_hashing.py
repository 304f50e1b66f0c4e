"""Hashes that state and shards depend on: the same forever, whichever way a batch takes."""

from __future__ import annotations

import numpy as np

from features.engine.hashing import hash_numbers, hash_strings, shard_of

KNOWN = [
    3384115444967922803,
    15914569279758779238,
    17280346270528514342,
]


def test_a_text_hashes_alike_beside_nulls_and_other_alphabets() -> None:
    alone = hash_strings(["card-1", ""])
    among = hash_strings(["card-1", None, "карта", ""])
    assert among[[0, 3]].tolist() == alone.tolist()
    assert among[1] == 0
    assert len({*among.tolist()}) == 4


def test_hashes_never_change() -> None:
    assert hash_strings(["card-1", "карта", ""]).tolist() == KNOWN


def test_numbers_hash_by_value() -> None:
    hashes = hash_numbers(np.array([0.0, -0.0, 1.5, np.nan]))
    assert hashes[0] == hashes[1] != 0
    assert hashes[3] == 0
    assert hashes[2] not in (0, hashes[0])


def test_shards_are_even() -> None:
    shards = shard_of(hash_strings([f"card-{number}" for number in range(16_000)]), 16)
    counts = np.bincount(shards, minlength=16)
    assert counts.min() > 850
    assert counts.max() < 1150
