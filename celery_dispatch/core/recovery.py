"""What a node does when Redis came back older, or empty, or is another server.

::

    all is well ──► somebody finds out ──► recovering: nothing can be claimed ──► all is well
                                              │                         ▲
                                              └─ every node merges ─────┘

The pool finds out by the server's own run id, or because it is gone; a node finds out when the ledger has a
cursor or a row that is behind the one that it knows.  Then each node puts back the rows of run-time entries
that it knows in a higher version than stored, compares all cursors that it holds with the ledger, puts back
those that are behind, and says that it has merged.  When all have, the pool goes on.

* Cursors are ordered by revision, then by due; a fresh anchor yields to any cursor that has fired or skipped.
  A reset by command raises the revision, so that a merge does not undo it.
* Two nodes may put the same cursor back at once: each write is compared with what was read, and the loser
  looks again.
* A node that dies meanwhile is waited for no longer than a lease.  What only it knew is lost.
"""

from __future__ import annotations

import logging
from datetime import datetime

from celery_dispatch.core.delivery import Delivery
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.following import Following
from celery_dispatch.core.ports import Claim, ClaimStatus, Damaged, Ledger, Stored
from celery_dispatch.core.timeline import Timeline

__all__ = ["Recovery", "is_behind"]

logger = logging.getLogger(__name__)

_SLICE = 500  # cursors that are compared in one turn


def is_behind(stored: Stored, known: Cursor) -> bool:
    """Whether the ledger has lost what this node knows of an entry."""
    if stored is None:
        return True
    return isinstance(stored, Cursor) and _progress(stored) < _progress(known)


def _progress(cursor: Cursor) -> tuple[int, bool, datetime]:
    """What orders two cursors of one entry: a fresh anchor yields to any that has fired or skipped."""
    return cursor.revision, cursor.fired + cursor.skipped > 0, cursor.due


class Recovery:
    """Merges what one node knows into the ledger, a slice a turn."""

    def __init__(
        self,
        *,
        node: str,
        timeline: Timeline,
        ledger: Ledger,
        following: Following,
        delivery: Delivery,
    ) -> None:
        self._node = node
        self._following = following
        self._timeline = timeline
        self._ledger = ledger
        self._delivery = delivery
        self._name = ""
        self._left: list[str] = []
        self._put_back = 0

    def turn(self, name: str, fence: Fence) -> bool:
        """Do a slice of the recovery called ``name``; whether all is merged.  Raises ``StoreError``.

        Raises ``FencedError`` where that recovery is over.
        """
        if name != self._name:
            self._name, self._left, self._put_back = name, [item.entry.name for item in self._timeline], 0
        if not self._following.merge(name):
            return False
        now, later = self._left[:_SLICE], self._left[_SLICE:]
        again = self._merge(now, fence) if now else []
        self._left = again + later
        if self._left:
            return False
        self._delivery.merge()
        if self._put_back:
            logger.warning("Redis had lost %d cursors; node %s put them back", self._put_back, self._node)
            self._put_back = 0
        return True

    def _merge(self, names: list[str], fence: Fence) -> list[str]:
        """Put back those that are behind; the names of which somebody else wrote meanwhile."""
        claims = []
        for name, stored in zip(names, self._ledger.read(names)):
            item = self._timeline.get(name)
            if item is None or stored == item.cursor:
                continue
            if isinstance(stored, Damaged) or is_behind(stored, item.cursor):
                claims.append(Claim(name, stored, item.cursor))
        if not claims:
            return []
        results = self._ledger.claim(fence, claims, recovery=self._name).results
        lost = [c.name for c, result in zip(claims, results) if result.status is not ClaimStatus.WON]
        self._put_back += len(claims) - len(lost)
        return lost
