"""Connections that ask, each time before they connect, which server they are to connect to.

The master of a group is asked of its Sentinels, the node that holds this package's keys of the Cluster's
nodes: all keys of a pool share one slot, so one node serves them all, and a plain client is enough.

A connection stays where it is while the server serves.  It is given up, so that the next command asks anew,
as soon as the server answers that it is not the one any more: ``READONLY`` from a demoted master,
``MOVED``, ``ASK`` and ``CLUSTERDOWN`` from a Cluster's node.  What was not carried out then is reported as an
outage.  A server that answers nothing at all is left by ``socket_timeout``.

A master that Sentinels have replaced may not know it for ten seconds, and takes writes until then.  So they
are asked again once a second; where none of them answers, the connection is kept.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import redis
from redis import exceptions
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.crc import key_slot
from redis.sentinel import MasterNotFoundError, Sentinel

from celery_dispatch.redis_store.driver_errors import error_text, leading_word
from celery_dispatch.sentinels import explained

__all__ = [
    "Address",
    "ClusterLocator",
    "LocatedConnection",
    "LocatedPool",
    "LocatedTLSConnection",
    "Locator",
    "SentinelLocator",
]

logger = logging.getLogger(__name__)

Address = tuple[str, int]

_LEFT = frozenset({"READONLY", "MOVED", "ASK", "CLUSTERDOWN"})
_ASK_AGAIN = 1.0  # seconds
_ASK_LATER = 10.0  # seconds, after nobody answered: each try may take as long as all timeouts together


class Locator(Protocol):
    """Knows whom to ask where the server is; raises redis-py's errors."""

    #: Whether a server that is not the one any more may go on as if it were.
    must_be_asked_again: bool

    def __call__(self) -> Address: ...

    def close(self) -> None: ...


# --- connections --------------------------------------------------------------------------------------------


class LocatedPool(ConnectionPool):
    """redis-py's pool, which closes its locator with its connections."""

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        super().disconnect(*args, **kwargs)
        locator = self.connection_kwargs.get("locator")
        if locator is not None:
            locator.close()


class _Locating:
    """What both connections add to redis-py's; ``locator`` is ``None`` where the address is known."""

    def __init__(self, *, locator: Locator | None = None, **kwargs: Any) -> None:
        self._locator = locator
        self._ask_at = 0.0
        super().__init__(**kwargs)

    def connect(self) -> None:
        """Called for each command; connects, or sees to it that this is still the right server."""
        this: Any = self
        if self._locator is not None:
            if this._sock is not None and self._was_replaced(self._locator, (this.host, this.port)):
                this.disconnect()
            if this._sock is None:
                this.host, this.port = self._locator()
                self._ask_at = time.monotonic() + _ASK_AGAIN
        super().connect()  # type: ignore[misc]

    def _was_replaced(self, locator: Locator, here: Address) -> bool:
        if not locator.must_be_asked_again or time.monotonic() < self._ask_at:
            return False
        try:
            found = locator()
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            self._ask_at = time.monotonic() + _ASK_LATER
            return False
        self._ask_at = time.monotonic() + _ASK_AGAIN
        return found != here

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        this: Any = self
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except exceptions.ResponseError as error:
            word = leading_word(error_text(error))
            if word not in _LEFT:
                raise
            this.disconnect()
            if self._locator is None and word in ("MOVED", "ASK"):
                raise
            raise exceptions.ConnectionError(f"{error_text(error)}: another server serves now") from error


class LocatedConnection(_Locating, Connection):
    """A connection over TCP."""


class LocatedTLSConnection(_Locating, SSLConnection):
    """A connection over TCP with TLS."""


# --- locators -----------------------------------------------------------------------------------------------


class SentinelLocator:
    """Finds the master of ``name``; asks the Sentinels in turn, beginning with the last that knew it.

    ``says_master``: it logs when they name another one than before.
    """

    must_be_asked_again = True

    def __init__(
        self,
        hosts: Sequence[Address],
        name: str,
        *,
        others: int,
        options: Mapping[str, Any],
        says_master: bool = False,
    ) -> None:
        self._name = name
        self._says_master = says_master
        self._master: Address | None = None
        sentinel: Any = Sentinel  # not typed
        self._sentinel = sentinel(list(hosts), min_other_sentinels=others, sentinel_kwargs=dict(options))

    def __call__(self) -> Address:
        try:
            host, port = self._sentinel.discover_master(self._name)
        except MasterNotFoundError as error:
            raise explained(error) from error
        found, before = (str(host), int(port)), self._master
        self._master = found
        if self._says_master and before not in (None, found):
            logger.warning(
                "The Sentinels name another master of %r: %s:%d, and no more %s:%d",
                self._name, *found, *before,
            )  # fmt: skip
        return found

    def close(self) -> None:
        for sentinel in self._sentinel.sentinels:
            sentinel.close()


class ClusterLocator:
    """Finds the node that holds the slot of ``key``; asks any node that it knows, in no order.

    No order, since a node that was cut off from the others answers as well, and is wrong.
    """

    must_be_asked_again = False  # a node that lost its slots says so, one that lost the others stops serving

    def __init__(self, hosts: Sequence[Address], key: str, connect: Callable[[Address], redis.Redis]) -> None:
        self._hosts = tuple(hosts)
        self._known: frozenset[Address] = frozenset(hosts)
        self._slot = key_slot(key.encode())
        self._connect = connect

    def __call__(self) -> Address:
        last: Exception = exceptions.ConnectionError("no node of the Cluster is known")
        for host in _shuffled({*self._known, *self._hosts}):
            try:
                return self._ask(host)
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                if isinstance(error, exceptions.AuthenticationError):
                    raise
                last = error
        raise last

    def close(self) -> None:
        """Nothing is kept open."""

    def _ask(self, asked: Address) -> Address:
        client = self._connect(asked)
        try:
            ranges: list[Any] = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
        finally:
            client.close()
        self._known = frozenset(_address(node, asked) for row in ranges for node in row[2:])
        for first, last, master, *_ in ranges:
            if first <= self._slot <= last:
                return _address(master, asked)
        raise exceptions.ConnectionError(f"no node of the Cluster serves slot {self._slot}")


def _address(node: Sequence[Any], asked: Address) -> Address:
    """Where a node can be reached; one that does not say so is where it was asked."""
    host = str(node[0] or "")
    return (asked[0] if host in ("", "?") else host), int(node[1])


def _shuffled(hosts: Iterable[Address]) -> list[Address]:
    found = sorted(hosts)
    random.shuffle(found)
    return found
