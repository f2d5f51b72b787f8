"""``Ledger`` and ``Intents`` in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimReply, ClaimResult, ClaimStatus, Command, Damaged, Stored
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.codec import encode_cursor
from celery_dispatch.testing.store import MemoryPort, MemoryStore

__all__ = ["MemoryLedger"]


class MemoryLedger(MemoryPort):
    """Implements the ``Ledger`` port; carries commands out on the store's ``queues`` and ``published``."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._serials: dict[str, int] = {}

    def read(self, names: Sequence[str]) -> list[Stored]:
        with self.store.operation(self):
            return [self.store.cursors.get(name) for name in names]

    def claim(self, fence: Fence, claims: Sequence[Claim]) -> ClaimReply:
        if len({claim.name for claim in claims}) != len(claims):
            raise ValueError("an entry is claimed twice in one batch")
        for claim in claims:
            encode_cursor(claim.wanted)  # what Redis could not hold is refused here as well
        with self.store.operation(self) as now:
            if self.store.fence != fence:
                raise FencedError(f"The config in force is {self.store.fence}, not {fence}.")
            results = tuple(self._claim(claim, now) for claim in claims)
            return ClaimReply(self.store.now(), results)

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

    def _claim(self, claim: Claim, now: datetime) -> ClaimResult:
        stored = self.store.cursors.get(claim.name)
        if stored == claim.wanted:
            return ClaimResult(ClaimStatus.WON, claim.wanted)
        if stored != claim.expected:
            return ClaimResult(ClaimStatus.LOST, stored)
        if _is_early(claim, now):
            return ClaimResult(ClaimStatus.EARLY, stored)
        pushed, errors = self._push(claim.commands)
        if claim.commands and not pushed:
            return ClaimResult(ClaimStatus.FAILED, stored, errors or "none of its commands sends a message")
        if claim.wanted is None:
            del self.store.cursors[claim.name]
        else:
            self.store.cursors[claim.name] = claim.wanted
        return ClaimResult(ClaimStatus.WON, claim.wanted, errors)

    def _push(self, commands: Sequence[Command]) -> tuple[bool, str]:
        """Whether a message was pushed, and the errors; none is if a queue takes no message."""
        refused = [command for command in commands if command.key in self.store.refused]
        errors = "; ".join(f"{command.op} {command.key}: refused" for command in refused)
        if any(command.op == "LPUSH" for command in refused):
            return False, errors
        pushed = False
        for command in commands:
            if command in refused or command.op == "PEXPIRE":
                continue
            pushed = True
            if command.op == "LPUSH":
                self.store.queues.setdefault(command.key, []).append(command.value)
            else:
                self.store.published.append((command.key, command.value))
        return pushed, errors


def _is_early(claim: Claim, now: datetime) -> bool:
    """Whether the claim is of an occurrence that is not due yet; an anchor is of none."""
    if claim.wanted is None:
        return False
    moves = claim.expected is not None and claim.wanted.due > claim.expected.due
    return bool(moves or claim.commands) and claim.wanted.due > now
