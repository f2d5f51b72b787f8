"""What ``Schedules`` is put together from."""

from __future__ import annotations

from dataclasses import dataclass

from celery import Celery

from celery_dispatch.schedules.bulk import Planning
from celery_dispatch.schedules.editing import Editing
from celery_dispatch.schedules.reading import Reading
from celery_dispatch.schedules.sending import Sender
from celery_dispatch.schedules.store import Store, open_store
from celery_dispatch.schedules.written import Written

__all__ = ["Parts", "open_parts"]


@dataclass(frozen=True)
class Parts:
    """All that works on the schedules of one pool."""

    store: Store
    reading: Reading
    editing: Editing
    written: Written
    planning: Planning
    sender: Sender


def open_parts(app: Celery) -> Parts:
    """The parts for an app; connects with the first use.  Raises ``ConfigError``."""
    store = open_store(app)
    reading, written = Reading(store), Written(store)
    editing = Editing(store, reading)
    return Parts(
        store=store,
        reading=reading,
        editing=editing,
        written=written,
        planning=Planning(reading=reading, editing=editing, written=written, now=store.now),
        sender=Sender(app, key_prefix=store.key_prefix, now=store.now),
    )
