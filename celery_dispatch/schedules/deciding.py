"""What is to be written, from what is stored: the rules of each change, and what refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery_dispatch.celery_bridge.moments import instant
from celery_dispatch.celery_bridge.policies import deciding
from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Cursor, Entry, Fence
from celery_dispatch.core.ports import Change, Damaged, Stored
from celery_dispatch.core.rows import Pause, Row
from celery_dispatch.errors import EntryError, NameTaken, ScheduleError, StaleVersion, UnknownSchedule
from celery_dispatch.schedules.editing import change_of
from celery_dispatch.schedules.reading import Found, loaded
from celery_dispatch.schedules.values import Coming, Paused

__all__ = [
    "check_known",
    "check_run_time",
    "check_unchanged",
    "coming",
    "created",
    "defined",
    "paused",
    "resumed",
    "unknown",
    "with_labels",
]

_MILLISECOND = timedelta(milliseconds=1)


def coming(
    entry: Entry, cursor: Stored, *, now: datetime, since: datetime | None, count: int
) -> tuple[Coming, ...]:
    """The next occurrences from where a cursor stands, or from an instant."""
    if since is not None or not isinstance(cursor, Cursor) or cursor.is_tombstone:
        cursor = Cursor.anchor(entry.definition, whole_ms(since or now), "")
    next_ones = islice(entry.coming(cursor, Fence("", cursor.effective_from)), count)
    return tuple(Coming(one.due, one.fires_at) for one in next_ones)


def created(
    found: Found,
    now: datetime,
    text: str,
    *,
    last_due: datetime | None = None,
    begins_paused: Paused | None = None,
) -> Change:
    """The change that creates a schedule; ``NameTaken`` if it cannot, ``EntryError`` for ``last_due``."""
    if found.in_config:
        raise NameTaken(
            f"{found.name!r} is an entry of beat_schedule. Choose another name, or change it there; it "
            "can be paused."
        )
    if isinstance(found.row, Damaged):
        check_known(found)
    if found.is_known:
        raise NameTaken(f"There is a schedule {found.name!r} already. Update it, or choose another name.")
    said = begins_paused
    pause = None if said is None else Pause(whole_ms(said.at), None, said.note, said.author)
    return replace(
        change_of(found, now), definition=text, pause=pause, created=now, anchor=_anchor(last_due, now)
    )


def _anchor(last_due: datetime | None, now: datetime) -> datetime | None:
    if last_due is None:
        return None
    anchor = instant(last_due, "last_due")
    if anchor < last_due:
        anchor += _MILLISECOND
    if anchor > now + _MILLISECOND:
        raise EntryError(
            f"last_due = {last_due.isoformat()}: lies in the future, so nothing was due then yet (is a clock "
            "wrong?); wait until it is past, or leave it out"
        )
    return anchor


def check_known(found: Found) -> None:
    """Raise ``UnknownSchedule`` if nothing has that name, ``ScheduleError`` if its row cannot be read."""
    if not found.is_known:
        raise unknown(found.name)
    if isinstance(found.row, Damaged):
        raise ScheduleError(
            f"{found.name!r} cannot be read: it is {found.row}. Delete it and create it again."
        )


def check_unchanged(found: Found, planned: Found) -> None:
    """Raise ``StaleVersion`` unless it still says what it said when the plan was made."""
    is_gone = not (found.defined or planned.defined)  # which it may have been twice, with one between
    if found.defined != planned.defined or (is_gone and found.version != planned.version):
        raise StaleVersion(found.name, given=planned.version, stored=found.version)


def check_run_time(found: Found) -> None:
    """Raise ``ScheduleError`` unless it was created at run time."""
    check_known(found)
    if not found.defined:
        raise ScheduleError(
            f"{found.name!r} is an entry of the config: change it in beat_schedule and deploy. "
            "It can be paused."
        )


def defined(found: Found, now: datetime, text: str) -> Change:
    """The change to another definition, or to none."""
    alike = _fires_alike(loaded(found.defined), loaded(text))
    change = replace(change_of(found, now), definition=text, keeps_since=alike)
    return change if text else replace(change, pause=None, drops_intents=True)


def _fires_alike(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """Whether two items differ in nothing but what is for people."""
    if before is None or after is None or not isinstance(before.get("dispatch", {}), dict):
        return False
    one, other = ({**item, "dispatch": deciding(item.get("dispatch", {}))} for item in (before, after))
    return one == other


def with_labels(item: Mapping[str, Any], labels: Mapping[str, Any]) -> dict[str, Any]:
    """An item with these labels beside its own; one whose own are none is left to be refused as it is."""
    asked = item.get("dispatch") or {}
    own = (asked.get("labels") or {}) if isinstance(asked, Mapping) else None
    if not labels or not isinstance(own, Mapping):
        return dict(item)
    return {**item, "dispatch": {**asked, "labels": {**own, **labels}}}


def unknown(name: str) -> UnknownSchedule:
    """The error that nothing has that name."""
    return UnknownSchedule(f"There is no schedule {name!r}; list shows those that there are.")


def paused(found: Found, now: datetime, *, note: str, author: str) -> Change:
    """The change that pauses, or that says something else of a pause which is on."""
    row = found.row
    since = row.pause.since if isinstance(row, Row) and row.pause is not None and row.pause.is_on else now
    return replace(change_of(found, now), pause=Pause(since, None, note, author), drops_intents=True)


def resumed(found: Found, now: datetime) -> Change | None:
    """The change that ends a pause; ``None`` where none is on.

    Raises ``ScheduleError`` if the row cannot be read.
    """
    row = found.row
    if isinstance(row, Damaged):
        what = repr(found.name) if found.name else "everything"
        raise ScheduleError(
            f"Whether {what} is paused cannot be read: it is {row}. Pause it again, and then resume it."
        )
    if not isinstance(row, Row) or row.pause is None or not row.pause.is_on:
        return None
    return replace(change_of(found, now), pause=replace(row.pause, until=now))
