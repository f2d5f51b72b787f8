"""Bringing the cursors in line with the config in force, once nothing of the one before can be claimed.

One node does it, the owner of slot 0, a page a turn, from a lease after each switch on, again after a
recovery, and then once an hour:

* the cursor of an entry that left is *buried*: the tombstone keeps its counts and its place, so that an
  entry that comes back within the grace goes on; after the grace it is removed, and the entry starts anew;
* the cursor of an entry that changed, and was not claimed since, *takes* its new definition: should the old
  one come back, what it had been due for meanwhile was nobody's.

Dying half-way costs nothing: whoever owns slot 0 next begins again, and to do it twice is to do it once.
When it is done the node says so to the pool, for no vote switches before that, or for two leases.  A config
that is gone again before it was swept, most likely with all of its nodes and within a lease, leaves no trace:
its time counts as that of the one that comes back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Catalog, Cursor, Fence
from celery_dispatch.core.ports import Claim, Ledger

__all__ = ["GRACE", "Sweeper"]

#: How long an entry may be out of the config and still go on where it was.
GRACE = timedelta(days=1)

_PAGE = 500
_EVERY = 3600.0  # seconds


class Sweeper:
    """Goes through all cursors, a page at a time."""

    def __init__(
        self, *, node: str, catalog: Catalog, ledger: Ledger, clock: PoolClock, lease: timedelta
    ) -> None:
        self._node = node
        self._lease = lease
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._swept: tuple[Fence, str] | None = None
        self._position = 0
        self._next = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether there are more pages to be swept."""
        return self._position > 0

    def turn(self, fence: Fence, recovery: str) -> bool:
        """Sweep one page, if it is time to, and say whether it was the last one.

        ``recovery`` names the last one that the pool went through.

        Raises ``StoreError`` and ``FencedError``.
        """
        if (fence, recovery) != self._swept:
            self._swept, self._position, self._next = (fence, recovery), 0, 0.0
        if not self._position and self._clock.monotonic() < self._next:
            return False
        if self._clock.now() < fence.since + self._lease:
            return False
        position, rows = self._ledger.scan(self._position, _PAGE)
        now = self._clock.now()
        claims = {name: claim for name, row in rows if (claim := self._verdict(name, row, fence, now))}
        if claims:
            self._ledger.claim(fence, list(claims.values()))
        self._position = position
        self._next = self._clock.monotonic() + _EVERY
        return not position

    def _verdict(self, name: str, row: object, fence: Fence, now: datetime) -> Claim | None:
        if not isinstance(row, Cursor):
            return None
        if name in self._catalog:
            return self._take(name, row, fence)
        if not row.is_tombstone:
            return Claim(name, row, row.bury(fence, self._node))
        if now - row.effective_from > GRACE:
            return Claim(name, row, None)
        return None

    def _take(self, name: str, row: Cursor, fence: Fence) -> Claim | None:
        entry = self._catalog.entries.get(name)
        if entry is None or row.is_tombstone or row.definition == entry.definition:
            return None
        if row.conflicts(entry.definition, fence):
            return None
        return Claim(name, row, row.take(entry.definition, fence, self._node))
