"""Texts that a row's tokens stand for, kept with the row where a `first` or `last` gives them back.

Such a row is followed by a MessagePack map from token to text and the map's length in 4 bytes, little-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

_decoder = msgspec.msgpack.Decoder(dict[int, str])


def with_texts(row: bytes, tokens: Iterable[int], texts: Mapping[int, str]) -> bytes:
    """The row and the texts of its tokens, in the order of the tokens: the same row gives the same bytes."""
    table = msgspec.msgpack.encode({token: texts[token] for token in sorted(tokens) if token})
    return b"".join((row, table, len(table).to_bytes(4, "little")))


def split_texts(data: bytes) -> tuple[bytes, dict[int, str]]:
    """The row and its texts."""
    end = len(data) - 4
    begin = end - int.from_bytes(data[end:], "little")
    return data[:begin], _decoder.decode(data[begin:end])
