"""The ledger on Redis: cursors in one hash, every write one run of ``claim.lua``.

Redis may refuse a script before it ran, because of one of its keys: a right is missing, or a queue lives on
another slot.  Which one it was, the error does not say.  The claims are then grouped by the queues that they
push to, and the groups halved until the guilty ones are alone; their claims fail, all others are carried out.
Nothing can be carried out twice that way, since a claim that went through answers "won" when it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import redis
from redis.exceptions import RedisError

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimReply, ClaimResult, ClaimStatus, Damaged, Stored
from celery_dispatch.redis_store.client import error_text, is_outage, translated
from celery_dispatch.redis_store.codec import decode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.claim_scripts import ClaimScript

__all__ = ["RedisLedger"]

_MOST = 5_000  # claims or names in one command; Lua unpacks up to 7,900

_Group = list[int]  # the positions of claims that push to the same queues


class RedisLedger:
    """The cursors of all entries; implements the ``Ledger`` port.

    May be used from several threads.  Raises ``StoreError``.  More than 5,000 claims or names take several
    steps, each of them atomic.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._script = ClaimScript(client, keys)

    @translated()
    def read(self, names: Sequence[str]) -> list[Stored]:
        rows: list[Any] = []
        for start in range(0, len(names), _MOST):
            rows += self._hmget(names[start : start + _MOST])
        return [None if row is None else decode_cursor(row) for row in rows]

    @translated()
    def claim(self, fence: Fence, claims: Sequence[Claim]) -> ClaimReply:
        if len({claim.name for claim in claims}) != len(claims):
            raise ValueError("an entry is claimed twice in one batch")
        results: list[ClaimResult] = []
        for start in range(0, max(1, len(claims)), _MOST):
            reply = self._claim(fence, claims[start : start + _MOST])
            results += reply.results
        return ClaimReply(reply.now, tuple(results))

    @translated()
    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        page: Any = self._client.hscan(self._keys.cursor, position, count=count)
        position, rows = page
        return int(position), [(name, decode_cursor(row)) for name, row in rows.items()]

    def _hmget(self, names: Sequence[str]) -> Any:
        return self._client.hmget(self._keys.cursor, list(names))

    def _claim(self, fence: Fence, claims: Sequence[Claim]) -> ClaimReply:
        try:
            return self._script(fence, claims)
        except RedisError as error:
            if is_outage(error) or not claims:
                raise
            self._script(
                fence, ()
            )  # refused as well: not the queues are at fault, but this package's own keys
            return _Sorting(self._script, fence, claims).settle()


class _Sorting:
    """A batch that was refused before it ran, being carried out as far as it goes."""

    def __init__(self, script: ClaimScript, fence: Fence, claims: Sequence[Claim]) -> None:
        self._script = script
        self._fence = fence
        self._claims = claims
        self._results: dict[int, ClaimResult] = {}
        self._now: datetime | None = None

    def settle(self) -> ClaimReply:
        self._halve(list(_by_queues(self._claims).values()))
        now = self._now or self._script(self._fence, ()).now
        return ClaimReply(now, tuple(self._results[i] for i in range(len(self._claims))))

    def _halve(self, groups: Sequence[_Group]) -> None:
        middle = len(groups) // 2
        for half in (groups[:middle], groups[middle:]) if middle else (groups,):
            try:
                self._run(half)
            except RedisError as error:
                if is_outage(error):
                    raise
                if len(half) > 1:
                    self._halve(half)
                else:
                    self._fail(half[0], error)

    def _run(self, groups: Iterable[_Group]) -> None:
        positions = sorted(position for group in groups for position in group)
        reply = self._script(self._fence, [self._claims[i] for i in positions])
        self._results.update(zip(positions, reply.results))
        self._now = reply.now

    def _fail(self, group: _Group, error: RedisError) -> None:
        for position in group:
            claim = self._claims[position]
            if not claim.commands:
                raise error
            self._results[position] = ClaimResult(ClaimStatus.FAILED, claim.expected, error_text(error))


def _by_queues(claims: Sequence[Claim]) -> Mapping[frozenset[str], _Group]:
    groups: dict[frozenset[str], _Group] = {}
    for position, claim in enumerate(claims):
        queues = frozenset(command.key for command in claim.commands if command.op != "PUBLISH")
        groups.setdefault(queues, []).append(position)
    return groups
