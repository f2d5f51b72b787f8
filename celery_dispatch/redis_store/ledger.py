"""The ledger on Redis: cursors in one hash, every write one run of ``claim.lua``.

A batch that Redis refuses because of one of its queues is carried out as far as it goes (``halving``).
Nothing can be carried out twice that way, since a claim that went through answers "won" when it is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimReply, ClaimResult, ClaimStatus, Damaged, Stored
from celery_dispatch.redis_store.claim_scripts import ClaimScript, check_claims
from celery_dispatch.redis_store.codec import decode_cursor
from celery_dispatch.redis_store.exact import exactly
from celery_dispatch.redis_store.halving import carry_out
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.own_keys import of_store

__all__ = ["RedisLedger"]

_MOST = 5_000  # claims or names in one command; Lua unpacks up to 7,900


class RedisLedger:
    """The cursors of all entries; implements the ``Ledger`` port.

    May be used from several threads.  Raises ``StoreError``.  More than 5,000 claims or names take several
    steps, each of them atomic.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._script = ClaimScript(client, keys)

    @of_store
    def read(self, names: Sequence[str]) -> list[Stored]:
        rows: list[Any] = []
        for start in range(0, len(names), _MOST):
            rows += self._hmget(names[start : start + _MOST])
        stored = [None if row is None else decode_cursor(row) for row in rows]
        return [
            exactly(self._client, self._keys.cursor, name, it) if isinstance(it, Damaged) else it
            for name, it in zip(names, stored)
        ]

    @of_store
    def claim(
        self,
        fence: Fence,
        claims: Sequence[Claim],
        *,
        recovery: str = "",
        gate: str | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> ClaimReply:
        check_claims(claims, recovery=recovery)
        replies: list[ClaimReply] = []
        to_do = [meanwhile]

        def run(batch: Sequence[Claim]) -> Sequence[ClaimResult]:
            ahead = to_do.pop() if to_do else None
            replies.append(self._script(fence, batch, recovery=recovery, gate=gate, meanwhile=ahead))
            return replies[-1].results

        results: list[ClaimResult] = []
        for start in range(0, max(1, len(claims)), _MOST):
            results += carry_out(claims[start : start + _MOST], run=run, failed=_failed)
        return ClaimReply(replies[-1].now, tuple(results))

    @of_store
    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        page: Any = self._client.hscan(self._keys.cursor, position, count=count)
        position, rows = page
        return int(position), [(name, decode_cursor(row)) for name, row in rows.items()]

    def _hmget(self, names: Sequence[str]) -> Any:
        return self._client.hmget(self._keys.cursor, list(names))


def _failed(claim: Claim, detail: str) -> ClaimResult:
    return ClaimResult(ClaimStatus.FAILED, claim.expected, detail)
