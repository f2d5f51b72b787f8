"""The open intents on Redis: their rows in one hash, and in a sorted set when each attempt began.

Every write is one script: ``claim.lua`` writes an intent together with its cursor, ``settle.lua`` removes it
together with its message, ``take_over.lua`` makes it somebody else's.  All of them go by the token that the
row begins with, so a node that slept cannot send what another one has taken over and sent.

A batch of settlements that Redis refuses because of one of its queues is carried out as far as it goes
(``halving``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import redis

from celery_dispatch.core.ports import ClaimResult, ClaimStatus, Damaged, Intent, Settlement
from celery_dispatch.redis_store.claim_scripts import KeepScript, SettleScript, TakeOverScript
from celery_dispatch.redis_store.codec import attempt_seed, decode_intent, intent_field
from celery_dispatch.redis_store.halving import carry_out
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.own_keys import of_store

__all__ = ["RedisIntents"]

logger = logging.getLogger(__name__)

_MOST = 5_000  # intents in one command; Lua unpacks up to 7,900


class RedisIntents:
    """The open intents of all nodes; implements the ``Intents`` port.

    May be used from several threads.  Raises ``StoreError``.  More than 5,000 settlements or intents take
    several steps, each of them atomic; at most 2,000 are taken over at once.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys
        self._settle = SettleScript(client, keys)
        self._keep = KeepScript(client, keys)
        self._take_over = TakeOverScript(client, keys)

    @of_store
    def settle(self, settlements: Sequence[Settlement]) -> tuple[ClaimResult, ...]:
        if len({intent_field(one.intent) for one in settlements}) != len(settlements):
            raise ValueError("an intent is settled twice in one batch")
        results: list[ClaimResult] = []
        for start in range(0, len(settlements), _MOST):
            results += carry_out(settlements[start : start + _MOST], run=self._settle, failed=_failed)
        return tuple(results)

    @of_store
    def keep(self, intents: Sequence[Intent]) -> list[bool]:
        kept: list[bool] = []
        for start in range(0, len(intents), _MOST):
            kept += self._keep(intents[start : start + _MOST])
        return kept

    @of_store
    def take_over(
        self,
        node: str,
        *,
        token: str,
        older_than: timedelta,
        limit: int,
        due_from: datetime | None = None,
        due_until: datetime | None = None,
    ) -> list[Intent]:
        taken, removed = self._take_over(
            node,
            seed=attempt_seed(token),
            older_than=older_than,
            limit=limit,
            due_from=due_from,
            due_until=due_until,
        )
        for field, row in removed:
            decoded = decode_intent(field, row)
            _log_removed(field, decoded if isinstance(decoded, Damaged) else Damaged(row, "it is no text"))
        return self._sound(taken)

    @of_store
    def read(self, limit: int) -> tuple[int, list[Intent]]:
        fields = self._client.zrange(self._keys.attempts, 0, limit - 1) if limit > 0 else []
        rows = self._client.hmget(self._keys.intents, fields) if fields else []
        decoded = (decode_intent(field, row) for field, row in zip(fields, rows) if row is not None)
        oldest = [intent for intent in decoded if isinstance(intent, Intent)]
        return int(self._client.hlen(self._keys.intents)), oldest

    def _sound(self, taken: Iterable[tuple[Intent | Damaged, str, str]]) -> list[Intent]:
        """The intents among what was taken over; the rest is removed."""
        intents: list[Intent] = []
        damaged: list[tuple[str, str]] = []
        for found, field, token in taken:
            if isinstance(found, Intent) and self._is_for_the_pool(found):
                found = Damaged(str(found.commands), "its message is for a key of the pool itself")
            if isinstance(found, Intent):
                intents.append(found)
            else:
                damaged.append((field, token))
                _log_removed(field, found)
        if damaged:
            self._settle.remove(damaged)
        return intents

    def _is_for_the_pool(self, intent: Intent) -> bool:
        """Whether sending it would write to the keys that only scripts may write to."""
        own = self._keys.permanent
        return any(command.key in own for command in intent.commands or ())


def _log_removed(field: str, row: Damaged) -> None:
    logger.error("Removed intent %r, which is none (%s): %r", field[:200], row.reason, row.raw[:200])


def _failed(_: Settlement, detail: str) -> ClaimResult:
    return ClaimResult(ClaimStatus.FAILED, None, detail)
