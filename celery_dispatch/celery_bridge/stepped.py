"""Recurrences that can only be counted by stepping through their dues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

__all__ = ["Stepped"]

_MILLISECOND = timedelta(milliseconds=1)
_COUNTED = 1000  # dues of a gap that are counted by stepping
_REMEMBERED = 64  # answers kept per schedule

_Found = tuple[datetime, int, "datetime | None"]


class Stepped(ABC):
    """The latest due, where only the following one is known."""

    def __init__(self) -> None:
        self._found: dict[datetime, _Found] = {}

    @abstractmethod
    def following(self, last: datetime, after: datetime) -> datetime | None:
        """As in ``Nominal``."""

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        """Counts by stepping, up to 1,000; past that, the latest due is looked for from ``now`` backwards."""
        known = self._found.get(last)
        if known is None or now < known[0] or (known[2] is not None and now >= known[2]):
            due = self.following(last, last)
            if due is None or due > now:
                return None
            known = self._walk(last, due, now)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[last] = known
        return known[0], known[1]

    def _walk(self, last: datetime, due: datetime, now: datetime) -> _Found:
        """The latest due up to ``now``, how many from ``due`` on come before it, and the one after it."""
        for passed in range(_COUNTED):
            later = self.following(last, due)
            if later is None or later > now:
                return due, passed, later
            due = later
        due = self._nearest(last, due, now)
        return due, _COUNTED, self.following(last, due)

    def _nearest(self, last: datetime, due: datetime, now: datetime) -> datetime:
        """The latest due up to ``now``, ``due`` being one of them: probes backwards, then halves."""
        span, later = timedelta(minutes=1), now
        while now - span > due:
            found = self.following(last, now - span)
            if found is not None and found <= now:
                due = found
                break
            later, span = now - span, span * 2
        while later > due:
            middle = due + (later - due) // 2 // _MILLISECOND * _MILLISECOND
            found = self.following(last, middle)
            if found is None or found > now:
                later = middle
            else:
                due = found
        return due
