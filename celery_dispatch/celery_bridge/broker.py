"""The broker's address, as the dispatch Redis takes it over and as people may see it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

__all__ = ["masked", "objection", "redis_of"]

_SCHEMES = ("redis", "rediss", "unix")
_LATER_SCHEMES = ("sentinel", "sentinels", "redis+sentinel", "redis+cluster", "rediss+cluster")


def objection(url: str) -> str | None:
    """Why ``url`` cannot name the dispatch Redis, with the cure; ``None`` if it can."""
    scheme, separator, _ = url.partition("://")
    if scheme.lower() in _LATER_SCHEMES:
        return (
            "Sentinel and Cluster are not supported by this version; use the URL of one server, "
            "redis://, rediss:// or unix://"
        )
    if not separator or scheme.lower() not in _SCHEMES:
        return "must begin with redis://, rediss:// or unix://"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "host and port cannot be read; percent-encode the password"
    path = parts.path.strip("/")
    if scheme.lower() == "unix":
        return None if path else "names no socket; write unix:///path/to/redis.sock?db=0"
    if path and not path.isdecimal():
        return "the part after the host must be the number of a database, such as /0"
    return None


def redis_of(connection: Any) -> tuple[str, dict[str, Any]]:
    """The Redis of a kombu connection: a URL that redis-py reads, and the options that TLS needs."""
    host = connection.hostname or "127.0.0.1"
    options = dict(connection.ssl) if isinstance(connection.ssl, Mapping) else {}
    if host.startswith("socket://"):
        url, _, query = host[len("socket://") :].partition("?")
        found = re.search(r"(?:^|&)virtual_host=/?(\d+)(?:&|$)", query)
        return f"unix://{url}?db={found[1] if found else 0}", options
    scheme = "rediss" if connection.ssl or connection.transport_cls == "rediss" else "redis"
    user, password = connection.userid or "", connection.password or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    database = str(connection.virtual_host or "/").strip("/") or "0"
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{login}{bracketed}:{connection.port or 6379}/{quote(database)}", options


def masked(url: str) -> str:
    """``url`` without user, password and query, fit for logs and messages."""
    without_login = re.sub(r"^([\w+.-]*://)?.*@", r"\1**@", url, flags=re.S)
    return re.sub(r"\?.*", "?…", without_login, flags=re.S)
