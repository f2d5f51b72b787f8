"""What an entry sends: of a ``celery.beat.ScheduleEntry`` that which is its own, in half of the memory."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery.beat import ScheduleEntry

from celery_dispatch.core.entry import Entry
from celery_dispatch.core.records import record
from celery_dispatch.errors import EntryError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Payload", "payload_of"]


@record
class Payload:
    """The fields of a ``ScheduleEntry`` that say what is sent and when, as it has them."""

    task: str
    schedule: Any
    args: Any
    kwargs: Any
    options: Any

    @property
    def item(self) -> dict[str, Any]:
        """The same as an item of ``beat_schedule``."""
        return {
            "task": self.task,
            "schedule": self.schedule,
            "args": self.args,
            "kwargs": self.kwargs,
            "options": self.options,
        }

    def entry(self, name: str, app: Celery, *, last_run_at: datetime) -> ScheduleEntry:
        """The entry that stock beat would have, but for what that counts: here the cursor says what ran."""
        return ScheduleEntry(name=name, app=app, last_run_at=last_run_at, **self.item)


def payload_of(entry: Entry) -> Payload:
    """What an entry sends; raises ``EntryError`` if it is none of Celery's."""
    payload = entry.payload
    if not isinstance(payload, Payload):
        raise EntryError(f"The payload of {entry.name!r} is none of Celery's: {payload!r}")
    return payload
