"""The pool on Redis: every write is one run of a script."""

from __future__ import annotations

from typing import Any

import redis

from celery_dispatch.core.ports import Heartbeat, PoolState, Pulse
from celery_dispatch.redis_store.codec import from_micros, printable
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.own_keys import of_store
from celery_dispatch.redis_store.pool_scripts import PoolScripts, check_schema, fence_of, members_of

__all__ = ["RedisPool"]

_FIELDS = ("schema", "epoch", "config", "since", "before_config", "before_since", "before_until")
_WORDS = ("challenger", "identity", "recovery")


class RedisPool:
    """The live nodes, the config in force, and whose pool it is; implements the ``Pool`` port.

    May be used from several threads.  Raises ``StoreError``.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = PoolScripts(client, keys)

    @of_store
    def heartbeat(self, beat: Heartbeat, *, known_epoch: str | None) -> Pulse:
        return self._scripts.heartbeat(beat, known_epoch)

    @of_store
    def leave(self, node: str) -> None:
        self._scripts.leave(node)

    @of_store
    def drain(self, node: str, draining: bool, *, force: bool = False) -> bool:
        return self._scripts.drain(node, draining, force)

    @of_store
    def adopt(self, identity: str) -> None:
        self._scripts.adopt(identity)

    @of_store
    def read(self) -> PoolState:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(self._keys.pool, [*_FIELDS, *_WORDS])
            pipe.zrange(self._keys.nodes, 0, -1, withscores=True)
            pipe.hgetall(self._keys.members)
            replies: list[Any] = pipe.execute()
        (seconds, micros), fields, leases, rows = replies
        schema, epoch, config, since, before, before_since, before_until, *words = fields
        check_schema(schema, self._keys)
        now = from_micros(seconds * 1_000_000 + micros)
        until = fence_of("until", before_until)
        challenger, identity, recovery = (printable(word or "") for word in words)
        return PoolState(
            now=now,
            epoch=epoch or "",
            fence=fence_of(config, since),
            before=fence_of(before, before_since) if until and until.since > now else None,
            challenger=challenger,
            identity=identity,
            recovery=recovery,
            members=members_of([part for node, end in leases for part in (node, end, rows.get(node))]),
        )
