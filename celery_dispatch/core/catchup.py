"""Which occurrence a node fires that comes late, and how many it skips.

Within the handover delay everything is on time: each occurrence is fired for itself.  Later than that, the
entry's policy decides:

==========  ===============================================================================================
``latest``  the latest due until now; those before it are skipped and counted
``all``     each, oldest first
``none``    each that is not later than lease and handover together; older ones are skipped and counted
==========  ===============================================================================================

The window, where an entry has one, is a further limit on age under every policy.  An entry whose config is
about to be replaced is dealt with as far as the instant at which that happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from celery_dispatch.core.entry import CatchUp, Entry
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.core.report import Skip

__all__ = ["Patience", "Plan", "plan"]

_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Patience:
    """How late is late: ``handover`` bounds what counts as on time, ``limit`` what ``none`` still fires."""

    handover: timedelta
    limit: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """The cursor moves to ``due``, which is fired or not, and ``skipped`` occurrences are counted."""

    due: datetime
    fire: bool = True
    skipped: int = 0
    reason: Skip = Skip.LATE


def plan(
    entry: Entry, due: datetime, now: datetime, patience: Patience, *, until: datetime | None = None
) -> Plan:
    """What to do at ``now`` about an entry whose first open occurrence is ``due``, with ``due <= now``.

    What is due from ``until`` on is left alone; ``due`` is before it.  The entry's recurrence is nominal:
    there is nothing to catch up in one that is polled.
    """
    if now - due <= patience.handover:
        return Plan(due)
    recurrence = cast(Nominal, entry.recurrence)
    end = now if until is None else min(now, until - _TICK)
    oldest, reason = _oldest(entry, now, patience)
    if entry.catch_up is CatchUp.LATEST:
        last, before = _latest(recurrence, due, end)
        if last >= oldest:
            return Plan(last, skipped=before)
        return Plan(last, fire=False, skipped=before + 1, reason=reason)
    if due >= oldest:
        return Plan(due)
    last, before = _latest(recurrence, due, min(end, oldest - _TICK))
    return Plan(last, fire=False, skipped=before + 1, reason=reason)


def _oldest(entry: Entry, now: datetime, patience: Patience) -> tuple[datetime, Skip]:
    """The oldest due that is still fired, and why an older one is not."""
    limits = [] if entry.catch_up_window is None else [(entry.catch_up_window, Skip.WINDOW)]
    if entry.catch_up is CatchUp.NONE:
        limits.append((patience.limit, Skip.LATE))
    if not limits:
        return datetime.min.replace(tzinfo=now.tzinfo), Skip.LATE
    age, reason = min(limits, key=lambda limit: limit[0])
    return now - age, reason


def _latest(recurrence: Nominal, due: datetime, until: datetime) -> tuple[datetime, int]:
    """The latest due in ``[due, until]`` and how many of that range come before it."""
    later = recurrence.latest(due, until)
    return (due, 0) if later is None else (later[0], later[1] + 1)
