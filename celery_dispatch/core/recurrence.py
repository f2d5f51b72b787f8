"""When an entry is due next, and which occurrence a late node fires.

Two kinds of recurrence exist.  A *nominal* one computes the next due from the last nominal due, so nothing
drifts.  A *polled* one is a schedule that only knows "is it due now?": its due is the instant at which it was
asked, and there is nothing to catch up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, Union, runtime_checkable

__all__ = ["Between", "Nominal", "Polled", "Recurrence", "is_polled"]

_TICK = timedelta(milliseconds=1)


@runtime_checkable
class Nominal(Protocol):
    """A schedule whose dues follow from the last one."""

    def following(self, last: datetime, after: datetime) -> datetime | None:
        """The first due later than ``after``, on the grid that ``last`` belongs to; ``None`` for none.

        ``last`` is the last nominal due (or the anchor) and ``after >= last``; both aware UTC, whole
        milliseconds, and so is the result.  Raises ``EntryError`` if the schedule cannot tell.
        """
        ...

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        """The latest due in ``(last, now]`` and how many dues of that range come before it, or ``None``.

        Must not step through the whole range.  The count may stop at 1,000 where counting means stepping.
        """
        ...


@runtime_checkable
class Polled(Protocol):
    """A schedule that can only be asked whether it is due."""

    def poll(self, last: datetime, now: datetime) -> tuple[bool, timedelta]:
        """Whether it is due at ``now`` when it last ran at ``last``, and how long until to ask again."""
        ...


Recurrence = Union[Nominal, Polled]


def is_polled(recurrence: Recurrence) -> bool:
    """Whether it is of the kind that can only be asked.

    ``isinstance`` would go through the protocol member by member, which took longer than all else that is
    done for an entry while it is loaded.
    """
    return hasattr(recurrence, "poll")


@dataclass(frozen=True, slots=True)
class Between:
    """The dues of ``recurrence`` from ``start`` to ``end``, both included; ``None`` for no bound.

    ``from_start``: its grid is that of an interval, and is counted from ``start``, which is the first due.
    """

    recurrence: Nominal
    start: datetime | None
    end: datetime | None
    from_start: bool = False

    def following(self, last: datetime, after: datetime) -> datetime | None:
        if self.start is None:
            due = self.recurrence.following(last, after)
        elif after >= self.start:
            due = self.recurrence.following(self.start if self.from_start else last, after)
        elif self.from_start:
            due = self.start
        else:
            due = self.recurrence.following(last, self.start - _TICK)
        return None if due is None or (self.end is not None and due > self.end) else due

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        if self.end is not None:
            now = min(now, self.end)
        first = self.following(last, last)
        if first is None or first > now:
            return None
        later = self.recurrence.latest(first, now)
        return (first, 0) if later is None else (later[0], later[1] + 1)
