"""What can be told of a row from its bytes alone: version, stamp, texts. All is in docs/reference/state-format.md.

A row whose group gives texts back (a `first` or `last` of a text) is followed by a MessagePack map from token to text
and the map's length in 4 bytes, little-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

STATE_FORMAT = 1
"""Version of the bytes of a row: their first byte, and part of every plan's fingerprint."""

_decoder = msgspec.msgpack.Decoder(dict[int, str])


def is_current(row: bytes) -> bool:
    """True when this release reads the row."""
    return row[:1] == bytes([STATE_FORMAT])


def stamp_of(row: bytes) -> int:
    """The stamp of an encoded row: the offset of the last event folded, plus one.

    >>> stamp_of(bytes([1, 0x81, 0x01]))
    129
    """
    value = shift = 0
    for byte in row[1:11]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value


def with_texts(row: bytes, tokens: Iterable[int], texts: Mapping[int, str]) -> bytes:
    """The row and the texts of its tokens, in the order of the tokens: the same row gives the same bytes."""
    table = msgspec.msgpack.encode({token: texts[token] for token in sorted(tokens) if token})
    return b"".join((row, table, len(table).to_bytes(4, "little")))


def split_texts(data: bytes) -> tuple[bytes, dict[int, str]]:
    """The row and its texts."""
    end = len(data) - 4
    begin = end - int.from_bytes(data[end:], "little")
    return data[:begin], _decoder.decode(data[begin:end])
