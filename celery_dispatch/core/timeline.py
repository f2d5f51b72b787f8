"""The entries that this node holds, ordered by when it has to look at them.

A heap of alarms with lazy removal: setting an item's alarm again leaves the old one in the heap, where it is
recognised by its number and dropped (at the latest when they are the majority).  Finding what is due costs
O(log n) per due entry, and nothing for the rest.

Two lanes keep occurrences that are being caught up from starving those that are due now: a pass takes from
the live lane first and fills up with the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from celery_dispatch.core.entry import Cursor, Entry, Occurrence
from celery_dispatch.core.ports import Claim, Path
from celery_dispatch.core.report import Skip
from celery_dispatch.core.rows import Row
from celery_dispatch.errors import EntryError

__all__ = ["Bid", "Item", "Timeline"]

_SLACK = 1_000
_LATEST = datetime(9000, 1, 1, tzinfo=timezone.utc)  # as late as a cursor may be due


@dataclass(slots=True, eq=False)
class Item:
    """An entry on this node's timeline.

    ``polled`` says of which kind its recurrence is, ``due`` is the occurrence it waits for, ``fires_at`` when
    that is to be fired; ``completed``: it waits for none.  ``attempt`` is a claim whose outcome is unknown.
    ``failures`` counts errors in a row, for the backoff; ``order`` breaks ties among equal alarms and is
    negative on a standby, so that owner and standby begin at opposite ends of the same queue.
    ``row`` is what was said at run time of the entry, as it was held; ``replaced``: another is known now.
    """

    entry: Entry
    cursor: Cursor
    rank: int
    due: datetime
    order: int = 0
    polled: bool = False
    attempt: Bid | None = None
    failures: int = 0
    ticket: int = 0
    row: Row | None = None
    replaced: bool = False
    completed: bool = False
    fires_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.fires_at = self.due

    def wait_for(self, due: datetime, fires_at: datetime | None = None) -> None:
        """Wait for the occurrence of ``due``, which is fired then unless it is said when.

        Raises ``EntryError`` for what lies so late that nothing can be added to it.
        """
        alarm = fires_at or due
        if max(due, alarm) > _LATEST:
            raise EntryError("its next due is past the year 9000")
        self.due, self.fires_at, self.completed = due, alarm, False

    def complete(self) -> None:
        """Wait for nothing: the cursor has passed the last occurrence."""
        self.wait_for(self.cursor.due)
        self.completed = True

    @property
    def is_stale(self) -> bool:
        """Whether it must not be fired by the row that it is held by.

        Its cursor may stand under another one; it may also stand under that very row again, where a recovery
        put it back after the change.
        """
        return self.replaced or self.cursor.change != (self.row.version if self.row is not None else 0)


@dataclass(slots=True, eq=False)
class Bid:
    """A claim that is made for an item: of which occurrence, how its message goes, why others are skipped."""

    item: Item
    claim: Claim
    occurrence: Occurrence
    path: Path
    reason: Skip


class Timeline:
    """Items by name, and their alarms."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._live: list[tuple[datetime, int, int, Item]] = []
        self._backlog: list[tuple[datetime, int, int, Item]] = []
        self._tickets = 0

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def get(self, name: str) -> Item | None:
        """The item of an entry, if it is held."""
        return self._items.get(name)

    def arm(self, item: Item, alarm: datetime, *, backlog: bool = False) -> None:
        """Hold ``item`` and let it be popped at ``alarm``; replaces the alarm it had."""
        self._tickets += 1
        item.ticket = self._tickets
        self._items[item.entry.name] = item
        lane = self._backlog if backlog else self._live
        heapq.heappush(lane, (alarm, item.order, item.ticket, item))
        if len(lane) > 2 * len(self._items) + _SLACK:
            lane[:] = [alarmed for alarmed in lane if alarmed[3].ticket == alarmed[2]]
            heapq.heapify(lane)

    def rest(self, item: Item) -> None:
        """Hold ``item`` without an alarm."""
        item.ticket = 0
        self._items[item.entry.name] = item

    def drop(self, name: str) -> None:
        """Hold it no longer; unknown names are fine."""
        item = self._items.pop(name, None)
        if item is not None:
            item.ticket = 0

    def pop_due(self, now: datetime, limit: int) -> list[Item]:
        """Up to ``limit`` items whose alarm is at or before ``now``, live ones first.

        They stay held, without an alarm: each must be armed again or dropped.
        """
        popped: list[Item] = []
        for lane in (self._live, self._backlog):
            while len(popped) < limit and lane and lane[0][0] <= now:
                _, _, ticket, item = heapq.heappop(lane)
                if item.ticket == ticket:
                    item.ticket = 0
                    popped.append(item)
        return popped

    def next_alarm(self) -> datetime | None:
        """The earliest alarm, or ``None`` where nothing is armed."""
        alarms = []
        for lane in (self._live, self._backlog):
            while lane and lane[0][3].ticket != lane[0][2]:
                heapq.heappop(lane)
            if lane:
                alarms.append(lane[0][0])
        return min(alarms, default=None)
