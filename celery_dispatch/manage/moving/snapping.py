"""From the time at which another scheduler sent an entry last, to the due that this one goes on from.

Beat, RedBeat and django-celery-beat keep when they *sent* last, which is some time after it was due.  Their
next due is the first one after that.  So it is here, if the cursor is at:

=============================  =============================================================================
a grid of its own              the latest due that is not after the last run: the occurrence which it was,
(crontab, cron, solar, rrule,  or which it stood for where several were missed
at)
interval                       the last run itself, rounded up to milliseconds: they count an interval from
                               there, so the first due is one interval later
a schedule that is only asked  the last run, rounded up
=============================  =============================================================================

In each case the first fire here is that which the other scheduler would have made next, neither again nor
later.  Where it would have been while no scheduler ran, the entry's catch-up policy decides.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from celery_dispatch.celery_bridge.asked import Aligned
from celery_dispatch.celery_bridge.recurrences import Interval
from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.recurrence import Between, Nominal, Recurrence

__all__ = ["snapped"]

_MILLISECOND = timedelta(milliseconds=1)
_REACHES = tuple(timedelta(days=days) for days in (1 / 24, 1, 32, 366, 9 * 366))  # 29 February: 8 years


def snapped(last_run: datetime, recurrence: Recurrence) -> datetime:
    """The due that a cursor is put at whose entry was last sent at ``last_run``; whole milliseconds, UTC."""
    sent = whole_ms(last_run.astimezone(timezone.utc))
    if sent < last_run:
        sent += _MILLISECOND
    while isinstance(recurrence, Between):  # its bounds say nothing of its grid
        recurrence = recurrence.recurrence
    if not isinstance(recurrence, Nominal) or isinstance(recurrence, (Interval, Aligned)):
        return sent
    for reach in _REACHES:
        found = recurrence.latest(sent - reach, sent)
        if found is not None:
            return found[0]
    return sent
