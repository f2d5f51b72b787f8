"""The scripts of cursors and intents as typed functions.

Errors of the driver pass through: the callers translate them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Claim, ClaimReply, ClaimResult, ClaimStatus
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.codec import decode_cursor, encode_cursor, from_micros, to_ms
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.lua_source import lua_source

__all__ = ["ClaimScript"]

_WON, _LOST, _FAILED = ClaimStatus.WON, ClaimStatus.LOST, ClaimStatus.FAILED


class ClaimScript:
    """``claim.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(lua_source("claim"))

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
