"""The scripts of the pool as typed functions.  Errors of the driver pass through: the callers translate them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import redis

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Member, Pulse
from celery_dispatch.errors import StoreRefused
from celery_dispatch.redis_store.codec import decode_member, encode_info, from_micros, from_ms
from celery_dispatch.redis_store.keys import SCHEMA, Keys
from celery_dispatch.redis_store.lua_source import lua_source

__all__ = ["HeartbeatScript", "check_schema", "members_of"]


class HeartbeatScript:
    """``heartbeat.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(lua_source("heartbeat"))

    def renew(self, beat: Heartbeat, known_epoch: str | None) -> Pulse:
        """Renew the lease of ``beat.node``; raises ``StoreRefused`` if the pool has another schema."""
        lease = max(1, beat.lease // timedelta(milliseconds=1))
        _, micros, epoch, config, since, listed = self._run(
            beat.node, lease, beat.host, beat.config, beat.state.value, encode_info(beat), known_epoch or ""
        )
        return Pulse(
            now=from_micros(int(micros)),
            epoch=epoch,
            fence=Fence(config, from_ms(int(since))),
            members=None if listed is None else members_of(listed),
        )

    def leave(self, node: str) -> None:
        """Give the lease of ``node`` up."""
        self._run(node, 0, "", "", "", "", "")

    def _run(
        self, node: str, lease: int, host: str, config: str, state: str, info: str, known_epoch: str
    ) -> list[Any]:
        keys = self._keys
        reply: list[Any] = self._script(
            keys=(keys.pool, keys.nodes, keys.members),
            args=(node, lease, host, config, state, info, keys.wake, SCHEMA, known_epoch),
        )
        if reply[0] == "schema":
            check_schema(reply[1], keys)
        return reply


def check_schema(stored: str | None, keys: Keys) -> None:
    """Raise ``StoreRefused`` if the pool was written by a version with another layout of keys."""
    if stored is not None and stored != str(SCHEMA):
        raise StoreRefused(
            f"The pool under {keys.prefix!r} has schema {stored}, and this version of celery-dispatch knows "
            f"schema {SCHEMA}. Run the version that the other nodes run, or use another dispatch_key_prefix."
        )


def members_of(listed: Sequence[Any]) -> tuple[Member, ...]:
    """The members of a flat list of node id, end of lease and row, by id; skips what is not a member."""
    triples = zip(listed[::3], listed[1::3], listed[2::3])
    found = [decode_member(node, lease_end, row) for node, lease_end, row in triples]
    return tuple(sorted((member for member in found if member is not None), key=lambda member: member.id))
