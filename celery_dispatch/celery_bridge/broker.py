"""The broker's address, as the dispatch Redis takes it over and as people may see it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kombu.utils.imports import symbol_by_name
from kombu.utils.url import url_to_parts

__all__ = ["is_redis", "masked", "redis_of"]

_REDIS = ("redis", "rediss", "sentinel")
_OF_SENTINEL = ("master_name", "sentinel_kwargs", "min_other_sentinels")


def is_redis(connection: Any) -> bool:
    """Whether a kombu connection leads to a Redis."""
    return connection.transport_cls in _REDIS


def redis_of(connection: Any) -> tuple[str, dict[str, Any]]:
    """The Redis of a kombu connection: a URL for the dispatch Redis, and its options.

    Read as kombu reads it: TLS is used if there are options for it, as they are; user, password and database
    are those of the first host.
    """
    options = dict(connection.ssl) if isinstance(connection.ssl, Mapping) else {}
    provider = getattr(connection, "credential_provider", None)  # from kombu 5.6 on
    if provider:
        options["credential_provider"] = _made(provider)
    host = connection.hostname or "127.0.0.1"
    if host.startswith("socket://"):
        url, _, query = host[len("socket://") :].partition("?")
        found = re.search(r"(?:^|&)virtual_host=/?(\d+)(?:&|$)", query)
        return f"unix://{url}?db={found[1] if found else 0}", options
    user, password = connection.userid or "", connection.password or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    database = quote(str(connection.virtual_host or "/").strip("/") or "0")
    if connection.transport_cls == "sentinel":
        given = connection.transport_options or {}
        options.update({name: given[name] for name in _OF_SENTINEL if given.get(name)})
        return f"sentinel://{login}{';'.join(_sentinels(connection))}/{database}", options
    scheme = "rediss" if connection.ssl and isinstance(connection.ssl, Mapping) else "redis"
    return f"{scheme}://{login}{_host(host, connection.port or 6379)}/{database}", options


def _made(provider: Any) -> Any:
    """A credential provider as kombu takes it: an object, or the name of its class."""
    return symbol_by_name(provider)() if isinstance(provider, str) else provider


def _sentinels(connection: Any) -> list[str]:
    urls = [url_to_parts(url) for url in connection.alt] or [connection]
    return [_host(url.hostname or "127.0.0.1", url.port or 26379) for url in urls]


def _host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def masked(url: str) -> str:
    """``url`` without user, password and query, fit for logs and messages."""
    without_login = re.sub(r"^([\w+.-]*://)?.*@", r"\1**@", url, flags=re.S)
    return re.sub(r"\?.*", "?…", without_login, flags=re.S)
