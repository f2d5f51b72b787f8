"""The worlds that each contract is tested in: memory, and each real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import pytest
import redis

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Damaged, Heartbeat, Ledger, MemberState, Pool
from celery_dispatch.redis_store.codec import encode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.testing import MemoryLedger, MemoryPool, MemoryStore
from tests.servers import KINDS, Server

LEASE = timedelta(seconds=10)


class World(Protocol):
    """A store with its two ports, and the means to set a scene in it."""

    pool: Pool
    ledger: Ledger

    def now(self) -> datetime: ...

    def let_pass(self, seconds: float) -> None:
        """Nothing happens for ``seconds``; if negative, the server's clock is put back.

        Instants that were read before, the fence among them, are no longer true.
        """

    def lapse(self, node: str) -> None:
        """The lease of ``node`` runs out."""

    def queue(self, key: str) -> list[str]:
        """The messages of a queue, the oldest first."""

    def refuse(self, key: str) -> None:
        """The queue takes no messages."""

    def put_cursor(self, name: str, cursor: Cursor | str | None) -> None:
        """Write a cursor past the contract; text is a row that is none, ``None`` removes it."""


class MemoryWorld:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.pool: Pool = MemoryPool(self.store)
        self.ledger: Ledger = MemoryLedger(self.store)

    def now(self) -> datetime:
        return self.store.now()

    def let_pass(self, seconds: float) -> None:
        if seconds > 0:
            self.store.clock.advance(seconds)
        else:
            self.store.step(seconds)

    def lapse(self, node: str) -> None:
        member = self.store.members[node]
        self.store.members[node] = replace(member, lease_end=self.now())

    def queue(self, key: str) -> list[str]:
        return [str(message) for message in self.store.queues.get(key, [])]

    def refuse(self, key: str) -> None:
        self.store.refused.add(key)

    def put_cursor(self, name: str, cursor: Cursor | str | None) -> None:
        if cursor is None:
            del self.store.cursors[name]
        else:
            self.store.cursors[name] = Damaged(cursor, "a test") if isinstance(cursor, str) else cursor


class RedisWorld:
    def __init__(self, client: redis.Redis, keys: Keys, queues: set[str]) -> None:
        self.client: Any = client
        self.keys = keys
        self.queues = queues
        self.pool: Pool = RedisPool(client, keys)
        self.ledger: Ledger = RedisLedger(client, keys)

    def now(self) -> datetime:
        seconds, micros = self.client.time()
        return datetime.fromtimestamp(seconds, tz=timezone.utc) + timedelta(microseconds=micros)

    def let_pass(self, seconds: float) -> None:
        """The clock cannot be moved, so all that is stored is."""
        ms = round(seconds * 1000)
        for field in ("beat_at", "no_trim_until", "since"):
            if self.client.hexists(self.keys.pool, field):
                self.client.hincrby(self.keys.pool, field, -ms)
        for node in self.client.zrange(self.keys.nodes, 0, -1):
            self.client.zincrby(self.keys.nodes, -ms, node)
        for node, row in self.client.hgetall(self.keys.members).items():
            member = json.loads(row)
            self.client.hset(self.keys.members, node, json.dumps({**member, "joined": member["joined"] - ms}))

    def lapse(self, node: str) -> None:
        self.client.zadd(self.keys.nodes, {node: int(self.now().timestamp() * 1000)}, xx=True)

    def queue(self, key: str) -> list[str]:
        self.queues.add(key)
        return list(reversed(self.client.lrange(key, 0, -1)))

    def refuse(self, key: str) -> None:
        self.queues.add(key)
        self.client.set(key, "not a list")

    def put_cursor(self, name: str, cursor: Cursor | str | None) -> None:
        if cursor is None:
            self.client.hdel(self.keys.cursor, name)
        else:
            row = cursor if isinstance(cursor, str) else encode_cursor(cursor)
            self.client.hset(self.keys.cursor, name, row)


@pytest.fixture(params=["memory", *KINDS])
def world(
    request: pytest.FixtureRequest,
    server_of: Callable[[str], Server],
    clean: Callable[[Server], redis.Redis],
    keys: Keys,
    queues: set[str],
) -> World:
    """The store in memory and on each server, in turn."""
    if request.param == "memory":
        return MemoryWorld()
    return RedisWorld(clean(server_of(request.param)), keys, queues)


@pytest.fixture
def real(client: redis.Redis, keys: Keys, queues: set[str]) -> RedisWorld:
    """Each server in turn, for what only a server can do."""
    return RedisWorld(client, keys, queues)


@pytest.fixture
def beat() -> Callable[..., Heartbeat]:
    """``beat("a", config="v1", ...)``: a heartbeat."""

    def beat(node: str, **changes: Any) -> Heartbeat:
        plain = Heartbeat(node, f"host-of-{node}", "v1", MemberState.STEADY, LEASE, {"pid": 1})
        return replace(plain, **changes)

    return beat
