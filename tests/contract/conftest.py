"""The worlds that each contract is tested in: memory, and each real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from secrets import token_hex
from typing import Any, Protocol

import pytest
import redis

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import (
    Change,
    ChangeStatus,
    Damaged,
    Heartbeat,
    Intents,
    Ledger,
    Member,
    MemberState,
    Pool,
    Pulse,
    Rows,
)
from celery_dispatch.core.rows import Row
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.codec import decode_intent, encode_cursor, to_ms
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.redis_store.row_codec import decode_row
from celery_dispatch.redis_store.rows import RedisRows
from celery_dispatch.testing import MemoryIntents, MemoryLedger, MemoryPool, MemoryRows, MemoryStore
from tests.servers import KINDS, Server

LEASE = timedelta(seconds=10)
INTERVAL = timedelta(seconds=2)
HANDOVER = timedelta(seconds=0.5)

#: The fields of the pool that are instants.
INSTANTS = (
    *("identity_at", "since", "before_since", "before_until", "reopened", "swept", "challenger_at"),
    *("vote_at", "beat_at"),
    *("no_trim_until", "recovery_from", "recovery_until"),
)


class World(Protocol):
    """A store with its ports, and the means to set a scene in it."""

    pool: Pool
    ledger: Ledger
    intents: Intents
    rows: Rows

    def now(self) -> datetime: ...

    def let_pass(self, seconds: float) -> None:
        """Nothing happens for ``seconds``; if negative, the server's clock is put back.

        Instants that were read before, the fence among them, are no longer true.
        """

    def lapse(self, node: str) -> None:
        """The lease of ``node`` runs out."""

    def restart(self) -> None:
        """The server is another one from now on, with all that was stored."""

    def flush(self) -> None:
        """All that was stored is lost."""

    def queue(self, key: str) -> list[str]:
        """The messages of a queue, the oldest first."""

    def refuse(self, key: str) -> None:
        """The queue takes no messages."""

    def put_cursor(self, name: str, cursor: Cursor | str | None) -> None:
        """Write a cursor past the contract; text is a row that is none, ``None`` removes it."""

    def put_fence(
        self, fence: Fence, *, before: Fence | None = None, until: datetime | None = None, recovery: str = ""
    ) -> None:
        """Write the config in force, and the one before it with the end of its claims, past the contract."""

    def put_lease(self, node: str, end: datetime) -> None:
        """Let ``node`` be in the pool until ``end``, past the contract."""

    def put_intent(self, field: str, row: str, since: datetime) -> None:
        """Write the row of an intent past the contract."""

    def put_row(self, name: str, row: str | None) -> None:
        """Write the text of a row past the contract; ``None`` removes it."""


class MemoryWorld:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.pool: Pool = MemoryPool(self.store)
        self.ledger: Ledger = MemoryLedger(self.store)
        self.intents: Intents = MemoryIntents(self.store)
        self.rows: Rows = MemoryRows(self.store)

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

    def restart(self) -> None:
        self.store.restart()

    def flush(self) -> None:
        self.store.flush()

    def queue(self, key: str) -> list[str]:
        return [str(message) for message in self.store.queues.get(key, [])]

    def refuse(self, key: str) -> None:
        self.store.refused.add(key)

    def put_cursor(self, name: str, cursor: Cursor | str | None) -> None:
        if cursor is None:
            del self.store.cursors[name]
        else:
            self.store.cursors[name] = Damaged(cursor, "a test") if isinstance(cursor, str) else cursor

    def put_fence(
        self, fence: Fence, *, before: Fence | None = None, until: datetime | None = None, recovery: str = ""
    ) -> None:
        store = self.store
        store.seen_on, store.fence, store.recovery = store.server, fence, recovery
        store.before, store.before_until = before, until

    def put_lease(self, node: str, end: datetime) -> None:
        self.store.members[node] = Member(
            id=node,
            host="",
            config="",
            identity="",
            state=MemberState.STEADY,
            draining=False,
            joined=self.now(),
            lease_end=end,
            info={},
        )

    def put_intent(self, field: str, row: str, since: datetime) -> None:
        self.store.intents[field] = decode_intent(field, row)

    def put_row(self, name: str, row: str | None) -> None:
        if row is None:
            del self.store.rows[name]
        else:
            self.store.rows[name] = decode_row(row)


class RedisWorld:
    def __init__(self, client: redis.Redis, keys: Keys, queues: set[str]) -> None:
        self.client: Any = client
        self.keys = keys
        self.queues = queues
        self.pool: Pool = RedisPool(client, keys)
        self.ledger: Ledger = RedisLedger(client, keys)
        self.intents: Intents = RedisIntents(client, keys)
        self.rows: Rows = RedisRows(client, keys)

    def now(self) -> datetime:
        seconds, micros = self.client.time()
        return datetime.fromtimestamp(seconds, tz=timezone.utc) + timedelta(microseconds=micros)

    def let_pass(self, seconds: float) -> None:
        """The clock cannot be moved, so all that is stored is."""
        ms = round(seconds * 1000)
        for field in INSTANTS:
            if self.client.hget(self.keys.pool, field):
                self.client.hincrby(self.keys.pool, field, -ms)
        for node in self.client.zrange(self.keys.nodes, 0, -1):
            self.client.zincrby(self.keys.nodes, -ms, node)
        for node, row in self.client.hgetall(self.keys.members).items():
            member = json.loads(row)
            self.client.hset(self.keys.members, node, json.dumps({**member, "joined": member["joined"] - ms}))

    def lapse(self, node: str) -> None:
        self.client.zadd(self.keys.nodes, {node: int(self.now().timestamp() * 1000)}, xx=True)

    def restart(self) -> None:
        """The server stays, so the pool is told that it was on another one."""
        self.client.hset(self.keys.pool, "run_id", "another")

    def flush(self) -> None:
        self.client.flushall()

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

    def put_fence(
        self, fence: Fence, *, before: Fence | None = None, until: datetime | None = None, recovery: str = ""
    ) -> None:
        fields: dict[str, str | int] = {
            "config": fence.config,
            "since": to_ms(fence.since),
            "before_config": before.config if before else "",
            "before_since": to_ms(before.since) if before else "",
            "before_until": to_ms(until) if until else "",
            "run_id": self.client.info("server")["run_id"],
            "recovery": recovery,
        }
        self.client.hset(self.keys.pool, mapping=fields)

    def put_lease(self, node: str, end: datetime) -> None:
        self.client.zadd(self.keys.nodes, {node: to_ms(end)})

    def put_intent(self, field: str, row: str, since: datetime) -> None:
        self.client.hset(self.keys.intents, field, row)
        self.client.zadd(self.keys.attempts, {field: to_ms(since)})

    def put_row(self, name: str, row: str | None) -> None:
        if row is None:
            self.client.hdel(self.keys.entries, name)
            self.client.zrem(self.keys.changes, name)
        else:
            self.client.hset(self.keys.entries, name, row)


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
def limited(real: RedisWorld, server: Server) -> Iterator[Callable[..., RedisWorld]]:
    """``limited("~good", ...)``: the same store, for a user with the pool's keys and these rights."""
    users: list[RedisWorld] = []

    def limited(*rights: str, own: str = "~{celery-dispatch}:*") -> RedisWorld:
        url = server.url.replace("://", "://limited:secret@")
        real.client.execute_command(
            "ACL", "SETUSER", "limited", "reset", "on", ">secret", "+@all", own, *rights
        )
        users.append(RedisWorld(redis_client(url, {}), real.keys, real.queues))
        return users[-1]

    yield limited
    for user in users:
        user.client.close()
    real.client.acl_deluser("limited")


@pytest.fixture
def beat() -> Callable[..., Heartbeat]:
    """``beat("a", config="v1", ...)``: a heartbeat."""

    def beat(node: str, **changes: Any) -> Heartbeat:
        plain = Heartbeat(
            node=node,
            host=f"host-of-{node}",
            config="v1",
            identity="app on redis",
            state=MemberState.STEADY,
            lease=LEASE,
            interval=INTERVAL,
            handover=HANDOVER,
            info={"pid": 1},
        )
        return replace(plain, **changes)

    return beat


def settle(world: World, *beats: Heartbeat) -> Pulse:
    """A pool of these nodes, which are done with its first recovery; the pulse of the last."""
    merged = ""
    while True:
        pulses = [world.pool.heartbeat(replace(beat, merged=merged), known_epoch=None) for beat in beats]
        if not pulses[-1].recovery:
            return pulses[-1]
        merged = pulses[-1].recovery
        world.let_pass(INTERVAL.total_seconds())


def create(world: World, name: str, definition: str = '{"task":"t"}', **changes: Any) -> Row:
    """A row that defines an entry; it must be possible."""
    now = world.now().replace(microsecond=0)
    given = {
        "expected": None,
        "token": token_hex(4),
        "created": now,
        "updated": now,
        "definition": definition,
    }
    (result,) = world.rows.change([Change(name, **{**given, **changes})])
    assert result.status is ChangeStatus.DONE
    assert isinstance(result.row, Row)
    return result.row
