"""The Lua scripts as typed functions; the scripts themselves are in ``lua/``, one file each.

redis-py loads a script where the server does not know it (a restart, a failover).  Errors of the driver pass
through: the callers translate them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import redis

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Claim, ClaimReply, ClaimResult, ClaimStatus, Heartbeat, Member, Pulse
from celery_dispatch.errors import FencedError, StoreRefused
from celery_dispatch.redis_store.codec import (
    decode_cursor,
    decode_member,
    encode_cursor,
    encode_info,
    from_micros,
    from_ms,
    to_ms,
)
from celery_dispatch.redis_store.keys import SCHEMA, Keys

__all__ = ["ClaimScript", "HeartbeatScript", "check_schema", "members_of"]


@cache
def _source(name: str) -> str:
    return (files("celery_dispatch.redis_store") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


# --- heartbeat ----------------------------------------------------------------------------------------------


class HeartbeatScript:
    """``heartbeat.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(_source("heartbeat"))

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


# --- claim --------------------------------------------------------------------------------------------------

_WON, _LOST, _FAILED = ClaimStatus.WON, ClaimStatus.LOST, ClaimStatus.FAILED


class ClaimScript:
    """``claim.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(_source("claim"))

    def __call__(self, fence: Fence, claims: Sequence[Claim]) -> ClaimReply:
        """Carry out at most 5,000 claims in one step; raises ``FencedError`` unless ``fence`` is in force."""
        places: dict[str, int] = {self._keys.pool: 1, self._keys.cursor: 2}
        args: list[str | bytes | int] = [fence.config, to_ms(fence.since), len(claims)]
        args += [claim.name for claim in claims]
        for claim in claims:
            args += (
                encode_cursor(claim.expected),
                encode_cursor(claim.wanted),
                _not_before(claim),
                len(claim.commands),
            )
            for command in claim.commands:
                if command.op == "PUBLISH":
                    args += (command.op, command.key, command.value)
                else:
                    args += (command.op, places.setdefault(command.key, len(places) + 1), command.value)
        reply: list[Any] = self._script(keys=tuple(places), args=args)
        now = from_micros(int(reply[1]))
        if reply[0] == "fenced":
            raise FencedError(_fenced(fence, config=reply[2], since=reply[3]))
        details = iter(reply[3])
        return ClaimReply(
            now, tuple(_result(claim, letter, details) for claim, letter in zip(claims, reply[2]))
        )


def _not_before(claim: Claim) -> int:
    """The ms before which the claim is early: its due, if it is of an occurrence.

    An anchor is none.  It begins where the config came into force, which a clock that was put back has not
    reached yet.
    """
    if claim.wanted is None:
        return 0
    moves = claim.expected is not None and claim.wanted.due > claim.expected.due
    return to_ms(claim.wanted.due) if moves or claim.commands else 0


def _result(claim: Claim, letter: str, details: Any) -> ClaimResult:
    if letter == "w":
        return ClaimResult(_WON, claim.wanted)
    if letter == "l":
        return ClaimResult(_LOST, decode_cursor(next(details)))
    if letter == "n":
        return ClaimResult(_LOST, None)
    if letter == "e":
        return ClaimResult(ClaimStatus.EARLY, claim.expected)
    if letter == "p":
        return ClaimResult(_WON, claim.wanted, next(details))
    return ClaimResult(_FAILED, claim.expected, next(details) or "none of its commands sends a message")


def _fenced(fence: Fence, *, config: str, since: str) -> str:
    stored = f"{config} since {since}" if config else "none"
    return f"The config in force is {stored}, not {fence.config} since {to_ms(fence.since)}."
