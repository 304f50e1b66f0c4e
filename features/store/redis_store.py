"""State in Redis or Valkey: one server, Sentinel, or Cluster. The only module that imports `redis`.

A micro-batch costs one pipelined round trip: one script a shard, each with many keys, because a
command a key would cost ten times the client CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from features.core.errors import ConfigurationError
from features.store.base import Flush, Marks, ShardAnswer, ShardRead, StateManifest, StoreUnavailable
from features.store.layout import (
    FLUSH_SCRIPT,
    READ_SCRIPT,
    Layout,
    check_manifest,
    decode_manifest,
    encode_manifest,
    marks_of,
)
from features.store.redis_settings import RedisSettings, address_of, password_of

Client = Redis | RedisCluster
Command = tuple[Any, ...]
T = TypeVar("T")

_SCAN_COUNT = 2_000
_PROFILE_BATCH = 2_000


class _Login(CredentialProvider):
    """Gives user and password at each connection."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        settings = self._settings
        password = password_of(settings)
        return (settings.username, password) if settings.username else (password,)


class RedisStore:
    """See Store. `shards` is part of the manifest: it never changes for a namespace."""

    def __init__(self, settings: RedisSettings, *, shards: int = 16) -> None:
        self._settings = settings
        self._layout = Layout(settings.namespace, shards)
        self._client: Client | None = None
        self._sentinel: Sentinel | None = None

    def open(self, manifest: StateManifest) -> None:
        """See Store."""
        key = self._layout.manifest_key
        text = encode_manifest(manifest)
        self._ask(lambda client: client.set(key, text, nx=True))
        found = self.manifest()
        if found is not None:
            check_manifest(found, manifest, self._settings.namespace)

    def manifest(self) -> StateManifest | None:
        """See Store."""
        text = self._ask(lambda client: client.get(self._layout.manifest_key))
        return None if text is None else decode_manifest(cast(bytes, text))

    def check_health(self) -> None:
        """PROTOCOL 0.4: `noeviction`, nothing evicted; from INFO, which works where CONFIG is forbidden."""
        for node, info in self._ask(_infos).items():
            policy = info.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise ConfigurationError(
                    f"redis: {node} has maxmemory-policy {policy}: it would delete single slices unnoticed. "
                    "Fix: CONFIG SET maxmemory-policy noeviction (and the same in redis.conf)."
                )
            if int(info.get("evicted_keys", 0)) > 0:
                raise ConfigurationError(
                    f"redis: {node} has evicted {info['evicted_keys']} keys: state may have holes. "
                    "Fix: `riskstream state drop`, then CONFIG RESETSTAT; state is rebuilt from the log."
                )

    def read(self, reads: Sequence[ShardRead]) -> list[ShardAnswer]:
        """See Store."""
        answers = self._pipeline([self._read_command(read) for read in reads])
        return [
            ShardAnswer(read.shard, marks_of(found[0]), [_pairs(flat) for flat in found[1:]])
            for read, found in zip(reads, answers, strict=True)
        ]

    def _read_command(self, read: ShardRead) -> Command:
        keys = self._layout.slice_keys(read.shard, read.names)
        return ("EVAL", READ_SCRIPT, len(keys) + 1, self._layout.mark_keys[read.shard], *keys)

    def flush(self, flushes: Sequence[Flush]) -> list[int]:
        """See Store."""
        return cast(list[int], self._pipeline([self._flush_command(flush) for flush in flushes]))

    def _flush_command(self, flush: Flush) -> Command:
        keys = self._layout.slice_keys(flush.shard, flush.rows)
        numbers = (flush.prev, flush.next, flush.now_ms, flush.origin)
        mark_key = self._layout.mark_keys[flush.shard]
        return (
            "EVAL", FLUSH_SCRIPT, len(keys) + 1, mark_key, *keys,
            flush.partition.field, *numbers, *flush.rows.values(),
        )  # fmt: skip

    def marks(self) -> list[Marks]:
        """See Store."""
        commands = [("EVAL", READ_SCRIPT, 1, key) for key in self._layout.mark_keys]
        return [marks_of(answer[0]) for answer in self._pipeline(commands)]

    def names(self) -> Iterator[tuple[int, bytes]]:
        """See Store."""
        for key in self._scan(self._layout.manifest_key.partition(b"}")[0] + b":*"):
            place = self._layout.place(key)
            if place is not None:
                yield place

    def drop(self) -> int:
        """See Store."""
        keys: list[list[bytes]] = [[] for _ in self._layout.mark_keys]
        for shard, name in self.names():
            keys[shard].append(self._layout.slice_prefixes[shard] + name)
        # Slices never go without their shard's mark, in one command: who finds the mark may build on what it says.
        commands: list[Command] = [
            ("UNLINK", mark, *found[start : start + _SCAN_COUNT])
            for mark, found in zip(self._layout.mark_keys, keys, strict=True)
            for start in range(0, max(1, len(found)), _SCAN_COUNT)
        ]
        commands.append(("UNLINK", self._layout.manifest_key))
        return sum(self._pipeline([command])[0] for command in commands)

    def get_profiles(self, profile: str, keys: Sequence[str]) -> list[bytes | None]:
        """See ProfileStore."""
        places: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(self._layout.profile_shard(key), []).append(place)
        commands = [
            ("MGET", *(self._layout.profile_key(profile, keys[place]) for place in group))
            for group in places.values()
        ]
        rows: list[bytes | None] = [None] * len(keys)
        for group, answer in zip(places.values(), self._pipeline(commands), strict=True):
            for place, row in zip(group, answer, strict=True):
                rows[place] = row
        return rows

    def put_profiles(self, profile: str, rows: Mapping[str, bytes]) -> None:
        """See ProfileStore."""
        groups: dict[int, list[bytes]] = {}
        for key, row in rows.items():
            group = groups.setdefault(self._layout.profile_shard(key), [])
            group += (self._layout.profile_key(profile, key), row)
        self._pipeline([
            ("MSET", *group[start : start + _PROFILE_BATCH])
            for group in groups.values()
            for start in range(0, len(group), _PROFILE_BATCH)
        ])  # fmt: skip

    def close(self) -> None:
        """Release connections; the next call connects again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        sentinel, self._sentinel = self._sentinel, None
        if sentinel is not None:
            for one in sentinel.sentinels:
                one.close()

    def _scan(self, pattern: bytes) -> Iterator[bytes]:
        escaped = pattern.replace(b"[", b"\\[")
        yield from self._ask(lambda client: client.scan_iter(match=escaped, count=_SCAN_COUNT))

    def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """All commands in one round trip; the first error of any is raised after all were answered."""
        if not commands:
            return []

        def run(client: Client) -> list[Any]:
            with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return cast(list[Any], pipe.execute(raise_on_error=True))

        return self._ask(run)

    def _ask(self, question: Callable[[Client], T]) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            return question(self._client)
        except (AuthenticationError, NoPermissionError) as error:
            raise ConfigurationError(f"redis.username, redis.password: refused: {error}") from error
        except (RedisError, OSError) as error:
            self._forget(error)
            raise StoreUnavailable(f"redis: {_describe(error)}") from error

    def _forget(self, error: Exception) -> None:
        """A refusal may come from a server that is no longer the primary: look for it anew next time."""
        demoted = isinstance(error, ResponseError) and not isinstance(error, MovedError)
        if isinstance(error, RedisClusterException) or (demoted and str(error).startswith("READONLY")):
            self.close()

    def _connect(self) -> Client:
        settings = self._settings
        if sum(map(bool, (settings.url, settings.sentinels, settings.cluster))) != 1:
            raise ConfigurationError("redis: give exactly one of url, sentinel and cluster")
        options = _options(settings)
        if settings.cluster:
            nodes = [ClusterNode(*address_of(text)) for text in settings.cluster]  # type: ignore[no-untyped-call]
            return RedisCluster(startup_nodes=nodes, **options)
        if settings.sentinels:
            self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
                [address_of(text) for text in settings.sentinels],
                sentinel_kwargs={"socket_timeout": settings.timeout_s},
                **options,
            )
            return cast(Redis, self._sentinel.master_for(settings.service))  # type: ignore[no-untyped-call]
        try:
            return Redis.from_url(str(settings.url), **options)
        except ValueError as error:
            raise ConfigurationError(f"redis.url: {error}") from None


def _options(settings: RedisSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        # One more try heals a connection that an idle timeout closed; waiting is the worker's business.
        "retry": Retry(NoBackoff(), 1),
    }
    if settings.username or password_of(settings):
        options["credential_provider"] = _Login(settings)
    secure = settings.tls or str(settings.url).startswith("rediss:")
    if secure:
        files = {
            "ssl_ca_certs": settings.tls_ca_file,
            "ssl_certfile": settings.tls_cert_file,
            "ssl_keyfile": settings.tls_key_file,
        }
        options.update({name: path for name, path in files.items() if path is not None})
        if not settings.url:
            options["ssl"] = True
    return options


def _infos(client: Client) -> dict[str, dict[str, Any]]:
    """INFO of every primary."""
    if isinstance(client, RedisCluster):
        answers = client.info(target_nodes=RedisCluster.PRIMARIES)
        return cast("dict[str, dict[str, Any]]", answers)
    return {"the server": client.info()}


def _pairs(flat: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def _describe(error: Exception) -> str:
    """One line without the command: pipelines put every key into their message, and keys are personal."""
    text = str(error)
    if " of pipeline caused error: " in text:
        text = text.rpartition(" of pipeline caused error: ")[2]
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no answer'}"
