"""Bringing the cursors in line with the config in force, once nothing of the one before can be claimed.

One node does it, the owner of slot 0, a page a turn: when what was due before a switch is claimable no more,
which is a lease after it at the earliest; again after a recovery, and then once an hour:

* the cursor of an entry that left is *buried*: the tombstone keeps its counts and its place, so that an
  entry that comes back within the grace goes on; after the grace it is removed, and the entry starts anew;
* the cursor of an entry that changed, or came back within the grace, and was not claimed since, *takes* its
  new definition: should the old one come back, what it had been due for meanwhile was nobody's; should it
  leave again, its grace begins anew;
* the row of an entry that was deleted, or whose pause is over, is *retired* together with such a tombstone;
  one that pauses an entry stays, for the entry may come back;
* an entry that was created at run time to be removed when nothing is left to fire is *deleted* then, once its
  last message is certainly sent.

A cursor that stands under a row which this node does not know is judged when it has read that row.

Dying half-way costs nothing: whoever owns slot 0 next begins again, and to do it twice is to do it once.
When it is done the node says so to the pool, for no vote switches before that, or for two leases.  A config
that is gone again before it was swept, most likely with all of its nodes and within a lease, leaves no trace:
its time counts as that of the one that comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from celery_dispatch.core.catalog import LiveCatalog
from celery_dispatch.core.clock import PoolClock, whole_ms
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.following import Following
from celery_dispatch.core.ports import Change, Claim, Ledger, Rows
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.core.rows import MOST_CHANGES, Row

__all__ = ["GRACE", "Sweeper"]

#: How long an entry may be out of the config and still go on where it was.
GRACE = timedelta(days=1)

_PAGE = 500
_SENT = timedelta(minutes=10)  # after which no message is on its way any more
_WORD = "remove_when_completed"  # only rows that have it are looked into
_EVERY = 3600.0  # seconds


class Sweeper:
    """Goes through all cursors, a page at a time."""

    def __init__(
        self,
        *,
        node: str,
        catalog: LiveCatalog,
        following: Following,
        ledger: Ledger,
        rows: Rows,
        clock: PoolClock,
        lease: timedelta,
        new_token: Callable[[int], str],
    ) -> None:
        self._node = node
        self._lease = lease
        self._catalog = catalog
        self._following = following
        self._ledger = ledger
        self._rows = rows
        self._new_token = new_token
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
        cursors = {name: row for name, row in rows if isinstance(row, Cursor)}
        lost = self._following.learn(
            [name for name, row in cursors.items() if row.change != self._catalog.version(name)]
        )
        known = {name: row for name, row in cursors.items() if name not in lost}
        now = self._clock.now()
        claims = [claim for name, row in known.items() if (claim := self._verdict(name, row, fence, now))]
        if claims:
            self._ledger.claim(fence, claims)
        retired = {name: pair for name, row in known.items() if (pair := self._retired(name, row, now))}
        if retired:
            self._rows.retire(retired)
        finished = [
            change for name, row in known.items() if (change := self._finished(name, row, fence, now))
        ]
        for start in range(0, len(finished), MOST_CHANGES):
            self._rows.change(finished[start : start + MOST_CHANGES])
        self._position = position
        self._next = self._clock.monotonic() + _EVERY
        return not position

    def _verdict(self, name: str, cursor: Cursor, fence: Fence, now: datetime) -> Claim | None:
        if name in self._catalog:
            return self._take(name, cursor, fence)
        if not cursor.is_tombstone:
            change = self._catalog.version(name)
            return Claim(name, cursor, replace(cursor.bury(fence, self._node), change=change))
        if not cursor.change and now - cursor.effective_from > GRACE:
            return Claim(name, cursor, None)
        return None

    def _take(self, name: str, cursor: Cursor, fence: Fence) -> Claim | None:
        definition = self._catalog.definition(name)
        if definition is None or cursor.definition == definition:
            return None
        if cursor.is_tombstone and not self._goes_on(name, cursor, fence):
            return None  # who holds the entry lets it begin anew
        if cursor.change != self._catalog.version(name):  # who holds the entry puts that right
            return None
        if self._catalog.conflicts(name, cursor, definition, fence):
            return None
        return Claim(name, cursor, cursor.take(definition, fence, self._node))

    def _goes_on(self, name: str, tombstone: Cursor, fence: Fence) -> bool:
        """Whether the entry came back with its config, within the grace."""
        return not self._catalog.is_defined_by_row(name) and fence.since - tombstone.effective_from <= GRACE

    def _retired(self, name: str, cursor: Cursor, now: datetime) -> tuple[Row, Cursor] | None:
        row = self._catalog.row(name)
        if row is None or name in self._catalog or row.is_paused or not cursor.is_tombstone:
            return None
        old = now - cursor.effective_from > GRACE and now - row.updated > GRACE
        return (row, cursor) if old and row.version == cursor.change else None

    def _finished(self, name: str, cursor: Cursor, fence: Fence, now: datetime) -> Change | None:
        """The deletion of an entry that is to be removed when it is completed, and is."""
        row = self._catalog.row(name)
        if row is None or _WORD not in row.definition or not self._catalog.is_defined_by_row(name):
            return None
        if row.version != cursor.change or now - cursor.due < _SENT:
            return None
        entry = self._catalog.get(name)
        if entry is None or not entry.remove_when_completed or not isinstance(entry.recurrence, Nominal):
            return None
        try:
            if entry.next_due(cursor, fence) is not None:
                return None
        except Exception:  # schedules run user code; who holds the entry says so
            return None
        return Change(name, row, self._new_token(8), row.created, whole_ms(now))
