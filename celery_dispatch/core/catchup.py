"""Which occurrence a node fires that comes late, and how many it skips.

Within the handover delay everything is on time: each occurrence is fired for itself.  Later than that, the
entry's policy decides:

==========  ===============================================================================================
``latest``  the latest due until now that is in no pause; those before it are skipped and counted
``all``     each, oldest first
``none``    each that is not later than lease and handover together; older ones are skipped and counted
==========  ===============================================================================================

The window, where an entry has one, is a further limit on age under every policy.  Lateness and age count
from when an occurrence is to be fired: its due and the jitter.  What is due in a pause is skipped and
counted.  An entry whose config is about to be replaced is dealt with as far as the instant at which that
happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import cast

from celery_dispatch.core.entry import CatchUp, Entry
from celery_dispatch.core.records import record
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.core.report import Skip
from celery_dispatch.core.rows import Pause, pause_end, pause_start

__all__ = ["Patience", "Plan", "plan"]

_TICK = timedelta(milliseconds=1)
_EVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Patience:
    """How late is late: ``handover`` bounds what counts as on time, ``limit`` what ``none`` still fires."""

    handover: timedelta
    limit: timedelta


@record
class Plan:
    """The cursor moves to ``due``, which is fired or not, and ``skipped`` occurrences are counted.

    ``fires_at`` is when that occurrence could be dealt with at the earliest.
    """

    due: datetime
    fires_at: datetime
    fire: bool = True
    skipped: int = 0
    reason: Skip = Skip.LATE


def plan(
    entry: Entry,
    due: datetime,
    now: datetime,
    patience: Patience,
    *,
    until: datetime | None = None,
    pauses: Sequence[Pause | None] = (),
) -> Plan:
    """What to do at ``now`` about an entry whose first open occurrence is ``due``, to be fired by ``now``.

    What is fired from ``until`` on is left alone, and ``due`` before it.  The entry's recurrence is nominal:
    there is nothing to catch up in one that is polled.
    """
    end = now if until is None else min(now, until - _TICK)
    paused_until = pause_end(due, now, pauses)
    if paused_until is not None:
        return _skip(entry, due, min(end, paused_until), Skip.PAUSED)
    fires_at = entry.fires_at(due)
    if now - fires_at <= patience.handover:
        return Plan(due, fires_at)
    oldest, reason = _oldest(entry, now, patience)
    if entry.catch_up is CatchUp.LATEST:
        last, fires_at, before = _latest(entry, due, end)
        while (paused := pause_start(last, pauses)) is not None:  # that comes later
            last, fires_at, before = _latest(entry, due, paused - _TICK)
        if fires_at >= oldest:
            return Plan(last, fires_at, skipped=before)
        return Plan(last, fires_at, fire=False, skipped=before + 1, reason=reason)
    if fires_at >= oldest:
        return Plan(due, fires_at)
    return _skip(entry, due, min(end, oldest - _TICK), reason)


def _skip(entry: Entry, due: datetime, until: datetime, reason: Skip) -> Plan:
    """Skip all that is fired from ``due`` until ``until``."""
    last, fires_at, before = _latest(entry, due, until)
    return Plan(last, fires_at, fire=False, skipped=before + 1, reason=reason)


def _oldest(entry: Entry, now: datetime, patience: Patience) -> tuple[datetime, Skip]:
    """How long ago what is still fired was to be, and why what is older is not."""
    limits = [] if entry.catch_up_window is None else [(entry.catch_up_window, Skip.WINDOW)]
    if entry.catch_up is CatchUp.NONE:
        limits.append((patience.limit, Skip.LATE))
    if not limits:
        return _EVER, Skip.LATE
    age, reason = min(limits, key=lambda limit: limit[0])
    return now - age, reason


def _latest(entry: Entry, due: datetime, until: datetime) -> tuple[datetime, datetime, int]:
    """The latest due from ``due`` on to be fired by ``until``, when that is, and how many come before it."""
    recurrence = cast(Nominal, entry.recurrence)
    later = recurrence.latest(due, until)
    if later is not None and entry.fires_at(later[0]) > until:  # so the one before it is, whatever its jitter
        later = recurrence.latest(due, later[0] - _TICK)
    last, before = (due, 0) if later is None else (later[0], later[1] + 1)
    return last, entry.fires_at(last), before
