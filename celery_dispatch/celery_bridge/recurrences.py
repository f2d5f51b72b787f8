"""Celery's schedules as recurrences: the same instants as stock beat, computed from the last nominal due.

======================================  ====================================================================
schedule                                recurrence
======================================  ====================================================================
number, timedelta, ``schedule``         ``Interval``: arithmetic on whole milliseconds
``crontab``                             ``WallClock``: celery's own answer, in the app's zone
``schedule(relative=True)``             ``Aligned``: celery's own answer, on the grid of the last due
``cron``, ``rrule``, ``at``             ``WallTime``, or ``Once``: of this package, in a zone of their own
``solar``, classes with their own       ``Asked``: celery's own answer
``remaining_estimate``
classes with their own ``is_due``       ``PolledSchedule``: asked on pool time
======================================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from celery.schedules import BaseSchedule, crontab, schedule, solar

from celery_dispatch.celery_bridge.asked import Aligned, Asked, Pinned, WallClock
from celery_dispatch.celery_bridge.kinds.own import OwnSchedule
from celery_dispatch.core.recurrence import Nominal, Polled
from celery_dispatch.errors import EntryError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Interval", "PolledSchedule", "Recurrences", "recurrence_of"]

_MILLISECOND = timedelta(milliseconds=1)
_SHORTEST_POLL = timedelta(milliseconds=10)
_MOST_SHARED = 10_000  # schedules; of more, equal ones may have recurrences of their own
_LONGEST_POLL = 300.0  # seconds; celery.beat's own
_DEFAULT_IS_DUE = (BaseSchedule.is_due, schedule.is_due, crontab.is_due, solar.is_due)


def recurrence_of(schedule: Any, app: Celery) -> Nominal | Polled:
    """The recurrence of one schedule as ``beat_schedule`` has it; ``EntryError`` if it cannot be one."""
    return Recurrences(app).of(schedule)


class Recurrences:
    """The recurrences of one app; equal schedules share one, and with it what was computed."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._known: dict[Hashable, tuple[Nominal | Polled, Any]] = {}

    def of(self, schedule: Any, name: str = "") -> Nominal | Polled:
        """The recurrence of ``schedule`` for the entry of this name; ``EntryError`` if it cannot be one.

        The schedule stays untouched.
        """
        key = _identity(schedule, name)
        try:
            found = self._known.get(key)
        except TypeError:  # a field that cannot be hashed
            key = (type(schedule), id(schedule))
            found = self._known.get(key)
        if found is None:
            found = (
                _make(schedule, self._app, name),
                schedule,
            )  # holding it keeps its id from being used again
            if len(self._known) >= _MOST_SHARED:
                self._known.clear()
            self._known[key] = found
        return found[0]


def _identity(s: Any, name: str) -> Hashable:
    kind = type(s)
    if isinstance(s, OwnSchedule):
        return s, None if s.is_shared() else name
    if kind is schedule:
        return kind, s.run_every, s.relative, s.nowfun
    if kind is crontab:
        fields = (s.minute, s.hour, s.day_of_week, s.day_of_month, s.month_of_year)
        return kind, tuple(map(frozenset, fields)), s.nowfun
    if kind is solar:
        return kind, s.event, s.lat, s.lon, s.nowfun
    return kind, id(s)


def _make(s: Any, app: Celery, name: str) -> Nominal | Polled:
    kind = type(s)
    if isinstance(s, OwnSchedule) and kind.is_due is OwnSchedule.is_due:
        return s.recurrence(app.timezone, name)
    if not callable(getattr(s, "is_due", None)):
        raise EntryError(
            f"{s!r:.80} is no schedule; use seconds, a timedelta, crontab, solar or a class with is_due()"
        )
    if getattr(kind, "is_due", None) not in _DEFAULT_IS_DUE:
        return PolledSchedule(Pinned(s, app))
    estimate = getattr(kind, "remaining_estimate", None)
    if estimate is BaseSchedule.remaining_estimate:
        raise EntryError(f"{kind.__qualname__} defines neither is_due() nor remaining_estimate()")
    if isinstance(s, schedule):
        every = _run_every(s)
        if estimate is schedule.remaining_estimate:
            return Aligned(Pinned(s, app), every) if s.relative else Interval.every(every)
    if estimate is crontab.remaining_estimate:
        return WallClock(Pinned(s, app))
    return Asked(Pinned(s, app))


def _run_every(s: Any) -> timedelta:
    every: object = s.run_every
    if not isinstance(every, timedelta):
        raise EntryError(f"the interval {every!r} is neither a number of seconds nor a timedelta")
    seconds = every.total_seconds()
    if seconds <= 0:
        raise EntryError(f"the interval {seconds:g} s is not positive; use one above zero")
    if s.relative and seconds < 1:
        raise EntryError(f"the relative interval {seconds:g} s is under a second; use 1 s or more")
    return every


# --- intervals ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Interval:
    """Every ``step`` milliseconds from the last due."""

    step: int

    @classmethod
    def every(cls, interval: timedelta) -> Interval:
        """An interval as the grid can hold it: parts of a millisecond are rounded up, once."""
        return cls(-(interval // -_MILLISECOND))

    def following(self, last: datetime, after: datetime) -> datetime:
        return self._at(last, (after - last) // _MILLISECOND // self.step + 1)

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        steps = (now - last) // _MILLISECOND // self.step
        return (self._at(last, steps), steps - 1) if steps > 0 else None

    def _at(self, last: datetime, steps: int) -> datetime:
        try:
            return _later(last, self.step * steps)
        except OverflowError:
            raise EntryError("the interval is so long that it never ends") from None


@lru_cache(maxsize=1_000)
def _later(moment: datetime, milliseconds: int) -> datetime:
    """One object for all that are due at one instant: they are many, and an instant is 48 bytes."""
    return moment + timedelta(milliseconds=milliseconds)


# --- polling ------------------------------------------------------------------------------------------------


class PolledSchedule:
    """A schedule that only knows whether it is due; asked on the pool's time."""

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned
        self._longest: float = pinned.app.conf.beat_max_loop_interval or _LONGEST_POLL

    def poll(self, last: datetime, now: datetime) -> tuple[bool, timedelta]:
        answer = self._pinned.call(self._pinned.schedule.is_due, last, now)
        try:
            due, wait = answer
            seconds = self._seconds(wait)
        except (TypeError, ValueError) as error:
            raise EntryError(
                f"{self._pinned.schedule!r:.80} answered {answer!r:.80} instead of (due, seconds)"
            ) from error
        return bool(due), max(_SHORTEST_POLL, timedelta(seconds=seconds))

    def _seconds(self, wait: Any) -> float:
        if wait is None:
            return self._longest
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait + 0.0
        return float(max(0, min(seconds, self._longest))) if seconds == seconds else self._longest
