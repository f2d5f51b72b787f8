"""Dues that Celery's own schedules answer: crontab, relative intervals, solar and users' classes.

Celery answers "how long from now until the run after ``last``?".  Here ``now`` is pinned to ``last`` and both
are given in the zone in which stock beat would give them, so that the answer is the next due itself.

Where clocks go back, celery's crontab passes over the second of the two equal hours; asked from within that
hour, it would fire there again.  Where they go forward, a time in the gap is due when the gap is over; asked
from after the gap, celery would not know of it any more.  ``WallClock`` therefore asks from the last instant
before the change, so that the dues do not depend on the instant from which they are looked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

from celery.schedules import BaseSchedule, solar

from celery_dispatch.celery_bridge.schedule_codec import ZoneClock
from celery_dispatch.celery_bridge.stepped import Stepped
from celery_dispatch.errors import EntryError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Aligned", "Asked", "Pinned", "WallClock"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)
_MINUTE = timedelta(minutes=1)
_REMEMBERED = 64  # answers kept per schedule
_CLOCK_CHANGE = timedelta(hours=3)  # longer than any change of a zone's offset but a change of its date
_SAME_EVENT = timedelta(seconds=1)  # ephem finds one event up to 0.2 s apart from two starting points
_CACHED = ("tz", "utc_enabled")


def _up(instant: datetime) -> datetime:
    """``instant`` in UTC, rounded up to whole milliseconds."""
    rest = -instant.microsecond % 1000
    return instant.astimezone(timezone.utc) + timedelta(microseconds=rest)


class Pinned:
    """A copy of a user's schedule whose ``now`` is what it is told."""

    def __init__(self, original: Any, app: Celery) -> None:
        self.app = app
        self.zone = _zone(original, app)
        self._now = _EPOCH
        self.schedule: Any = _copy(original)
        if isinstance(original, BaseSchedule):
            self.schedule._app = app
        if isinstance(original, solar):
            self.schedule.cal = self.schedule.cal.copy()
        if isinstance(getattr(original, "nowfun", None), ZoneClock):
            self.schedule.tz = self.zone
        self.schedule.nowfun = self.schedule.now = self._tell

    def _tell(self) -> datetime:
        return self._now

    def call(self, method: Callable[[datetime], Any], last: datetime, now: datetime) -> Any:
        """What ``method`` answers for ``last`` at ``now``; anything it raises is this entry's error."""
        self._now = now.astimezone(self.zone)
        try:
            return method(last.astimezone(self.zone))
        except Exception as error:
            raise EntryError(f"{self.schedule!r:.80} cannot be asked: {error!r}") from error


def _copy(original: Any) -> Any:
    if not isinstance(original, BaseSchedule):
        return copy.copy(original)
    clone = object.__new__(type(original))
    clone.__dict__.update({name: value for name, value in vars(original).items() if name not in _CACHED})
    return clone


def _zone(original: Any, app: Celery) -> tzinfo:
    """The zone in which stock beat asks: that of the schedule's own clock if it has one, else the app's.

    Solar events are the same in every zone, but celery 5.5 subtracts local times, an hour off where clocks
    change: they are asked in UTC.
    """
    if isinstance(original, solar):
        return timezone.utc
    nowfun = getattr(original, "nowfun", None)
    if nowfun is not None:
        try:
            own: tzinfo | None = nowfun().tzinfo
        except Exception as error:
            raise EntryError(f"the nowfun of {original!r:.80} raised {error!r}") from error
        if own is not None:
            return own
    return app.timezone


class Asked(Stepped):
    """Dues that only the schedule itself knows; asked from the instant they are looked for from."""

    def __init__(self, pinned: Pinned) -> None:
        super().__init__()
        self._pinned = pinned
        self._memo: dict[datetime, datetime] = {}

    def following(self, last: datetime, after: datetime) -> datetime:
        due = self._ask(after)
        if isinstance(self._pinned.schedule, solar) and due - after <= _SAME_EVENT:
            due = self._ask(after + timedelta(minutes=30))  # the event that ``after`` itself is
        return self._later(due, after)

    def _ask(self, cursor: datetime) -> datetime:
        """The schedule's own answer for a run at ``cursor``, in UTC, whole milliseconds."""
        due = self._memo.get(cursor)
        if due is None:
            remaining = self._pinned.call(self._pinned.schedule.remaining_estimate, cursor, cursor)
            try:
                due = _up(cursor + remaining)
            except (TypeError, OverflowError) as error:
                raise EntryError(f"{self._pinned.schedule!r:.80} answered {remaining!r:.80}") from error
            if len(self._memo) >= _REMEMBERED:
                self._memo.clear()
            self._memo[cursor] = due
        return due

    def _later(self, due: datetime, after: datetime) -> datetime:
        if due <= after:
            raise EntryError(
                f"{self._pinned.schedule!r:.80} gives {due.isoformat()} as next after {after.isoformat()}"
            )
        return due


class WallClock(Asked):
    """A crontab: its dues are times of day in a zone, whatever instant they are looked for from."""

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        if now - last < _MINUTE and not (last.second or last.microsecond):
            return None  # dues are whole minutes
        return super().latest(last, now)

    def following(self, last: datetime, after: datetime) -> datetime:
        due = self._ask(_before_change(after, self._pinned.zone))
        while due <= after:
            due = self._later(self._ask(due), due)
        return due


class Aligned(Asked):
    """A relative interval: rounded to the day, hour, minute or second in the zone, ``every`` long."""

    def __init__(self, pinned: Pinned, every: timedelta) -> None:
        super().__init__(pinned)
        units = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
        unit = next(unit for unit in units if every >= unit)
        self._step = every // unit * unit

    def following(self, last: datetime, after: datetime) -> datetime:
        due = self._next(last)
        if due <= after:
            due = max(due, self._jump(due, after))
        while due <= after:
            due = self._next(due)
        return due

    def _jump(self, due: datetime, after: datetime) -> datetime:
        """An instant on the grid of ``due``, a few steps before ``after``."""
        steps = (after - due) // self._step - 2
        if steps <= 0:
            return due
        if self._step < timedelta(days=1):
            return due + steps * self._step
        return (due.astimezone(self._pinned.zone) + steps * self._step).astimezone(timezone.utc)

    def _next(self, cursor: datetime) -> datetime:
        due = self._ask(cursor)
        if due <= cursor:  # celery 5.5 counts by the wall clock and falls into the first of two equal hours
            due = self._ask(_before_change(cursor, self._pinned.zone))
        return self._later(due, cursor)


def _before_change(instant: datetime, zone: tzinfo) -> datetime:
    """The last millisecond before the clocks changed if ``instant`` is in the hour of a change, else itself.

    That hour is the repeated one where they went back, and as long as the gap where they went forward.
    """
    change = _offset(instant, zone) - _offset(instant - _CLOCK_CHANGE, zone)
    if not change:
        return instant
    before, since = instant - _CLOCK_CHANGE, instant
    offset = _offset(since, zone)
    while since - before > _MILLISECOND:
        middle = before + (since - before) // 2 // _MILLISECOND * _MILLISECOND
        if _offset(middle, zone) == offset:
            since = middle
        else:
            before = middle
    return before if instant - since < abs(change) else instant


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)
