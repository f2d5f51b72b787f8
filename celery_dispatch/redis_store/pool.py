"""The pool on Redis: every write is one run of ``heartbeat.lua``."""

from __future__ import annotations

from typing import Any

import redis

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, PoolState, Pulse
from celery_dispatch.redis_store.client import translated
from celery_dispatch.redis_store.codec import from_micros, from_ms
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.pool_scripts import HeartbeatScript, check_schema, members_of

__all__ = ["RedisPool"]


class RedisPool:
    """The live nodes and the config in force; implements the ``Pool`` port.

    May be used from several threads.  Raises ``StoreError``.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._script = HeartbeatScript(client, keys)

    @translated()
    def heartbeat(self, beat: Heartbeat, *, known_epoch: str | None) -> Pulse:
        return self._script.renew(beat, known_epoch)

    @translated()
    def leave(self, node: str) -> None:
        self._script.leave(node)

    @translated()
    def read(self) -> PoolState:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(self._keys.pool, ["schema", "epoch", "config", "since"])
            pipe.zrange(self._keys.nodes, 0, -1, withscores=True)
            pipe.hgetall(self._keys.members)
            replies: list[Any] = pipe.execute()
        (seconds, micros), (schema, epoch, config, since), leases, rows = replies
        check_schema(schema, self._keys)
        listed = [part for node, end in leases for part in (node, end, rows.get(node))]
        return PoolState(
            now=from_micros(seconds * 1_000_000 + micros),
            epoch=epoch or "",
            fence=Fence(config, from_ms(int(since))) if config and _is_instant(since) else None,
            members=members_of(listed),
        )


def _is_instant(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdecimal() and len(text) <= 14
