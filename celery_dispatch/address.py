"""Where a Redis is, as people write it: one server, a socket, Sentinels, or a Cluster.

::

    redis://[user:password@]host[:6379][/0]        rediss://… with TLS
    unix://[user:password@]/path/to/socket[?db=0]  socket:// and redis+socket:// as kombu writes them
    sentinel://[user:password@]host[:26379];sentinel://host[:26379][/0]
    redis+cluster://[user:password@]host[:6379],host[:6379]    rediss+cluster://… with TLS

Hosts are separated by ``;`` or ``,``, each with or without the scheme.  What follows ``?`` are options of the
client.  Nothing here connects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["NAMED_BY", "Deployment", "InvalidAddress", "RedisAddress", "parse_address"]

#: The setting to look at, for people who may have set none of this package's.
NAMED_BY = "dispatch_redis_url (where that is not set: broker_url)"


class InvalidAddress(ValueError):
    """A URL that names no Redis; the text is the cure and holds nothing of the URL but its scheme."""


class Deployment(Enum):
    """How a Redis is run, which decides how it is found and what may be asked of it."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A URL, taken apart.

    ``hosts`` are those to ask first: the server, the Sentinels, some nodes of the Cluster; empty if ``path``
    names a socket.  User, password and ``options`` (the URL's query, as text) stay out of the ``repr``.
    """

    deployment: Deployment
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


_SCHEMES: Mapping[str, tuple[Deployment, bool]] = {
    "redis": (Deployment.SERVER, False),
    "rediss": (Deployment.SERVER, True),
    "sentinel": (Deployment.SENTINEL, False),
    "redis+cluster": (Deployment.CLUSTER, False),
    "rediss+cluster": (Deployment.CLUSTER, True),
}
_SOCKETS = ("unix", "socket", "redis+socket")
_PORTS = {Deployment.SERVER: 6379, Deployment.SENTINEL: 26379, Deployment.CLUSTER: 6379}


def parse_address(url: str) -> RedisAddress:
    """The Redis that ``url`` names; raises ``InvalidAddress`` with the cure."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or (scheme not in _SCHEMES and scheme not in _SOCKETS):
        raise InvalidAddress(
            "must begin with redis://, rediss://, unix://, sentinel://, redis+cluster:// or rediss+cluster://"
        )
    try:
        if scheme in _SOCKETS:
            return _socket(rest)
        return _one(scheme, rest) if scheme in ("redis", "rediss") else _several(scheme, rest)
    except InvalidAddress:
        raise
    except ValueError:
        raise InvalidAddress("host and port cannot be read; percent-encode the password") from None


def _socket(rest: str) -> RedisAddress:
    parts = urlsplit("//" + rest)
    options = dict(parse_qsl(parts.query))
    database = options.pop("db", options.pop("virtual_host", "0"))
    if not parts.path.strip("/") or parts.hostname:
        raise InvalidAddress("names no socket; write unix:///path/to/redis.sock?db=0")
    return RedisAddress(
        Deployment.SERVER,
        path=unquote(parts.path),
        database=_database(database),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        options=MappingProxyType(options),
    )


def _one(scheme: str, rest: str) -> RedisAddress:
    if re.search(r"[;,]\s*rediss?://", rest, re.IGNORECASE):
        raise InvalidAddress(
            "names several servers; name one, or the Sentinels that know the master (sentinel://), or a "
            "Cluster (redis+cluster://)"
        )
    return _together(scheme, [rest.partition("?")[0]], rest.partition("?")[2])


def _several(scheme: str, rest: str) -> RedisAddress:
    hosts, _, query = rest.partition("?")
    parts = [_without_scheme(part, scheme) for part in re.split("[;,]", hosts)]
    return _together(scheme, [part for part in parts if part] or [""], query)


def _without_scheme(part: str, scheme: str) -> str:
    found, separator, rest = part.strip().rpartition("://")
    if separator and found.lower() != scheme:
        raise InvalidAddress(f"must name each host by {scheme}:// or without a scheme")
    return rest


def _together(scheme: str, parts: list[str], query: str) -> RedisAddress:
    deployment, tls = _SCHEMES[scheme]
    if "://" in query:
        raise InvalidAddress("must have its options once, behind the last host")
    read = [urlsplit("//" + part) for part in parts]
    options = dict(parse_qsl(query))
    databases = {part.path.strip("/") for part in read} - {""}
    database = _database(_agreed(databases, "database") or options.pop("db", "0"))
    logins = {part.netloc.rpartition("@")[0] for part in read} - {""}
    user, _, password = _agreed(logins, "user and password").partition(":")
    if deployment is Deployment.CLUSTER and database:
        raise InvalidAddress("must not name a database other than 0: a Cluster has only that")
    return RedisAddress(
        deployment,
        hosts=tuple(
            (unquote(part.hostname or "localhost"), part.port or _PORTS[deployment]) for part in read
        ),
        database=database,
        username=unquote(user),
        password=unquote(password),
        tls=tls,
        options=MappingProxyType(options),
    )


def _agreed(values: set[str], what: str) -> str:
    if len(values) > 1:
        raise InvalidAddress(f"names more than one {what}; write it once")
    return values.pop() if values else ""


def _database(text: str) -> int:
    text = text.strip("/") or "0"
    if not (text.isascii() and text.isdecimal()):
        raise InvalidAddress("the part after the host must be the number of a database, such as /0")
    return int(text)
