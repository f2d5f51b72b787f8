"""When an entry is due next, and which occurrence a late node fires.

Two kinds of recurrence exist.  A *nominal* one computes the next due from the last nominal due, so nothing
drifts.  A *polled* one is a schedule that only knows "is it due now?": its due is the instant at which it was
asked, and there is nothing to catch up.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol, Union, runtime_checkable

__all__ = ["Nominal", "Polled", "Recurrence"]


@runtime_checkable
class Nominal(Protocol):
    """A schedule whose dues follow from the last one."""

    def following(self, last: datetime, after: datetime) -> datetime:
        """The first due later than ``after``, on the grid that ``last`` belongs to.

        ``last`` is the last nominal due (or the anchor) and ``after >= last``; both aware UTC, whole
        milliseconds, and so is the result.  Raises ``EntryError`` if the schedule gives no later instant.
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
