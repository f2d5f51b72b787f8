"""An entry changed field by field, and looked at before it exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from celery_dispatch.manage.asked_for import BY_WALL_CLOCK, Asked, changed
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.schedules import Coming, Schedule, Schedules
from celery_dispatch.schedules.written import FIELDS

__all__ = ["Preview", "edited", "previewed"]

_EMPTY: dict[str, Any] = {"args": [], "kwargs": {}, "options": {}, "dispatch": {}}


@dataclass(frozen=True, slots=True)
class Preview:
    """The next occurrences: when each is due, and when it is fired, which jitter makes later.

    ``zone`` is the schedule's own, if it goes by the wall clock of one.
    """

    name: str | None
    zone: ZoneInfo | None
    occurrences: tuple[tuple[datetime, datetime], ...]


def edited(
    schedules: Schedules, name: str, asked: Asked, *, version: int | None, allow_unknown_task: bool
) -> Schedule:
    """The schedule after the change, which is made of what was read and of nothing newer."""
    if asked.changes_nothing:
        raise ControlError("There is nothing to change.", "Give what is to be, such as --every 30.")
    before = schedules.get(name)
    wanted = changed(before.definition or {}, asked)
    changes = {
        field: wanted.get(field, _EMPTY.get(field))
        for field in FIELDS
        if wanted.get(field) != (before.definition or {}).get(field)
    }
    if not changes:
        return before
    return schedules.update(
        name,
        version=before.version if version is None else version,
        allow_unknown_task=allow_unknown_task,
        **changes,
    )


def previewed(schedules: Schedules, name: str | None, asked: Asked, *, count: int) -> Preview:
    """The next ``count`` occurrences of the entry ``name``, or of what is asked for."""
    before = schedules.get(name).definition if name is not None else {"task": "preview"}
    if asked.changes_nothing and name is not None:
        return _preview(name, before or {}, schedules.preview(name, count=count))
    wanted = changed(before or {}, asked)
    if "schedule" not in wanted:
        raise ControlError(
            "There is nothing to look at.", "Give the NAME of an entry, or a schedule such as --every 30."
        )
    return _preview(name, wanted, schedules.preview(wanted, count=count, name=name or "preview"))


def _preview(name: str | None, definition: Mapping[str, Any], coming: Iterable[Coming]) -> Preview:
    occurrences = tuple((one.due, one.fires_at) for one in coming)
    return Preview(name, _zone(definition.get("schedule")), occurrences)


def _zone(schedule: object) -> ZoneInfo | None:
    if not isinstance(schedule, Mapping) or schedule.get("kind") not in BY_WALL_CLOCK:
        return None
    return ZoneInfo(schedule["timezone"]) if schedule.get("timezone") else None
