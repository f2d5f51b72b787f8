"""The one place that makes Redis clients, and that turns redis-py's errors into ours.

Nothing is left to redis-py's defaults, which differ between its versions: timeouts are short, nothing is
tried twice (an unknown outcome is settled by the protocol, not by the driver), and answers are text.  A byte
that is not UTF-8 becomes U+FFFD, which no row that this package writes holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, UnixDomainSocketConnection, parse_url
from redis.retry import Retry

from celery_dispatch.errors import ConfigError, StoreError, StoreRefused, StoreUnavailable

__all__ = ["error_text", "is_outage", "redis_client", "same_server", "translated"]

_DEFAULTS = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0}
_DECIDED = {"protocol": 2, "decode_responses": True, "encoding": "utf-8", "encoding_errors": "replace"}
_NOT_FREE = frozenset({*_DECIDED, "retry", "retry_on_error", "retry_on_timeout", "single_connection_client"})
_LATER_SCHEMES = frozenset({"sentinel", "sentinels", "redis+sentinel", "redis+cluster", "rediss+cluster"})
_SOCKET_SCHEMES = frozenset({"socket", "redis+socket"})


# --- clients ------------------------------------------------------------------------------------------------


def redis_client(url: str, options: Mapping[str, Any]) -> redis.Redis:
    """A client for the server of ``url``; connects with its first command.

    ``url`` begins with ``redis://``, ``rediss://`` or ``unix://`` (or kombu's ``socket://``).  ``options``
    are keyword arguments of redis-py's connections, ``ssl_*`` included; they win over the default timeouts of
    2 s, and 1 s to connect.  Raises ``ConfigError`` for what cannot work, without showing a password.
    """
    given = {**options, **_parsed(url)}
    for name in sorted(_NOT_FREE.intersection(given)):
        raise ConfigError(f"dispatch_redis_options: {name!r} is decided by celery-dispatch itself; remove it")
    if str(given.get("ssl_cert_reqs")).startswith("CERT_"):  # as Celery's documentation writes it
        given["ssl_cert_reqs"] = str(given["ssl_cert_reqs"])[5:].lower()
    pool = ConnectionPool(**{**_DEFAULTS, **given, **_DECIDED, "retry": Retry(NoBackoff(), 0)})
    _check(pool)
    return redis.Redis.from_pool(pool)


def _parsed(url: str) -> dict[str, Any]:
    scheme = url.partition("://")[0].lower()
    if scheme in _LATER_SCHEMES:
        raise ConfigError(
            f"dispatch_redis_url: {scheme}:// is not supported by this version, it comes with a later one; "
            "name one server by redis://, rediss:// or unix://"
        )
    if scheme in _SOCKET_SCHEMES:
        return _parsed_socket(url)
    try:
        parse: Any = parse_url  # not typed
        return dict(parse(url))
    except ValueError as error:
        cure = "write redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/redis.sock?db=0"
        raise ConfigError(f"dispatch_redis_url: {scheme}://… cannot be read ({error}); {cure}") from None


def _parsed_socket(url: str) -> dict[str, Any]:
    """kombu's way to name a socket: the database is ``virtual_host``."""
    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    database = query.pop("virtual_host", query.pop("db", "0")).strip("/") or "0"
    if not database.isdecimal():
        raise ConfigError(f"dispatch_redis_url: virtual_host={database!r} must be the number of a database")
    login = {"username": parts.username, "password": parts.password}
    return {
        **query,
        **{key: unquote(value) for key, value in login.items() if value},
        "connection_class": UnixDomainSocketConnection,
        "path": unquote(parts.path),
        "db": int(database),
    }


def _check(pool: ConnectionPool) -> None:
    """Make one connection object, which opens nothing, so that an option it does not know is found now."""
    kwargs = pool.connection_kwargs
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        kwargs.pop("socket_connect_timeout", None)
    try:
        pool.connection_class(**kwargs)
    except (TypeError, ValueError, exceptions.RedisError) as error:
        raise ConfigError(
            f"dispatch_redis_options: {error}. Options are those of redis-py's connections; ssl_* go with rediss://"
        ) from error


def same_server(a: redis.Redis, b: redis.Redis) -> bool:
    """Whether both clients use one database of one server, asked on live connections.

    By the server's ``run_id``; by address, where INFO is not allowed to one of them.  Raises ``StoreError``.
    """
    if _database(a) != _database(b):
        return False
    ids = _run_id(a), _run_id(b)
    if None in ids:
        return _address(a) == _address(b)
    return ids[0] == ids[1]


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


def _address(client: redis.Redis) -> tuple[object, ...]:
    kwargs = client.connection_pool.connection_kwargs
    if kwargs.get("path"):
        return (kwargs["path"],)
    host = str(kwargs.get("host") or "localhost").lower()
    return ("127.0.0.1" if host == "localhost" else host, int(kwargs.get("port") or 6379))


# --- errors -------------------------------------------------------------------------------------------------

_LOGIN = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)
_NO_ANSWER = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
_STATES_OF_THE_SERVER = frozenset({"OOM", "MISCONF", "READONLY", "LOADING", "BUSY", "UNKILLABLE"})
_STATES_OF_THE_GROUP = frozenset({"CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN"})
_OUTAGE_WORDS = _STATES_OF_THE_SERVER | _STATES_OF_THE_GROUP
#: redis-py takes the first word off an error that it has a class for; these are those that matter here.
_WORD_OF_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "NoPermissionError": "NOPERM",
    "ClusterCrossSlotError": "CROSSSLOT",
}
_IN_SCRIPT = re.compile(
    r"@user_script:\s*\d+:\s*-?([A-Z]+) "
)  # how Redis 6.2 passes an error out of a script


@contextmanager
def translated() -> Iterator[None]:
    """redis-py's errors leave this context as ``StoreUnavailable`` or ``StoreRefused``; also a decorator."""
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        raise _translation(error) from error


def _translation(error: Exception) -> StoreError:
    text = error_text(error)
    if isinstance(error, _LOGIN) or "unauthenticated" in text:  # a server that got no password
        return StoreRefused(
            f"Redis refused the login ({text}). Check user and password in dispatch_redis_url."
        )
    if isinstance(error, _NO_ANSWER):
        return StoreUnavailable(f"Redis does not answer ({text}).")
    if is_outage(error):
        return StoreUnavailable(f"Redis cannot serve now ({text}).")
    return StoreRefused(f"Redis refused ({text}). {_cure(text)}")


def _cure(text: str) -> str:
    if "NOPERM" in text or "The user executing the script" in text:
        return (
            "Give the Redis user its missing right: to read and write the keys of dispatch_key_prefix and of "
            "the queues, to use the prefix's channel, and the commands of hashes, sorted sets, lists, "
            "scripts and pub/sub."
        )
    if "WRONGTYPE" in text:
        return "Something else uses keys of that name: choose another dispatch_key_prefix, or delete them."
    if "DB index" in text:
        return "The server has no database of that number: change it in dispatch_redis_url."
    return "celery-dispatch needs one Redis from 6.2 on, or Valkey, that runs Lua scripts."


def is_outage(error: Exception) -> bool:
    """Whether trying again may help, and the outcome is unknown."""
    if isinstance(error, _LOGIN):
        return False
    if isinstance(error, _NO_ANSWER):
        return True
    text = error_text(error)
    inner = _IN_SCRIPT.search(text)
    return text.partition(" ")[0] in _OUTAGE_WORDS or bool(inner and inner[1] in _OUTAGE_WORDS)


def error_text(error: Exception) -> str:
    """The server's words, its code included."""
    text = str(error) or type(error).__name__
    word = _WORD_OF_CLASS.get(type(error).__name__, "")
    return text if text.startswith(word) else f"{word} {text}"
