"""Which occurrence a node fires that comes late, and how many it skips.

Within the handover delay everything is on time: each occurrence is fired for itself.  Later than that, the
entry's policy decides:

==========  ===============================================================================================
``latest``  the latest due until now; those before it are skipped and counted
``all``     each, oldest first
``none``    each that is not later than lease and handover together; older ones are skipped and counted
==========  ===============================================================================================

The window, where an entry has one, is a further limit on age under every policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from celery_dispatch.core.entry import CatchUp, Entry
from celery_dispatch.core.recurrence import Nominal

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


def plan(entry: Entry, due: datetime, now: datetime, patience: Patience) -> Plan:
    """What to do at ``now`` about an entry whose first open occurrence is ``due``, with ``due <= now``.

    The entry's recurrence is nominal: there is nothing to catch up in one that is polled.
    """
    if now - due <= patience.handover:
        return Plan(due)
    recurrence = cast(Nominal, entry.recurrence)
    oldest = _oldest(entry, now, patience)
    if entry.catch_up is CatchUp.LATEST:
        last, before = _latest(recurrence, due, now)
        return Plan(last, skipped=before) if last >= oldest else Plan(last, fire=False, skipped=before + 1)
    if due >= oldest:
        return Plan(due)
    last, before = _latest(recurrence, due, oldest - _TICK)
    return Plan(last, fire=False, skipped=before + 1)


def _oldest(entry: Entry, now: datetime, patience: Patience) -> datetime:
    limits = [] if entry.catch_up_window is None else [entry.catch_up_window]
    if entry.catch_up is CatchUp.NONE:
        limits.append(patience.limit)
    return now - min(limits) if limits else datetime.min.replace(tzinfo=now.tzinfo)


def _latest(recurrence: Nominal, due: datetime, until: datetime) -> tuple[datetime, int]:
    """The latest due in ``[due, until]`` and how many of that range come before it."""
    later = recurrence.latest(due, until)
    return (due, 0) if later is None else (later[0], later[1] + 1)
