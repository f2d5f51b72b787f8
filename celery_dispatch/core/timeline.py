"""The entries that this node holds, ordered by when it has to look at them.

A heap of instants, and for each the items whose alarms ring then: dues lie on grids, so that many entries
share an instant, and one step of the heap is for all of them.  What is not due costs nothing.  Removal is
lazy: setting an item's alarm again leaves the item where it was, and there it is found to have another alarm
and dropped (at the latest when such are the majority).

Two lanes keep occurrences that are being caught up from starving those that are due now: a pass takes from
the live lane first and fills up with the backlog.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from celery_dispatch.core.entry import Cursor, Entry, Occurrence
from celery_dispatch.core.ports import Claim, Path
from celery_dispatch.core.report import Skip
from celery_dispatch.core.ring import STANDBY
from celery_dispatch.core.rows import Row
from celery_dispatch.errors import EntryError

__all__ = ["Bid", "Item", "Timeline"]

_SLACK = 1_000
_LATEST = datetime(9000, 1, 1, tzinfo=timezone.utc)  # as late as a cursor may be due


@dataclass(slots=True, eq=False)
class Item:
    """An entry on this node's timeline.

    ``polled`` says of which kind its recurrence is, ``due`` is the occurrence it waits for, ``fires_at`` when
    that is to be fired; ``completed``: it waits for none.  ``alarm`` is when it is to be looked at, ``None``
    where it rests or was popped.  ``attempt`` is a claim whose outcome is unknown.
    ``failures`` counts errors in a row, for the backoff.  ``order`` breaks ties among equal alarms, and some
    that lie side by side in memory share one; a standby goes the other way, so that owner and standby begin
    at opposite ends of the same queue.
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
    alarm: datetime | None = None
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


def _place(item: Item) -> int:
    """Where it comes among those of one instant."""
    return -item.order if item.rank == STANDBY else item.order


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
        self._instants: list[datetime] = []  # a heap of the keys of ``_armed``
        self._armed: dict[datetime, list[Item]] = {}
        self._copies = 0  # in ``_armed``, old ones included
        self._front: deque[Item] = deque()  # those of the earliest instant, in their order
        self._front_at = _LATEST
        self._backlog: deque[tuple[datetime, Item]] = deque()

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
        """Hold ``item`` and let it be popped at ``alarm``; replaces the alarm it had.

        The backlog is in the order in which it was armed.
        """
        item.alarm = alarm
        self._items[item.entry.name] = item
        if backlog:
            self._backlog.append((alarm, item))
        elif alarm in self._armed:
            self._armed[alarm].append(item)
            self._copies += 1
        else:
            self._armed[alarm] = [item]
            self._copies += 1
            heapq.heappush(self._instants, alarm)
        if max(self._copies, len(self._backlog)) > 2 * len(self._items) + _SLACK:
            self._tidy()

    def rest(self, item: Item) -> None:
        """Hold ``item`` without an alarm."""
        item.alarm = None
        self._items[item.entry.name] = item

    def drop(self, name: str) -> None:
        """Hold it no longer; unknown names are fine."""
        item = self._items.pop(name, None)
        if item is not None:
            item.alarm = None

    def pop_due(self, now: datetime, limit: int) -> list[Item]:
        """Up to ``limit`` items whose alarm is at or before ``now``, live ones first.

        They stay held, without an alarm: each must be armed again or dropped.
        """
        popped: list[Item] = []
        while len(popped) < limit and self._is_front_due(now):
            item = self._front.popleft()
            if item.alarm == self._front_at:
                item.alarm = None
                popped.append(item)
        while len(popped) < limit and self._backlog and self._backlog[0][0] <= now:
            alarm, item = self._backlog.popleft()
            if item.alarm is alarm:
                item.alarm = None
                popped.append(item)
        return popped

    def next_alarm(self) -> datetime | None:
        """The earliest alarm, or ``None`` where nothing is armed."""
        while self._front and self._front[0].alarm != self._front_at:
            self._front.popleft()
        while self._backlog and self._backlog[0][1].alarm is not self._backlog[0][0]:
            self._backlog.popleft()
        while self._instants and not self._is_awaited(self._instants[0]):
            del self._armed[heapq.heappop(self._instants)]
        alarms = self._instants[:1]
        if self._front:
            alarms.append(self._front_at)
        if self._backlog:
            alarms.append(self._backlog[0][0])
        return min(alarms, default=None)

    def _is_front_due(self, now: datetime) -> bool:
        """Whether something is left of the earliest instant, or of the next one, and that has come."""
        if self._front and self._front_at > now:  # the clock went back: something else may be the earliest
            left = [item for item in self._front if item.alarm == self._front_at]
            self._front.clear()
            for item in left:
                self.arm(item, self._front_at)
        if not self._front and self._instants and self._instants[0] <= now:
            self._front_at = heapq.heappop(self._instants)
            items = self._armed.pop(self._front_at)
            items.sort(key=_place)
            self._front.extend(items)
            self._copies -= len(items)
        return bool(self._front) and self._front_at <= now

    def _is_awaited(self, instant: datetime) -> bool:
        """Whether the alarm of anybody rings then; those that were armed again are taken out of its end."""
        items = self._armed[instant]
        while items and items[-1].alarm != instant:
            items.pop()
            self._copies -= 1
        return bool(items)

    def _tidy(self) -> None:
        """Forget alarms that were replaced."""
        for instant, items in self._armed.items():
            items[:] = dict.fromkeys(item for item in items if item.alarm == instant)
        self._armed = {instant: items for instant, items in self._armed.items() if items}
        self._instants = sorted(self._armed)
        self._copies = sum(map(len, self._armed.values()))
        self._backlog = deque((alarm, item) for alarm, item in self._backlog if item.alarm is alarm)
