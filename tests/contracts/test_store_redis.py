"""What only a Redis server can do wrong: eviction, being full, being away, refusing a login."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from features.core.errors import ConfigurationError
from features.store.base import Flush, Partition, ShardRead, StoreUnavailable
from features.store.redis_settings import RedisSettings
from features.store.redis_store import RedisStore
from tests.servers.redis_server import RedisServer

P = Partition("payments", 0)
Start = Callable[..., RedisServer]


def store_of(server: RedisServer, **settings: object) -> RedisStore:
    return RedisStore(RedisSettings(url=server.url, **settings), shards=2)  # type: ignore[arg-type]


def test_an_evicting_server_is_refused_with_the_fix(redis_server: Start) -> None:
    store = store_of(redis_server("--maxmemory-policy", "allkeys-lru"))
    with pytest.raises(ConfigurationError, match=r"allkeys-lru.*Fix: CONFIG SET maxmemory-policy noeviction"):
        store.check_health()
    store.close()


def test_a_server_that_has_evicted_is_refused(redis_server: Start) -> None:
    server = redis_server("--maxmemory-policy", "allkeys-lru", "--maxmemory", "3mb")
    with server.client() as client:
        for number in range(100):
            client.set(f"k{number}", b"x" * 100_000)
        client.config_set("maxmemory-policy", "noeviction")
    store = store_of(server)
    with pytest.raises(ConfigurationError, match=r"has evicted [0-9]+ keys"):
        store.check_health()
    store.close()


def test_a_full_server_is_unavailable_and_writes_nothing_of_a_flush(redis_server: Start) -> None:
    server = redis_server()
    store = store_of(server)
    assert store.flush([Flush(P, 0, 0, 1, 0, 0, {b"a:0": b"0"})]) == [1]
    with server.client() as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable, match=r"OOM|OutOfMemory"):
        store.flush([Flush(P, 0, 1, 2, 0, 0, {b"a:0": b"1", b"a:1": b"1"})])
    with server.client() as client:
        client.config_set("maxmemory", "0")
    (answer,) = store.read([ShardRead(0, [b"a:0", b"a:1"])])
    assert [dict(found) for found in answer.slices] == [{P.field: b"0"}, {}]
    assert answer.marks[P].offset == 1
    store.close()


def test_a_server_that_is_away_is_unavailable_until_it_is_back(redis_server: Start) -> None:
    server = redis_server()
    store = store_of(server)
    store.marks()
    server.kill()
    with pytest.raises(StoreUnavailable, match="redis: ConnectionError"):
        store.marks()
    server.start()
    assert store.marks() == [{}, {}]
    store.close()


def test_a_refused_login_names_the_setting(redis_server: Start) -> None:
    server = redis_server(password="right")
    store = RedisStore(RedisSettings(url=server.url.replace(":right@", ""), password="wrong"), shards=2)
    with pytest.raises(ConfigurationError, match=r"redis\.username, redis\.password"):
        store.marks()
    store.close()


def test_errors_hold_no_keys(redis_server: Start) -> None:
    server = redis_server()
    store = store_of(server)
    with server.client() as client:
        client.set(b"rs:{riskstream:0}:s:card:4929000000000000", b"not a hash")
    with pytest.raises(StoreUnavailable) as raised:
        store.read([ShardRead(0, [b"card:4929000000000000"])])
    assert "4929" not in str(raised.value)
    store.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of"),
        ({"url": "redis://h", "cluster": ("h:1",)}, "exactly one of"),
        ({"url": "localhost"}, r"redis\.url"),
        ({"cluster": ("h",)}, "expected host:port"),
        ({"url": "redis://h", "namespace": "a b"}, r"redis\.namespace"),
        ({"url": "redis://127.0.0.1:1", "password_file": "/none"}, r"redis\.password_file"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigurationError, StoreUnavailable), match=said):
        RedisStore(RedisSettings(**settings), shards=2).marks()  # type: ignore[arg-type]
