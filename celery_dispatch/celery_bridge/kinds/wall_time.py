"""Times of day in a zone as instants, where clocks change too.

A calendar (a cron expression, a recurrence rule) names times by the wall clock and knows nothing of zones.
Here they become instants, by one rule for all:

* A time that does not exist, because clocks go forward over it, is due when the gap is over; with
  ``gap="skip"`` it is not due that day.
* A time that exists twice, because clocks go back, is due the first time.  What is an *interval*, such as
  every ten minutes, runs through both; with ``fold="both"`` every time does.

That is the rule of Cronos, and of Debian's cron for fixed times.  It holds for changes of any size, a skipped
day included, and asks a zone only for its offset at an instant.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo

from celery_dispatch.celery_bridge.stepped import Stepped

__all__ = ["FOLDS", "GAPS", "Calendar", "WallTime"]

#: What a time in the gap may do: run when the gap is over, or not at all.
GAPS = ("shift", "skip")
#: When a time of the repeated hour may run.
FOLDS = ("first", "both")

#: The first time by the wall clock, without a zone, that is later than a given one; ``None`` for none.
Calendar = Callable[[datetime], "datetime | None"]

_DAY = timedelta(days=1)
_TICK = timedelta(milliseconds=1)
_REMEMBERED = 64


class WallTime(Stepped):
    """The dues of a calendar in a zone; ``both``: times of a repeated hour are due both times."""

    def __init__(self, calendar: Calendar, zone: tzinfo, *, shift: bool, both: bool) -> None:
        super().__init__()
        self._calendar = calendar
        self._zone = zone
        self._shift = shift
        self._both = both
        self._memo: dict[datetime, datetime | None] = {}

    def following(self, last: datetime, after: datetime) -> datetime | None:
        if after not in self._memo:
            if len(self._memo) >= _REMEMBERED:
                self._memo.clear()
            self._memo[after] = self._following(after)
        return self._memo[after]

    def _following(self, after: datetime) -> datetime | None:
        local = self._local(after)
        first, second = self._instants(local)
        if first < second:
            return self._within_repeated(local, after, self._change(first, second))
        return self._instant(self._calendar(local))

    def _within_repeated(self, local: datetime, after: datetime, change: datetime) -> datetime | None:
        """The due after an instant whose time exists twice; clocks go back at ``change``."""
        begin, end = self._local(change), change.replace(tzinfo=None) + self._offset(change - _TICK)
        second_pass = after >= change
        due = self._calendar(end - _TICK if second_pass and not self._both else local)
        if due is not None and due < end:
            return after + (due - local)
        again = self._calendar(begin - _TICK) if self._both and not second_pass else None
        if again is not None and again < end:
            return change + (again - begin)
        return self._instant(due)

    def _instant(self, due: datetime | None) -> datetime | None:
        """When a time of the calendar is due; that of a later one where it is not."""
        while due is not None:
            first, second = self._instants(due)
            if first <= second:
                return first
            change = self._change(second, first)
            if self._shift:
                return change
            due = self._calendar(self._local(change) - _TICK)
        return None

    def _instants(self, local: datetime) -> tuple[datetime, datetime]:
        """The instants of a time, by the offset before and after any change that is near.

        Equal for a time that exists once.  The first is earlier where it exists twice, and later where it
        does not exist: then a change lies between them.
        """
        as_utc = local.replace(tzinfo=timezone.utc)
        before, after = self._offset(as_utc - _DAY), self._offset(as_utc + _DAY)
        first = as_utc - before
        if before == after:
            return first, first
        second = as_utc - after
        fits_first, fits_second = self._offset(first) == before, self._offset(second) == after
        if fits_first == fits_second:
            return first, second
        return (first, first) if fits_first else (second, second)

    def _change(self, before: datetime, since: datetime) -> datetime:
        """The first instant in ``(before, since]`` with the offset that holds at ``since``."""
        offset = self._offset(since)
        while since - before > _TICK:
            middle = before + (since - before) // 2 // _TICK * _TICK
            if self._offset(middle) == offset:
                since = middle
            else:
                before = middle
        return since

    def _local(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self._zone).utcoffset() or timedelta(0)
