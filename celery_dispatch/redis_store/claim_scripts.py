"""The scripts of cursors and intents as typed functions.

Errors of the driver pass through: the callers translate them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Union

import redis

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import (
    Claim,
    ClaimReply,
    ClaimResult,
    ClaimStatus,
    Command,
    Damaged,
    Intent,
    Settlement,
    Stored,
)
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.codec import (
    attempt_token,
    decode_cursor,
    decode_intent,
    encode_cursor,
    encode_intent,
    encode_node,
    from_micros,
    from_ms,
    intent_field,
    printable,
    to_ms,
)
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.lua_source import lua_source
from celery_dispatch.redis_store.meanwhile import run_script

__all__ = ["ClaimScript", "KeepScript", "SettleScript", "TakeOverScript", "check_claims", "not_before"]

_WON, _LOST, _FAILED = ClaimStatus.WON, ClaimStatus.LOST, ClaimStatus.FAILED
_NO_MESSAGE = "none of its commands sends a message"

_EMPTY_ROW = " "  # which is not the same as no row

_Args = list[Union[str, int, bytes]]


class _Queues:
    """The keys of one run, and where each stands among them."""

    def __init__(self, *keys: str) -> None:
        self._places = {key: place for place, key in enumerate(keys, start=1)}
        self._what = "", ""  # op and key of the last command, which many have in common
        self._said = ""  # the words for them

    def add_to(self, args: _Args, commands: Sequence[Command]) -> None:
        """Append ``commands`` as scripts read them: words for all, then what each takes."""
        if len(commands) == 1:
            args.append(self._words(commands[0]))
        else:
            args.append(" ".join(map(self._words, commands)))
        for command in commands:
            if command.op == "PUBLISH":
                args.append(command.key)
            args.append(command.value)

    def _words(self, command: Command) -> str:
        what = command.op, command.key
        if what != self._what:
            self._what, self._said = what, command.op
            if command.op != "PUBLISH":
                self._said += f" {self._places.setdefault(command.key, len(self._places) + 1)}"
        return self._said

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._places)


# --- cursors ------------------------------------------------------------------------------------------------


class ClaimScript:
    """``claim.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(lua_source("push") + lua_source("claim"))

    def __call__(
        self,
        fence: Fence,
        claims: Sequence[Claim],
        *,
        recovery: str,
        gate: str | None,
        meanwhile: Callable[[], None] | None,
    ) -> ClaimReply:
        """Carry out at most 5,000 claims in one step; raises ``FencedError`` if nothing may be claimed."""
        keys = self._keys
        queues = _Queues(keys.pool, keys.cursor, keys.intents, keys.attempts)
        args: _Args = [fence.config, to_ms(fence.since), recovery, "*" if gate is None else gate, len(claims)]
        args += [claim.name for claim in claims]
        for claim in claims:
            args.append(_expected(claim.expected))
            args.append(encode_cursor(claim.wanted))
            args.append(0 if recovery else not_before(claim))
            if claim.intent is not None:
                args += ("INTENT", intent_field(claim.intent), encode_intent(claim.intent))
            elif claim.undoes is not None:
                args += ("UNDO", intent_field(claim.undoes), claim.undoes.token)
            else:
                queues.add_to(args, claim.commands)
        reply: list[Any] = run_script(self._script, keys=queues.keys, args=args, meanwhile=meanwhile)
        now = from_micros(int(reply[1]))
        if reply[0] == "fenced":
            raise FencedError(_fenced(fence, recovery, *reply[2:]))
        details = iter(reply[3])
        return ClaimReply(now, tuple([_claimed(*each, details) for each in zip(claims, reply[2])]))


def _expected(stored: Stored) -> str | bytes:
    """As ``claim.lua`` compares it: what is damaged as it is stored."""
    if not isinstance(stored, Damaged):
        return encode_cursor(stored)
    return stored.exact or stored.raw or _EMPTY_ROW


def check_claims(claims: Sequence[Claim], *, recovery: str) -> None:
    """Raise ``ValueError`` for a batch that says no clear thing."""
    if len({claim.name for claim in claims}) != len(claims):
        raise ValueError("an entry is claimed twice in one batch")
    for claim in claims:
        parts = bool(claim.commands) + (claim.intent is not None) + (claim.undoes is not None)
        if parts > (0 if recovery else 1):
            what = "is part of a recovery, which only puts cursors back" if recovery else "is of two kinds"
            raise ValueError(f"the claim of {claim.name!r} {what}: give commands, intent and undoes apart")


def not_before(claim: Claim) -> int:
    """The ms before which the claim is early: when its occurrence is to be fired; 0 if it is of none.

    An anchor is of none.  It begins where the config came into force, which a clock that was put back has not
    reached yet.
    """
    if claim.wanted is None:
        return 0
    moves = isinstance(claim.expected, Cursor) and claim.wanted.due > claim.expected.due
    return to_ms(claim.not_before or claim.wanted.due) if moves or claim.commands or claim.intent else 0


def _claimed(claim: Claim, letter: str, details: Iterator[str]) -> ClaimResult:
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
    return ClaimResult(_FAILED, claim.expected, next(details) or _NO_MESSAGE)


def _fenced(fence: Fence, recovery: str, reason: str, first: str, second: str) -> str:
    mine = f"{fence.config} since {to_ms(fence.since)}"
    if reason == "server":
        if not first:
            return "Redis knows of no pool: it lost it, or no node has sent a heartbeat yet."
        return f"Redis is not the server that the pool was last seen on, which has run_id {first}."
    if reason == "recovery":
        if first:
            return f"The pool is in recovery {first}: nothing can be claimed until its nodes have merged."
        return f"The recovery {recovery} is over: cursors can be put back no more."
    if reason == "gate":
        return f"The gate of the rows is {printable(first)!r}, not {second!r}."
    if reason == "before":
        return f"Under {mine} only what was due before {first} can be claimed, and only until {second}."
    stored = f"{first} since {second}" if first else "none"
    return f"The config in force is {stored}, not {mine}."


# --- intents ------------------------------------------------------------------------------------------------


class SettleScript:
    """``settle.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(lua_source("push") + lua_source("settle"))

    def __call__(self, settlements: Sequence[Settlement]) -> tuple[ClaimResult, ...]:
        """Settle at most 5,000 intents in one step."""
        return self._run([(intent_field(one.intent), one.intent.token, one.commands) for one in settlements])

    def remove(self, attempts: Sequence[tuple[str, str]]) -> None:
        """Remove the rows of these fields that begin with these tokens."""
        self._run([(field, token, ()) for field, token in attempts])

    def _run(self, settlements: Sequence[tuple[str, str, tuple[Command, ...]]]) -> tuple[ClaimResult, ...]:
        queues = _Queues(self._keys.intents, self._keys.attempts)
        args: _Args = [len(settlements), *(field for field, _, _ in settlements)]
        for _, token, commands in settlements:
            args.append(token)
            queues.add_to(args, commands)
        letters, listed = self._script(keys=queues.keys, args=args)
        details = iter(listed)
        return tuple(_settled(letter, details) for letter in letters)


def _settled(letter: str, details: Iterator[str]) -> ClaimResult:
    if letter == "l":
        return ClaimResult(_LOST, None)
    if letter == "f":
        return ClaimResult(_FAILED, None, printable(next(details)) or _NO_MESSAGE)
    return ClaimResult(_WON, None, printable(next(details)) if letter == "p" else "")


class KeepScript:
    """``keep.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(lua_source("keep"))

    def __call__(self, intents: Sequence[Intent]) -> list[bool]:
        """Write these rows over those of the same attempts, in one step; which were written."""
        args = [part for intent in intents for part in (intent_field(intent), encode_intent(intent))]
        letters: str = self._script(keys=(self._keys.intents,), args=args)
        return [letter == "y" for letter in letters]


class TakeOverScript:
    """``take_over.lua``."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._script: Any = client.register_script(lua_source("take_over"))

    def __call__(
        self,
        node: str,
        *,
        seed: str,
        older_than: timedelta,
        limit: int,
        due_from: datetime | None,
        due_until: datetime | None,
    ) -> tuple[list[tuple[Intent | Damaged, str, str]], list[tuple[str, str]]]:
        """Take over at most 2,000 intents.

        Gives each as it is now, with its field and token, and fields and rows of what was removed.
        """
        keys = self._keys
        dues = (to_ms(due_from) if due_from else 0, to_ms(due_until) if due_until else "")
        since, taken, removed = self._script(
            keys=(keys.intents, keys.attempts, keys.nodes),
            args=(encode_node(node), seed, older_than // timedelta(milliseconds=1), limit, *dues),
        )
        attempts: list[tuple[Intent | Damaged, str, str]] = []
        for number, (field, row) in enumerate(zip(taken[::2], taken[1::2])):
            found, token = decode_intent(field, row), attempt_token(seed, number)
            if isinstance(found, Intent):
                found = replace(found, node=node, token=token, since=from_ms(int(since)))
            attempts.append((found, field, token))
        return attempts, list(zip(removed[::2], removed[1::2]))
