"""Schedules as data: looked at and changed from any process, while the beats run."""

from celery_dispatch.schedules.bulk import Bulk, Plan, Planned, Step
from celery_dispatch.schedules.schedules import Schedules
from celery_dispatch.schedules.sending import Backfill, RunNow
from celery_dispatch.schedules.values import Coming, Page, Paused, Schedule, State

__all__ = [
    "Backfill",
    "Bulk",
    "Coming",
    "Page",
    "Paused",
    "Plan",
    "Planned",
    "RunNow",
    "Schedule",
    "Schedules",
    "State",
    "Step",
]
