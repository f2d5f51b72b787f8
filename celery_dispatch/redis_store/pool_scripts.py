"""The scripts of the pool as typed functions.  The callers translate the errors of the driver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import redis

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Member, Pulse
from celery_dispatch.errors import StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.codec import (
    decode_member,
    encode_info,
    from_micros,
    from_ms,
    printable,
    to_ms,
)
from celery_dispatch.redis_store.keys import SCHEMA, Keys
from celery_dispatch.redis_store.lua_source import lua_source

__all__ = ["PoolScripts", "check_schema", "fence_of", "members_of"]

_MS = timedelta(milliseconds=1)


class PoolScripts:
    """``heartbeat.lua``, ``leave.lua``, ``drain.lua`` and ``adopt.lua``.

    Each raises ``StoreRefused`` if the pool has a newer schema, and ``StoreUnavailable`` while nodes of an
    older one are alive.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts: dict[str, Any] = {
            name: client.register_script(lua_source("pool") + lua_source(name))
            for name in ("heartbeat", "leave", "drain", "adopt")
        }

    def heartbeat(self, beat: Heartbeat, known_epoch: str | None) -> Pulse:
        """Renew the lease of ``beat.node``."""
        if known_epoch is None:  # so that the goodbye, which others wait for, needs no second try
            self._client.script_load(self._scripts["leave"].script)
        reply = self._run(
            "heartbeat",
            *(beat.node, max(1, beat.lease // _MS), beat.interval // _MS, beat.handover // _MS),
            *(known_epoch or "", beat.host, beat.config, beat.identity, beat.state.value, encode_info(beat)),
            *_pair(beat.remembered),
            *_pair(beat.remembered_before),
            beat.merged,
            int(beat.suspicious),
            int(beat.draining),
            to_ms(beat.swept) if beat.swept else "",
        )
        _, micros, epoch, config, since, before, before_since, reopened, identity, recovery, listed = reply
        return Pulse(
            now=from_micros(int(micros)),
            epoch=epoch,
            fence=fence_of(config, since),
            before=fence_of(before, before_since),
            reopened=from_ms(int(reopened)) if reopened else None,
            identity=printable(identity),
            recovery=recovery,
            members=None if listed is None else members_of(listed),
        )

    def leave(self, node: str) -> None:
        """Give the lease of ``node`` up."""
        self._run("leave", node)

    def drain(self, node: str, draining: bool, force: bool) -> bool:
        """Whether there is such a live node; raises ``StoreRefused`` if nobody could take its place."""
        word, *rest = self._run("drain", node, int(draining), int(force))
        if word == "last":
            raise StoreRefused(
                f"Node {node!r} is the last one on the ring that runs config {printable(rest[0])}: without "
                "it nothing would be fired until another config is in force. Start another node, or use "
                "--force."
            )
        return bool(word == "ok")

    def adopt(self, identity: str) -> None:
        """Make the pool that of ``identity``."""
        if self._run("adopt", identity)[0] == "absent":
            raise StoreRefused(
                f"There is no pool under {self._keys.prefix!r}, so there is nothing to adopt: it will be "
                "that of the first node that starts. Check dispatch_key_prefix."
            )

    def _run(self, name: str, *args: str | int) -> list[Any]:
        keys = self._keys
        reply: list[Any] = self._scripts[name](
            keys=(keys.pool, keys.nodes, keys.members), args=(keys.wake, SCHEMA, *args)
        )
        if reply[0] == "newer":
            check_schema(reply[1], keys)
        if reply[0] == "older":
            raise StoreUnavailable(
                f"The pool under {keys.prefix!r} is that of an older version of celery-dispatch (schema "
                f"{printable(reply[1])}; this one writes {SCHEMA}). This node stands by until the last node "
                "of the older version has been gone for a lease: stop those that still run."
            )
        return reply


def _pair(fence: Fence | None) -> tuple[str, str | int]:
    return (fence.config, to_ms(fence.since)) if fence else ("", "")


def check_schema(stored: str | None, keys: Keys) -> None:
    """Raise ``StoreRefused`` unless the pool was written by this version or an older one."""
    if stored is None or stored in map(str, range(1, SCHEMA + 1)):
        return
    raise StoreRefused(
        f"The pool under {keys.prefix!r} has schema {printable(stored)[:50]}, and this version of "
        f"celery-dispatch knows schema {SCHEMA}. Run the newer version on all nodes, or use another "
        "dispatch_key_prefix."
    )


def fence_of(config: str | None, since: str | None) -> Fence | None:
    """The fence of two fields of the pool, if they are one."""
    if config and since and since.isascii() and since.isdecimal() and len(since) <= 14:
        return Fence(printable(config), from_ms(int(since)))
    return None


def members_of(listed: Sequence[Any]) -> tuple[Member, ...]:
    """The members of a flat list of node id, end of lease and row, by id; skips what is not a member."""
    triples = zip(listed[::3], listed[1::3], listed[2::3])
    found = [decode_member(node, lease_end, row) for node, lease_end, row in triples]
    return tuple(sorted((member for member in found if member is not None), key=lambda member: member.id))
