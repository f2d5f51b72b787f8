"""When a node has to look at each entry that it holds.

The owner's alarm rings when an occurrence is to be fired, which is its due and the jitter; that of a helper a
handover later.  Helpers are the standby, and everybody where that instant lies before the switch to their own
config.  An entry that fails rings again with backoff; one that is completed has no alarm.

What is held by another row than its cursor stands under, or than this node knows, is *stale*: it rests until
it is held by that one.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import cast

from celery_dispatch.core.catchup import Patience
from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.entry import Fence
from celery_dispatch.core.recurrence import Polled
from celery_dispatch.core.report import NodeReport
from celery_dispatch.core.ring import STANDBY
from celery_dispatch.core.timeline import Item, Timeline
from celery_dispatch.errors import EntryError

__all__ = ["Alarms", "words"]

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF = 60.0  # seconds
_LAST_OF_THE_OLD = 1.2  # handovers after a switch, or an outage, until the old config's standbys are done


def words(error: Exception) -> str:
    """An entry's error as people read it."""
    return str(error) if isinstance(error, EntryError) else repr(error)


class Alarms:
    """Sets the alarms of a timeline, under the fence that its owner sets."""

    def __init__(
        self, *, timeline: Timeline, clock: PoolClock, report: NodeReport, patience: Patience
    ) -> None:
        self.until: datetime | None = None
        self._fence: Fence | None = None
        self._opened: datetime | None = None
        self._stale: set[str] = set()
        self._timeline = timeline
        self._clock = clock
        self._report = report
        self._patience = patience

    def under(self, fence: Fence, *, until: datetime | None, opened: datetime) -> None:
        """Claim under ``fence`` from now on, and only what is due before ``until``.

        From ``opened`` on all nodes of the config before it can claim: what it changed is theirs first.
        """
        again = fence == self._fence and opened != self._opened
        self._fence, self.until, self._opened = fence, until, opened
        if not again:
            return
        now = self._clock.now()
        for item in self._timeline:
            if item.cursor.definition != item.entry.definition:
                self.ring(item, now)

    @property
    def fence(self) -> Fence:
        """What this node claims under; there must be one."""
        assert self._fence is not None
        return self._fence

    def take_stale(self) -> set[str]:
        """The entries that began to rest since this was last asked, since their rows must be read."""
        stale, self._stale = self._stale, set()
        return stale

    def reckon(self, item: Item, now: datetime) -> None:
        """Compute the item's next due from its cursor and set its alarm, at ``now``."""
        if item.is_stale:
            self._stale.add(item.entry.name)
            self._timeline.rest(item)
            return
        was_unknown = item.failures > 0 and item.due <= item.cursor.due
        try:
            self._look_ahead(item)
        except Exception as error:  # schedules run user code
            item.wait_for(item.cursor.due)
            self.fail(item, words(error))
            return
        if was_unknown:
            self.well(item)
        self.ring(item, now)

    def _look_ahead(self, item: Item) -> None:
        """Find what the item waits for."""
        entry, cursor = item.entry, item.cursor
        if item.polled and not entry.has_fired_all(cursor):
            now = self._clock.now()  # that of a slice is not new enough to be answered by
            is_due, wait = cast(Polled, entry.recurrence).poll(cursor.due, now)
            item.wait_for(now if is_due else now + wait)
            return
        due = None if item.polled else entry.next_due(cursor, self.fence)
        if due is None:
            item.complete()
        else:
            item.wait_for(due, entry.fires_at(due))

    def re_rank(self, item: Item, rank: int, now: datetime) -> None:
        """The item's rank changed, or what this node claims under; its due did not."""
        item.rank = rank
        self.ring(item, now)

    def ring(self, item: Item, now: datetime) -> None:
        """Let the item's alarm ring for what it waits for, unless that belongs to the next config.

        ``now`` is about now: it decides what counts as backlog.
        """
        if item.completed or item.is_stale or self._is_next_configs(item):
            self._timeline.rest(item)
            return
        helps = item.rank == STANDBY or item.fires_at < self.fence.since
        alarm = item.fires_at + self._patience.handover if helps else item.fires_at
        if item.cursor.definition != item.entry.definition:
            # After the first claim under the new definition nothing can be claimed under the old one.
            opened = self._opened or self.fence.since
            alarm = max(alarm, opened + _LAST_OF_THE_OLD * self._patience.handover)
        if alarm + self._patience.handover < now:
            self._timeline.arm(item, now, backlog=True)
        else:
            self._timeline.arm(item, alarm)

    def is_settled(self, item: Item) -> bool:
        """Whether there is nothing to claim: no due, one that could not be reckoned, or the next config's.

        The first is tried again; what the cursor has passed is never fired.
        """
        if item.completed or (item.due <= item.cursor.due and not item.polled):
            return True
        return self._is_next_configs(item)

    def _is_next_configs(self, item: Item) -> bool:
        return self.until is not None and max(item.fires_at, item.cursor.effective_from) >= self.until

    def fail(self, item: Item, message: str) -> None:
        """Note the error and try again later; the next try obeys the catch-up policy."""
        item.failures += 1
        wait = min(_LONGEST_BACKOFF, 0.5 * 2 ** min(item.failures, 10))
        if self._report.error(item.entry.name, message):
            logger.error("Entry %r cannot be fired: %s. Trying again with backoff.", item.entry.name, message)
        self._timeline.arm(item, self._clock.now() + timedelta(seconds=wait))

    def well(self, item: Item) -> None:
        item.failures = 0
        if self._report.well(item.entry.name):
            logger.warning("Entry %r can be fired again", item.entry.name)
