"""Whose pool it is: the app and its broker in one line."""

from __future__ import annotations

import re
from typing import Any

from celery import Celery
from kombu import Connection

__all__ = ["IN_SHADOW", "identity_of"]

#: How the identity of a pool ends whose nodes send nothing.
IN_SHADOW = " in shadow"

_FAMILIES = {
    "amqp": "amqp",
    "amqps": "amqp",
    "librabbitmq": "amqp",
    "pyamqp": "amqp",
    "redis": "redis",
    "rediss": "redis",
    "sentinel": "redis",
    "unix": "redis",
}


def identity_of(app: Celery, *, shadow: bool = False) -> str:
    """App and broker for people and for comparison, such as ``proj on amqp /`` or ``proj on redis db 0``.

    In ``shadow`` mode it says so too: nodes that send nothing never share a pool with nodes that do.

    Names the family of the transport and the virtual host or database; never a password, a host, a port or
    an order of hosts.  Connects to nothing.  One line, printable.
    """
    connection = app.connection_for_write()
    name = _transport_name(connection)
    family = _FAMILIES.get(name, name)
    where = f"db {_database(connection)}" if family == "redis" else str(connection.virtual_host or "/")
    line = f"{app.main or ''} on {family} {where}{IN_SHADOW if shadow else ''}".strip()
    return "".join(each if each.isprintable() else "?" for each in line)


def _transport_name(connection: Connection) -> str:
    kind: Any = connection.transport_cls
    return kind.lower() if isinstance(kind, str) else str(getattr(kind, "driver_type", kind))


def _database(connection: Connection) -> str:
    """The number of the Redis database, which a socket's URL names in its query."""
    host = str(connection.hostname or "")
    if "://" in host:
        found = re.search(r"[?&](?:virtual_host|db)=/?([^&]*)", host)
        return (found[1] if found else "") or "0"
    return str(connection.virtual_host or "/").strip("/") or "0"
