"""How clients are made, and what becomes of the driver's errors."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions
from redis.connection import SSLConnection, UnixDomainSocketConnection

from celery_dispatch.errors import ConfigError, StoreError, StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.client import redis_client, same_server, translated
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.located import LocatedConnection, LocatedTLSConnection
from tests.servers import Server, leaked_keys, running


def kwargs_of(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a client of ``url`` connects with."""
    pool: Any = redis_client(url, options).connection_pool
    return {"class": pool.connection_class, **pool.connection_kwargs}


def subset(found: dict[str, Any], **wanted: Any) -> bool:
    return {key: found.get(key) for key in wanted} == wanted


# --- urls and options ---------------------------------------------------------------------------------------


def test_a_plain_url_gets_short_timeouts_and_no_second_tries() -> None:
    found = kwargs_of("redis://user:p%40ss@example.test:7000/3", {})

    assert found["class"] is LocatedConnection
    assert subset(found, host="example.test", port=7000, db=3, username="user", password="p@ss")
    assert subset(found, socket_timeout=2.0, socket_connect_timeout=1.0, protocol=2, decode_responses=True)
    assert subset(found, encoding_errors="replace")
    assert found["retry"]._retries == 0


def test_options_win_over_the_default_timeouts() -> None:
    found = kwargs_of("redis://localhost", {"socket_timeout": 0.5, "health_check_interval": 3})

    assert subset(found, socket_timeout=0.5, socket_connect_timeout=1.0, health_check_interval=3)


@pytest.mark.parametrize(
    ("url", "path", "db"),
    [
        ("unix:///run/redis.sock?db=2", "/run/redis.sock", 2),
        ("unix:///run/redis.sock", "/run/redis.sock", None),
        ("unix://:p%40ss@/run/redis.sock?virtual_host=1", "/run/redis.sock", 1),
        ("socket:///run/redis.sock?virtual_host=2", "/run/redis.sock", 2),
        ("redis+socket:///run/redis.sock?virtual_host=/4", "/run/redis.sock", 4),
        ("redis+socket:///run/redis.sock", "/run/redis.sock", None),
    ],
)
def test_a_socket_is_named_as_redis_or_kombu_name_it(url: str, path: str, db: int | None) -> None:
    found = kwargs_of(url, {})

    assert found["class"] is UnixDomainSocketConnection
    assert subset(found, path=path, db=db, socket_timeout=2.0)


@pytest.mark.parametrize("required", ["required", "CERT_REQUIRED", ssl.CERT_REQUIRED])
def test_tls_takes_the_options_of_broker_use_ssl(required: object) -> None:
    options = {
        "ssl_cert_reqs": required,
        "ssl_ca_certs": __file__,
        "ssl_certfile": None,
        "ssl_keyfile": None,
    }
    client = redis_client("rediss://example.test:6380/1", options)
    made: Any = SSLConnection(**client.connection_pool.connection_kwargs)

    assert client.connection_pool.connection_class is LocatedTLSConnection
    assert made.cert_reqs == ssl.CERT_REQUIRED
    assert made.ca_certs == __file__


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://user:secret@host//", "redis://"),
        ("redis://user:secret@host:port/0", "percent-encode"),
        ("redis://user:secret@a,redis://b", "sentinel://"),
        ("redis://host/0?socket_timeout=soon", "socket_timeout"),
        ("sentinel://:secret@h1;sentinel://:another@h2", "more than one user and password"),
        ("sentinel://h1/1;sentinel://h2/2", "more than one database"),
        ("sentinel://h1?a=b;sentinel://:secret@h2", "behind the last host"),
        ("sentinel://h1;redis://:secret@h2", "sentinel://"),
        ("redis+cluster://:secret@h1,h2/3", "only that"),
        ("", "redis://"),
        ("unix://host/run/redis.sock", "names no socket"),
        ("redis+socket:///run/redis.sock?virtual_host=x", "number of a database"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_the_cure(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)dispatch_redis_url.*{words}") as caught:
        redis_client(url, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retry_on_timeout": True}, "retry_on_timeout.*remove"),
        ({"decode_responses": False}, "decode_responses.*remove"),
        ({"protocol": 3}, "protocol.*remove"),
        ({"sokcet_timeout": 1}, "sokcet_timeout"),
        ({"ssl_ca_certs": "/ca.pem"}, "rediss://"),
    ],
)
def test_an_option_that_cannot_work_is_refused_before_connecting(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"dispatch_redis_options.*{words}"):
        redis_client("redis://localhost", options)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ConnectionError("Error 111"), StoreUnavailable),
        (exceptions.TimeoutError("Timeout"), StoreUnavailable),
        (ConnectionResetError(), StoreUnavailable),
        (exceptions.BusyLoadingError("Redis is loading"), StoreUnavailable),
        (exceptions.ReadOnlyError("You can't write"), StoreUnavailable),
        (exceptions.OutOfMemoryError("command not allowed"), StoreUnavailable),
        *(
            (exceptions.ResponseError(f"{word} some words"), StoreUnavailable)
            for word in (
                "OOM",
                "MISCONF",
                "READONLY",
                "LOADING",
                "CLUSTERDOWN",
                "MASTERDOWN",
                "NOREPLICAS",
                "BUSY",
                "TRYAGAIN",
                "UNKILLABLE",
            )
        ),
        (
            exceptions.ResponseError("Error running script (call to f_0): @user_script:12: -OOM not allowed"),
            StoreUnavailable,
        ),
        (exceptions.AuthenticationError("invalid password"), StoreRefused),
        (exceptions.NoPermissionError("this user has no permissions"), StoreRefused),
        (exceptions.ResponseError("WRONGTYPE Operation"), StoreRefused),
        (exceptions.ResponseError("unknown command"), StoreRefused),
        (exceptions.ResponseError("BUSYGROUP is another word"), StoreRefused),
    ],
    ids=str,
)
def test_the_drivers_errors_become_outages_or_refusals(error: Exception, kind: type[StoreError]) -> None:
    with pytest.raises(kind) as caught, translated():
        raise error

    assert caught.value.__cause__ is error
    assert str(caught.value).endswith(".")


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError


@pytest.mark.parametrize("url", ["redis://:wrong@127.0.0.1:{}/0", "redis://127.0.0.1:{}/0"])
def test_a_wrong_or_missing_password_is_refused_with_the_cure(url: str) -> None:
    with running("valkey", options=("--requirepass", "right")) as server:
        client = redis_client(url.format(server.port), {})
        with pytest.raises(StoreRefused, match="password") as caught, translated():
            client.get("key")
        client.close()
    assert "wrong@" not in str(caught.value)
    assert "where that is not set: broker_url" in str(caught.value)


def test_a_database_that_does_not_exist_is_refused_with_the_cure(server: Server) -> None:
    client = redis_client(server.url.replace("/0", "/9999"), {})
    with pytest.raises(StoreRefused, match="database"), translated():
        client.get("key")
    client.close()


@pytest.mark.parametrize("command", ["redis.call('SET', KEYS[1], '1')", ""])
def test_a_server_that_was_demoted_is_left(command: str) -> None:
    with running("redis") as server:
        client: Any = redis_client(server.url, {})
        script = client.register_script(command)
        first = client.client_id()
        client.replicaof("127.0.0.1", 1)
        assert client.client_id() == first
        with pytest.raises(StoreUnavailable, match="READONLY"), translated():
            script(keys=["key"]) if command else client.set("key", "1")
        assert client.client_id() != first
        client.close()


# --- one server or two --------------------------------------------------------------------------------------


def test_clients_of_one_database_share_a_server(server: Server) -> None:
    by_name = server.url.replace("127.0.0.1", "localhost")
    first, second, other = (redis_client(url, {}) for url in (server.url, by_name, server.url[:-1] + "1"))

    assert same_server(first, second)
    assert not same_server(first, other)
    for client in (first, second, other):
        client.close()


def test_two_servers_are_not_one(server: Server) -> None:
    with running("valkey") as another:
        first, second = redis_client(server.url, {}), redis_client(another.url, {})
        assert not same_server(first, second)
        another.kill()
        with pytest.raises(StoreUnavailable):
            same_server(first, second)
        first.close()
        second.close()


def test_one_socket_and_one_port_of_a_server_are_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with running("valkey", options=("--unixsocket", str(path))) as server:
        clients = [redis_client(url, {}) for url in (server.url, f"unix://{path}", f"redis+socket://{path}")]
        assert same_server(clients[0], clients[1])
        assert same_server(clients[1], clients[2])
        for client in clients:
            client.close()


def test_where_info_is_not_allowed_the_address_decides() -> None:
    with running("valkey") as server, running("valkey") as another:
        for each in (server, another):
            admin: Any = redis_client(each.url, {})
            admin.execute_command("ACL", "SETUSER", "default", "-info")
            admin.close()
        by_name = server.url.replace("127.0.0.1", "localhost")
        first, second, other = (redis_client(url, {}) for url in (server.url, by_name, another.url))
        assert same_server(first, second)
        assert not same_server(first, other)
        for client in (first, second, other):
            client.close()


# --- the leak check -----------------------------------------------------------------------------------------


def test_the_leak_check_finds_what_is_neither_permanent_nor_declared(client: Any, keys: Keys) -> None:
    client.set("leak", "1")
    client.set("short", "1", ex=60)
    client.lpush("celery", "1")
    client.lpush("celery\x06\x163", "1")
    client.hset(keys.pool, "schema", "1")

    assert leaked_keys(client, keys) == ["celery", "celery\x06\x163", "leak"]
    assert leaked_keys(client, keys, ["celery*"]) == ["leak"]
    assert leaked_keys(client, Keys("another"), ["celery*"]) == ["leak", keys.pool]
    client.flushall()


NAMES = ("pool", "nodes", "members", "cursor", "entries", "changes", "intents", "attempts")


def test_every_key_has_the_prefix_as_its_hash_tag() -> None:
    keys = Keys("some prefix")

    assert keys.permanent == {f"{{some prefix}}:{name}" for name in NAMES}
    assert keys.wake == "{some prefix}:wake"
