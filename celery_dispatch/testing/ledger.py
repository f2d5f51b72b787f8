"""``Ledger`` and ``Intents`` in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

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
from celery_dispatch.redis_store.claim_scripts import check_claims, not_before
from celery_dispatch.redis_store.codec import (
    attempt_seed,
    attempt_token,
    encode_cursor,
    encode_intent,
    encode_node,
    intent_field,
    to_ms,
)
from celery_dispatch.testing.store import MemoryPort, MemoryStore

__all__ = ["MemoryIntents", "MemoryLedger"]

logger = logging.getLogger(__name__)

_NO_MESSAGE = "none of its commands sends a message"


class MemoryLedger(MemoryPort):
    """Implements the ``Ledger`` port; carries commands out on the store's ``queues`` and ``published``."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._serials: dict[str, int] = {}

    def read(self, names: Sequence[str]) -> list[Stored]:
        with self.store.operation(self):
            return [self.store.cursors.get(name) for name in names]

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
        for claim in claims:  # what Redis could not hold is refused here as well
            encode_cursor(claim.wanted)
            if claim.intent is not None:
                encode_intent(claim.intent)
        with self.store.operation(self) as now:
            _check_fence(self.store, fence, claims, recovery, now)
            if gate not in (None, self.store.gate):
                raise FencedError(f"The gate of the rows is {self.store.gate!r}, not {gate!r}.")
            results = tuple(self._claim(claim, None if recovery else now) for claim in claims)
            reply = ClaimReply(self.store.now(), results)
        if meanwhile is not None:
            meanwhile()
        return reply

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[str, Cursor | Damaged]]]:
        with self.store.operation(self):
            cursors = self.store.cursors
            for name in cursors:
                self._serials.setdefault(name, len(self._serials) + 1)
            names = sorted(cursors, key=self._serials.__getitem__)
            left = [name for name in names if self._serials[name] > position]
            page = left[:count]
            position = self._serials[page[-1]] if left[count:] else 0
            return position, [(name, cursors[name]) for name in page]

    def _claim(self, claim: Claim, now: datetime | None) -> ClaimResult:
        """What becomes of one claim; without ``now``, none is early."""
        stored = self.store.cursors.get(claim.name)
        if stored == claim.wanted:
            return ClaimResult(ClaimStatus.WON, claim.wanted)
        if stored != claim.expected or not (claim.undoes is None or _holds(self.store, claim.undoes)):
            return ClaimResult(ClaimStatus.LOST, stored)
        if now is not None and not_before(claim) > to_ms(now):
            return ClaimResult(ClaimStatus.EARLY, stored)
        pushed, errors = _push(self.store, claim.commands)
        if claim.commands and not pushed:
            return ClaimResult(ClaimStatus.FAILED, stored, errors or _NO_MESSAGE)
        if claim.intent is not None:
            self.store.intents[intent_field(claim.intent)] = claim.intent
        if claim.undoes is not None:
            del self.store.intents[intent_field(claim.undoes)]
        if claim.wanted is None:
            del self.store.cursors[claim.name]
        else:
            self.store.cursors[claim.name] = claim.wanted
        return ClaimResult(ClaimStatus.WON, claim.wanted, errors)


class MemoryIntents(MemoryPort):
    """Implements the ``Intents`` port on the store's ``intents``."""

    def settle(self, settlements: Sequence[Settlement]) -> tuple[ClaimResult, ...]:
        if len({intent_field(one.intent) for one in settlements}) != len(settlements):
            raise ValueError("an intent is settled twice in one batch")
        with self.store.operation(self):
            return tuple(self._settle(one) for one in settlements)

    def keep(self, intents: Sequence[Intent]) -> list[bool]:
        for intent in intents:
            encode_intent(intent)
        with self.store.operation(self):
            return [self._keep(intent) for intent in intents]

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
        seed = attempt_seed(token)
        encode_node(node)
        with self.store.operation(self) as now:
            intents = self.store.intents
            for field, row in list(intents.items()):
                if isinstance(row, Damaged):
                    logger.error("Removed intent %r, which is none (%s): %r", field, row.reason, row.raw)
                    del intents[field]
            open_ = [
                one
                for one in self._oldest()
                if self._is_free(one, node, now, older_than)
                and (one.node == node or _is_between(one.due, due_from, due_until))
            ]
            taken = [
                replace(intent, node=node, token=attempt_token(seed, number), since=now)
                for number, intent in enumerate(open_[:limit])
            ]
            intents.update((intent_field(intent), intent) for intent in taken)
            return taken

    def read(self, limit: int) -> tuple[int, list[Intent]]:
        with self.store.operation(self):
            return len(self.store.intents), self._oldest()[:limit]

    def _settle(self, settlement: Settlement) -> ClaimResult:
        intent, commands = settlement.intent, settlement.commands
        if not _holds(self.store, intent):
            return ClaimResult(ClaimStatus.LOST, None)
        pushed, errors = _push(self.store, commands)
        if commands and not pushed:
            return ClaimResult(ClaimStatus.FAILED, None, errors or _NO_MESSAGE)
        del self.store.intents[intent_field(intent)]
        return ClaimResult(ClaimStatus.WON, None, errors)

    def _keep(self, intent: Intent) -> bool:
        kept = _holds(self.store, intent)
        if kept:
            self.store.intents[intent_field(intent)] = intent
        return kept

    def _is_free(self, intent: Intent, node: str, now: datetime, older_than: timedelta) -> bool:
        """Whether ``node`` may make it an attempt of its own."""
        member = self.store.members.get(intent.node)
        alive = member is not None and member.lease_end > now
        return intent.node == node or not alive or now - intent.since >= older_than

    def _oldest(self) -> list[Intent]:
        intents = [intent for intent in self.store.intents.values() if isinstance(intent, Intent)]
        return sorted(intents, key=lambda intent: (intent.since, intent_field(intent)))


def _check_fence(
    store: MemoryStore, fence: Fence, claims: Sequence[Claim], recovery: str, now: datetime
) -> None:
    """Raise ``FencedError`` unless these claims may be made now."""
    if store.seen_on != store.server:
        raise FencedError(
            f"Redis is not the server that the pool was last seen on, which has run_id {store.seen_on}."
            if store.seen_on
            else "Redis knows of no pool: it lost it, or no node has sent a heartbeat yet."
        )
    if store.recovery != recovery:
        raise FencedError(
            f"The pool is in recovery {store.recovery}: nothing can be claimed until its nodes have merged."
            if store.recovery
            else f"The recovery {recovery} is over: cursors can be put back no more."
        )
    if recovery or store.fence == fence:
        return
    if store.fence and fence == store.before and store.before_until and now < store.before_until:
        since = to_ms(store.fence.since)
        if all(claim.undoes is not None or 0 < not_before(claim) < since for claim in claims):
            return
        raise FencedError(
            f"Under {fence} only what was due before {store.fence.since} can be claimed, "
            f"and only until {store.before_until}."
        )
    raise FencedError(f"The config in force is {store.fence}, not {fence}.")


def _is_between(due: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or start <= due) and (end is None or due < end)


def _holds(store: MemoryStore, intent: Intent) -> bool:
    """Whether ``intent`` is stored, of this very attempt."""
    stored = store.intents.get(intent_field(intent))
    return isinstance(stored, Intent) and stored.token == intent.token


def _push(store: MemoryStore, commands: Sequence[Command]) -> tuple[bool, str]:
    """Whether a message was pushed, and the errors; none is if a queue takes no message."""
    refused = [command for command in commands if command.key in store.refused]
    errors = "; ".join(f"{command.op} {command.key}: refused" for command in refused)
    if any(command.op == "LPUSH" for command in refused):
        return False, errors
    pushed = False
    for command in commands:
        if command in refused or command.op == "PEXPIRE":
            continue
        pushed = True
        if command.op == "LPUSH":
            store.queues.setdefault(command.key, []).append(command.value)
        else:
            store.published.append((command.key, command.value))
    return pushed, errors
