"""Outboxes and occurrences for the tests of publishing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import maybe_schedule

from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.celery_bridge.payload import Payload, payload_of
from celery_dispatch.core.entry import Entry, Occurrence
from tests.unit.world import Every

__all__ = ["DUE", "NOW", "make", "occurrence", "stock_entry"]

DUE = datetime(2030, 1, 1, 12, 0, 0, 5000, tzinfo=timezone.utc)
NOW = datetime(2030, 1, 1, 12, 0, 1, tzinfo=timezone.utc)


def make(app: Celery, **options: Any) -> CeleryOutbox:
    """An outbox on the app's broker, with a stock scheduler unless ``options`` name one."""
    options.setdefault("scheduler", Scheduler(app, lazy=True))
    return CeleryOutbox(app, key_prefix="p", node="n-1", **options)


def occurrence(app: Celery, *, task: str = "add", args: Any = (1, 2), **options: Any) -> Occurrence:
    """One of the entry ``sums``, which sends ``task`` with Celery's ``options``."""
    payload = Payload(task, maybe_schedule(1.0, app=app), args, {}, options)
    return Occurrence(Entry("sums", Every(1.0), "d", payload=payload), DUE)


def stock_entry(occurrence: Occurrence, app: Celery) -> ScheduleEntry:
    """What stock beat would send for it."""
    entry = occurrence.entry
    return payload_of(entry).entry(entry.name, app, last_run_at=NOW)
