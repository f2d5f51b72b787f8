"""The one place that makes Redis clients.

Nothing is left to redis-py's defaults, which differ between its versions: timeouts are short, nothing is
tried twice (an unknown outcome is settled by the protocol, not by the driver), answers are text, and TLS
verifies certificate and host name.  A byte that is not UTF-8 becomes U+FFFD, which no row that this package
writes holds.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection, parse_url
from redis.retry import Retry

from celery_dispatch.address import Deployment, InvalidAddress, RedisAddress, parse_address
from celery_dispatch.errors import ConfigError, StoreRefused
from celery_dispatch.redis_store.driver_errors import error_text, is_outage, translated
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.located import (
    Address,
    ClusterLocator,
    LocatedConnection,
    LocatedPool,
    LocatedTLSConnection,
    Locator,
    SentinelLocator,
)

__all__ = ["behind_sentinels", "error_text", "is_outage", "redis_client", "same_server", "translated"]

_DEFAULTS = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0}
_TO_LOCATE = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
_DECIDED = {"protocol": 2, "decode_responses": True, "encoding": "utf-8", "encoding_errors": "replace"}
_NOT_FREE = frozenset({*_DECIDED, "retry", "retry_on_error", "retry_on_timeout", "single_connection_client"})
_OF_SENTINEL = ("master_name", "sentinel_kwargs", "min_other_sentinels")
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_REQUIREMENTS: Mapping[str, ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


# --- clients ------------------------------------------------------------------------------------------------


def redis_client(
    url: str, options: Mapping[str, Any], *, key_prefix: str = "celery-dispatch", says_master: bool = False
) -> redis.Redis:
    """A client for the Redis of ``url``; connects with its first command.

    ``url`` is what ``celery_dispatch.address`` reads.  ``options`` are keyword arguments of redis-py's
    connections, ``ssl_*`` included, and those of Sentinel as kombu names them; they win over the default
    timeouts of 2 s, and 1 s to connect.  In a Cluster the client serves the keys of ``key_prefix`` and no
    others.  ``says_master``: it logs when Sentinels name another one.  Raises ``ConfigError`` for what cannot
    work, without showing a password.
    """
    try:
        address = parse_address(url)
    except InvalidAddress as wrong:
        raise ConfigError(f"dispatch_redis_url {wrong}") from None
    given = {**options, **_of_url(address)}
    if address.path:
        return _client(UnixDomainSocketConnection, {**given, "path": address.path})
    if address.deployment is Deployment.SERVER:
        return _over_tcp({**given, **_named(address.hosts[0])}, tls=address.tls)
    if address.deployment is Deployment.CLUSTER:
        node = partial(_node, given, address.tls)
        locator: Locator = ClusterLocator(address.hosts, Keys(key_prefix).pool, node)
        return _over_tcp({**given, "locator": locator}, tls=address.tls)
    of_sentinel = {name: given.pop(name) for name in _OF_SENTINEL if name in given}
    tls = given.pop("ssl", False) or any(name.startswith("ssl_") for name in given)
    return _over_tcp({**given, "locator": _sentinels(address, of_sentinel, says_master)}, tls=bool(tls))


def _of_url(address: RedisAddress) -> dict[str, Any]:
    """The arguments of redis-py that a URL gives: its query, with its types, login and database."""
    try:
        parse: Any = parse_url  # not typed
        query = parse("redis://?" + urlencode(address.options))
    except ValueError as error:
        raise ConfigError(f"dispatch_redis_url: {error}") from None
    login = {"username": address.username, "password": address.password}
    query.update({name: value for name, value in login.items() if value})
    return {**query, **({"db": address.database} if address.database else {})}


def _over_tcp(given: Mapping[str, Any], *, tls: bool) -> redis.Redis:
    return _client(LocatedTLSConnection if tls else LocatedConnection, _verifying(given) if tls else given)


def _client(kind: type[Any], given: Mapping[str, Any]) -> redis.Redis:
    for name in sorted(_NOT_FREE.intersection(given)):
        raise ConfigError(f"dispatch_redis_options: {name!r} is decided by celery-dispatch itself; remove it")
    arguments = {**_DEFAULTS, **given, **_DECIDED, "retry": Retry(NoBackoff(), 0)}
    if kind is UnixDomainSocketConnection:
        arguments.pop("socket_connect_timeout")
    pool = LocatedPool(connection_class=kind, **arguments)
    try:
        kind(**pool.connection_kwargs)  # opens nothing, and finds an option that it does not know
    except (TypeError, ValueError, exceptions.RedisError) as error:
        raise ConfigError(
            f"dispatch_redis_options: {error}. Options are those of redis-py's connections; ssl_* go with "
            "rediss://, those of Sentinel with sentinel://"
        ) from error
    return redis.Redis.from_pool(pool)


def _named(host: Address) -> dict[str, Any]:
    return {"host": host[0], "port": host[1]}


def _node(given: Mapping[str, Any], tls: bool, host: Address) -> redis.Redis:
    """A client of one node of a Cluster, to ask it where the keys are."""
    return _over_tcp({**_TO_LOCATE, **given, **_named(host)}, tls=tls)


def _sentinels(address: RedisAddress, options: Mapping[str, Any], says_master: bool) -> SentinelLocator:
    name, of_connections = options.get("master_name"), options.get("sentinel_kwargs") or {}
    if not name:
        raise ConfigError(
            "dispatch_redis_options lacks 'master_name': the name under which the Sentinels know the master"
        )
    try:
        return SentinelLocator(
            address.hosts,
            str(name),
            others=int(options.get("min_other_sentinels", 0)),
            options={**_TO_LOCATE, **_verifying(of_connections), **_DECIDED, "retry": Retry(NoBackoff(), 0)},
            says_master=says_master,
        )
    except (TypeError, ValueError, exceptions.RedisError) as error:
        raise ConfigError(f"dispatch_redis_options: sentinel_kwargs: {error}") from error


def _verifying(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of TLS, verifying unless they say otherwise, and as Celery's documentation writes them."""
    wanted = given.get("ssl_cert_reqs", ssl.CERT_REQUIRED)
    for name in _FILES:
        if given.get(name) and not os.path.exists(given[name]):
            raise ConfigError(f"dispatch_redis_options: {name} = {given[name]!r} does not exist")
    plain = str(wanted).removeprefix("CERT_").lower()
    required = _REQUIREMENTS.get(plain, wanted if wanted is not None else ssl.CERT_NONE)
    check = given.get("ssl_check_hostname", True) and required != ssl.CERT_NONE
    return {**given, "ssl_cert_reqs": required, "ssl_check_hostname": check}


# --- one server or two --------------------------------------------------------------------------------------


def same_server(a: redis.Redis, b: redis.Redis) -> bool:
    """Whether both clients use one database of one server, so that a script can write to both.

    Asked on live connections, by the server's ``run_id``, or by address where INFO is not allowed to one of
    them.  Never so in a Cluster, where a script reaches the keys of one slot only.  Raises ``StoreError``.
    """
    if _database(a) != _database(b) or _in_cluster(a) or _in_cluster(b):
        return False
    ids = _run_id(a), _run_id(b)
    if None in ids:
        return _address_of(a) == _address_of(b)
    return ids[0] == ids[1]


def _in_cluster(client: redis.Redis) -> bool:
    pool = getattr(client, "connection_pool", None)  # redis-py's client of a Cluster has none
    return pool is None or isinstance(pool.connection_kwargs.get("locator"), ClusterLocator)


def behind_sentinels(client: redis.Redis) -> bool:
    """Whether Sentinels say which server it is."""
    pool = getattr(client, "connection_pool", None)
    return pool is not None and isinstance(pool.connection_kwargs.get("locator"), SentinelLocator)


def _run_id(client: redis.Redis) -> str | None:
    try:
        with translated():
            info: Any = client.info("server")
    except StoreRefused as error:
        if isinstance(error.__cause__, exceptions.ResponseError):
            return None
        raise
    return str(info["run_id"]) if info.get("run_id") else None


def _database(client: redis.Redis) -> int:
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


@translated()
def _address_of(client: redis.Redis) -> tuple[object, ...]:
    pool: Any = client.connection_pool
    kwargs = pool.connection_kwargs
    if kwargs.get("path"):
        return (kwargs["path"],)
    host, port = kwargs.get("host"), kwargs.get("port")
    locate: Callable[[], Address] | None = kwargs.get("locator") or getattr(pool, "get_master_address", None)
    if locate is not None:
        host, port = locate()
    name = str(host or "localhost").lower()
    return ("127.0.0.1" if name == "localhost" else name, int(port or 6379))
