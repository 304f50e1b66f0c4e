"""What every store must do; run on memory, one Redis, a Redis Cluster, Sentinel, a login with ACL, TLS, and Valkey."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from features.core.errors import ConfigurationError
from features.store.base import (
    LOST,
    Flush,
    Mark,
    Partition,
    ShardRead,
    StateManifest,
    Store,
    StoreUnavailable,
    TopicIdentity,
)
from features.store.memory import MemoryStore
from features.store.redis_settings import RedisSettings
from features.store.redis_store import RedisStore
from stream.demo.servers import valkey_binary
from tests.servers.certificates import make_certificates
from tests.servers.redis_groups import TlsRedisServer, redis_cluster, redis_sentinel
from tests.servers.redis_server import RedisServer

P = Partition("payments", 0)
Q = Partition("payments", 1)
MANIFEST = StateManifest(
    plan="f00",
    state_format=1,
    shards=4,
    group="g",
    cluster="c",
    topics=(TopicIdentity("payments", "id-1", 2),),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, ...]]:
    """Nodes of a cluster."""
    with redis_cluster() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a sentinel."""
    with redis_sentinel(tmp_path_factory.mktemp("sentinel")) as port:
        yield port


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedisServer]:
    """A server behind TLS, with certificates on both sides."""
    with TlsRedisServer(make_certificates(tmp_path_factory.mktemp("tls"))) as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    """Valkey, without TLS."""
    with RedisServer(binary=valkey_binary()) as server:
        yield server


def open_single(request: pytest.FixtureRequest) -> Store:
    return RedisStore(RedisSettings(url=request.getfixturevalue("redis_url"), namespace="n"), shards=4)


def open_cluster(request: pytest.FixtureRequest) -> Store:
    nodes = request.getfixturevalue("cluster")
    return RedisStore(RedisSettings(cluster=nodes, namespace=f"n{random.getrandbits(40)}"), shards=4)


def open_sentinel(request: pytest.FixtureRequest) -> Store:
    port = request.getfixturevalue("sentinel")
    namespace = f"n{random.getrandbits(40)}"
    return RedisStore(RedisSettings(sentinels=(f"127.0.0.1:{port}",), namespace=namespace), shards=4)


def open_acl(request: pytest.FixtureRequest) -> Store:
    server = request.getfixturevalue("redis_server")()
    with server.client() as client:
        client.execute_command("ACL SETUSER", "worker", "on", ">s3cret", "~rs:*", "+@all")
        client.execute_command("ACL SETUSER", "default", "off")
    path = request.getfixturevalue("tmp_path") / "password"
    path.write_text("s3cret\n")
    settings = RedisSettings(url=server.url, username="worker", password_file=str(path), namespace="n")
    return RedisStore(settings, shards=4)


def open_tls(request: pytest.FixtureRequest) -> Store:
    server = request.getfixturevalue("tls")
    return RedisStore(tls_settings(server, f"n{random.getrandbits(40)}"), shards=4)


def tls_settings(server: TlsRedisServer, namespace: str) -> RedisSettings:
    given = server.certificates
    return RedisSettings(
        url=server.url,
        namespace=namespace,
        tls_ca_file=str(given.ca),
        tls_cert_file=str(given.cert),
        tls_key_file=str(given.key),
    )


def open_valkey(request: pytest.FixtureRequest) -> Store:
    server = request.getfixturevalue("valkey")
    return RedisStore(RedisSettings(url=server.url, namespace=f"n{random.getrandbits(40)}"), shards=4)


def open_memory(request: pytest.FixtureRequest) -> Store:
    return MemoryStore(shards=4)


KINDS: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "memory": open_memory,
    "single": open_single,
    "cluster": open_cluster,
    "sentinel": open_sentinel,
    "acl": open_acl,
    "tls": open_tls,
    "valkey": open_valkey,
}


@pytest.fixture(
    params=[pytest.param(kind, marks=() if kind == "memory" else pytest.mark.server) for kind in KINDS]
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    store = KINDS[request.param](request)
    yield store
    store.close()


def flush(prev: int, to: int, rows: dict[bytes, bytes] | None = None, **other: object) -> Flush:
    given = {"partition": P, "shard": 1, "origin": 0, "now_ms": 1_000, **other}
    return Flush(prev=prev, next=to, rows=rows or {}, **given)  # type: ignore[arg-type]


def slices(store: Store, *names: bytes, shard: int = 1) -> list[dict[bytes, bytes]]:
    (answer,) = store.read([ShardRead(shard, names)])
    return [dict(found) for found in answer.slices]


def test_a_flush_raises_the_mark_and_writes_its_rows(store: Store) -> None:
    assert store.flush([flush(0, 5, {b"card:a": b"\x00row\r\n\xff", b"card:b": b"2"})]) == [5]
    assert slices(store, b"card:b", b"card:none", b"card:a") == [
        {P.field: b"2"},
        {},
        {P.field: b"\x00row\r\n\xff"},
    ]
    assert store.marks() == [{}, {P: Mark(5, 1_000)}, {}, {}]


def test_slices_and_marks_come_from_the_same_moment_for_many_shards(store: Store) -> None:
    store.flush([flush(0, 5, {b"card:a": b"1"}), flush(0, 7, {b"card:z": b"9"}, shard=3, partition=Q)])
    one, three = store.read([ShardRead(1, [b"card:a"]), ShardRead(3, [b"card:z", b"card:a"])])
    assert (one.marks, [dict(found) for found in one.slices]) == ({P: Mark(5, 1_000)}, [{P.field: b"1"}])
    assert three.marks == {Q: Mark(7, 1_000)}
    assert [dict(found) for found in three.slices] == [{Q.field: b"9"}, {}]


def test_partitions_of_one_entity_share_its_hash(store: Store) -> None:
    store.flush([flush(0, 5, {b"m:x": b"p"}), flush(0, 9, {b"m:x": b"q"}, partition=Q)])
    assert slices(store, b"m:x") == [{P.field: b"p", Q.field: b"q"}]


def test_a_flush_that_builds_on_lost_writes_is_refused(store: Store) -> None:
    assert store.flush([flush(3, 5, {b"card:a": b"1"})]) == [LOST]
    assert slices(store, b"card:a") == [{}]
    assert store.marks()[1] == {}


def test_a_late_flush_changes_nothing(store: Store) -> None:
    store.flush([flush(0, 9, {b"card:a": b"new"})])
    assert store.flush([flush(0, 5, {b"card:a": b"old"})]) == [9]
    assert slices(store, b"card:a") == [{P.field: b"new"}]


def test_a_flush_sent_again_changes_nothing_but_the_time(store: Store) -> None:
    store.flush([flush(0, 5, {b"card:a": b"1"})])
    assert store.flush([flush(0, 5, {b"card:a": b"other"}, now_ms=2_000)]) == [5]
    assert slices(store, b"card:a") == [{P.field: b"1"}]
    assert store.marks()[1][P] == Mark(5, 2_000)


def test_an_absent_mark_equals_the_origin(store: Store) -> None:
    assert store.flush([flush(100, 100, origin=100)]) == [100]
    assert store.flush([flush(100, 120, origin=100)]) == [120]


def test_marks_are_compared_as_numbers(store: Store) -> None:
    assert store.flush([flush(0, 9)]) == [9]
    assert store.flush([flush(9, 10)]) == [10]
    assert store.flush([flush(10, 2**52 + 1)]) == [2**52 + 1]
    assert store.flush([flush(2**52, 2**52)]) == [2**52 + 1]


def test_empty_requests_are_answered(store: Store) -> None:
    assert store.flush([]) == []
    assert store.read([]) == []
    assert slices(store) == []


def test_a_manifest_is_claimed_once(store: Store) -> None:
    assert store.manifest() is None
    store.open(MANIFEST)
    store.open(MANIFEST)
    assert store.manifest() == MANIFEST


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": "f01"}, "plan was 'f00', is 'f01'"),
        ({"shards": 8}, "shards was 4, is 8"),
        ({"group": "h"}, "group was"),
        ({"topics": (TopicIdentity("payments", "id-1", 3),)}, "partitions=3"),
        ({"topics": (TopicIdentity("payments", "id-2", 2),)}, "id-2"),
        ({"cluster": "d"}, "cluster was"),
    ],
)
def test_another_manifest_is_refused(change: dict[str, object], said: str) -> None:
    store = MemoryStore(shards=4)
    store.open(MANIFEST)
    fields = {name: getattr(MANIFEST, name) for name in StateManifest.__dataclass_fields__}
    with pytest.raises(ConfigurationError, match=r"redis\.namespace.*") as raised:
        store.open(StateManifest(**(fields | change)))
    assert said in str(raised.value)


def test_names_and_drop(store: Store) -> None:
    store.open(MANIFEST)
    store.put_profiles("applicant", {"a": b"1"})
    store.flush([flush(0, 5, {b"card:a": b"1", b"card:[b]": b"2"}), flush(0, 5, {b"card:c": b"3"}, shard=2)])
    assert sorted(store.names()) == [(1, b"card:[b]"), (1, b"card:a"), (2, b"card:c")]
    assert store.drop() == 6
    assert list(store.names()) == []
    assert store.marks() == [{}, {}, {}, {}]
    assert store.manifest() is None
    assert store.get_profiles("applicant", ["a"]) == [b"1"]


def test_a_drop_that_ends_midway_leaves_no_mark_over_missing_slices(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers may be at work meanwhile, and who drops may be killed."""
    names = [f"card:{number}".encode() for number in range(10)]
    whole = RedisStore._pipeline
    for steps in range(10):
        left = iter([None] * steps)
        store.flush([flush(0, 5, dict.fromkeys(names, b"1")), flush(0, 5, {b"card:c": b"3"}, shard=2)])

        def ends(self: RedisStore, commands: Any, left: Iterator[None] = left) -> Any:
            if "UNLINK" in {command[0] for command in commands} and next(left, 0) == 0:
                raise KeyboardInterrupt
            return whole(self, commands)

        with monkeypatch.context() as patch:
            patch.setattr("features.store.redis_store._SCAN_COUNT", 2)
            patch.setattr(RedisStore, "_pipeline", ends)
            with contextlib.suppress(KeyboardInterrupt):
                store.drop()
        marks, found = store.marks(), dict.fromkeys(name for _, name in store.names())
        assert not marks[1] or all(name in found for name in names)
        assert not marks[2] or b"card:c" in found
        store.drop()


def test_profiles(store: Store) -> None:
    keys = [f"k{number}" for number in range(100)]
    store.put_profiles("applicant", {key: key.encode() for key in keys})
    store.put_profiles("applicant", {"k7": b"newer"})
    store.put_profiles("applicant", {})
    assert store.get_profiles("applicant", ["k99", "none", "k7"]) == [b"k99", None, b"newer"]
    assert store.get_profiles("other", ["k99"]) == [None]
    assert store.get_profiles("applicant", []) == []


def test_health_of_a_good_server(store: Store) -> None:
    store.check_health()


@pytest.mark.server
def test_a_server_with_an_unknown_certificate_is_refused(tls: TlsRedisServer, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path)
    settings = dataclasses.replace(tls_settings(tls, "n"), tls_ca_file=str(stranger.ca))
    store = RedisStore(settings, shards=4)
    with pytest.raises((ConfigurationError, StoreUnavailable), match="certificate verify failed"):
        store.marks()
    store.close()
