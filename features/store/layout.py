"""How state is laid out in Redis: names of keys, the two scripts, the manifest's text.

    rs:{<namespace>:<shard>}:m                  hash: source/partition -> mark, source/partition:t -> ms
    rs:{<namespace>:<shard>}:s:<entity>:<key>   hash: source/partition -> row bytes
    rs:{<namespace>}:manifest                   JSON
    rs:{<namespace>:p<n>}:p:<profile>:<key>     row of a profile

The braces are Redis Cluster's hash tag: marks and slices of a shard share a slot, so one script
writes them together and one loss takes them together.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence

import msgspec

from features.core.errors import ConfigurationError
from features.store.base import Mark, Marks, Partition, StateManifest

PROFILE_SHARDS = 16
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TIME_SUFFIX = b":t"

# PROTOCOL 3.2. Numbers are compared as numbers: in Lua `<` on strings is strcoll, which minds the locale.
FLUSH_SCRIPT = b"""
local mark = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[5])
if mark < tonumber(ARGV[2]) then return -1 end
if mark > tonumber(ARGV[3]) then return mark end
if mark == tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], ARGV[1] .. ':t', ARGV[4])
  return mark
end
for i = 2, #KEYS do redis.call('HSET', KEYS[i], ARGV[1], ARGV[i + 4]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], ARGV[1] .. ':t', ARGV[4])
return tonumber(ARGV[3])
"""

# PROTOCOL 4.1: marks and slices as of one moment.
READ_SCRIPT = b"""
local answer = {}
for i = 1, #KEYS do answer[i] = redis.call('HGETALL', KEYS[i]) end
return answer
"""


def slice_name(entity: str, key: str) -> bytes:
    """The name of an entity's hash inside its shard.

    >>> slice_name("card", "c-1")
    b'card:c-1'
    """
    return f"{entity}:{key}".encode()


def slice_names(entity: str, keys: Sequence[str]) -> list[bytes]:
    """The names of many, in a fraction of the time.

    >>> slice_names("card", ["c-1", "c-2"])
    [b'card:c-1', b'card:c-2']
    """
    # One text of all, cut where no key can have a cut of its own.
    prefix, joined = f"{entity}:", "\n".join(keys)
    if joined.count("\n") != len(keys) - 1:
        return [slice_name(entity, key) for key in keys]
    return (prefix + joined.replace("\n", f"\n{prefix}")).encode().split(b"\n")


def key_of(name: bytes) -> str:
    """The key in a name.

    >>> key_of(slice_name("card", "c:1"))
    'c:1'
    """
    return name.partition(b":")[2].decode()


class Layout:
    """Names of one namespace's keys."""

    def __init__(self, namespace: str, shards: int) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"redis.namespace: expected letters, digits, `_`, `.`, `-` (at most 64), got {namespace!r}"
            )
        self.shards = shards
        self.manifest_key = f"rs:{{{namespace}}}:manifest".encode()
        self.mark_keys = [f"rs:{{{namespace}:{shard}}}:m".encode() for shard in range(shards)]
        self.slice_prefixes = [f"rs:{{{namespace}:{shard}}}:s:".encode() for shard in range(shards)]
        self._profile_prefix = f"rs:{{{namespace}:p".encode()

    def slice_keys(self, shard: int, names: Iterable[bytes]) -> list[bytes]:
        """Redis keys of an entity's hashes."""
        prefix = self.slice_prefixes[shard]
        return [prefix + name for name in names]

    def profile_shard(self, key: str) -> int:
        """Spreads the rows of a profile over a cluster."""
        return zlib.crc32(key.encode()) % PROFILE_SHARDS

    def profile_key(self, profile: str, key: str) -> bytes:
        """Redis key of one profile row."""
        shard = self.profile_shard(key)
        return b"%s%d}:p:%s:%s" % (self._profile_prefix, shard, profile.encode(), key.encode())

    def place(self, key: bytes) -> tuple[int, bytes] | None:
        """Shard and name of a slice's Redis key; None for other keys of the namespace."""
        tag = key.partition(b"}")[0].rpartition(b":")[2]
        if not tag.isdigit():
            return None
        shard = int(tag)
        if shard >= self.shards or not key.startswith(self.slice_prefixes[shard]):
            return None
        return shard, key[len(self.slice_prefixes[shard]) :]


def marks_of(pairs: Sequence[bytes]) -> Marks:
    """Marks from the flat answer of HGETALL."""
    raw = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return {
        Partition.of(field): Mark(int(value), int(raw.get(field + _TIME_SUFFIX, 0)))
        for field, value in raw.items()
        if not field.endswith(_TIME_SUFFIX)
    }


def encode_manifest(manifest: StateManifest) -> bytes:
    """Readable, and the same bytes for the same manifest."""
    return msgspec.json.encode(manifest)


def decode_manifest(text: bytes) -> StateManifest:
    """The inverse of `encode_manifest`."""
    return msgspec.json.decode(text, type=StateManifest)


def check_manifest(found: StateManifest, ours: StateManifest, namespace: str) -> None:
    """Refuse to go on with state that was made differently (PROTOCOL 0.1)."""
    if found == ours:
        return
    differences = [
        f"{name} was {getattr(found, name)!r}, is {getattr(ours, name)!r}"
        for name in StateManifest.__dataclass_fields__
        if getattr(found, name) != getattr(ours, name)
    ]
    raise ConfigurationError(
        f"redis.namespace: the state in {namespace!r} was made differently: {'; '.join(differences)}. "
        "Use a new namespace (state is rebuilt from the log), or `riskstream state drop` this one."
    )
