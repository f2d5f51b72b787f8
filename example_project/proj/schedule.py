"""What runs when: an ordinary ``beat_schedule``.  Only the key ``dispatch`` is celery_dispatch's own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.schedules import crontab

from .broker import URGENT, WHENEVER

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # An interval: every 10 s from the moment the entry came into force, without drift.
    "heartbeat": {
        "task": "proj.tasks.heartbeat",
        "schedule": 10.0,
        # Urgent, and worth nothing once the next one is there: a worker drops it after 10 s.
        "options": {"priority": URGENT, "expires": 10},
        # Nobody wants the heartbeats of an outage afterwards.
        "dispatch": {"catch_up": "none"},
    },
    # timedelta works as well; the task retries with growing pauses if the other side fails.
    "fetch-rates-eur": {
        "task": "proj.tasks.fetch_rates",
        "schedule": timedelta(seconds=30),
        "args": ("EUR",),
    },
    "fetch-rates-usd": {
        "task": "proj.tasks.fetch_rates",
        "schedule": timedelta(seconds=30),
        "args": ("USD",),
    },
    # Not urgent: waits behind everything else in the same queue.
    "clean-up": {
        "task": "proj.tasks.clean_up",
        "schedule": crontab(minute="*/5"),
        "options": {"priority": WHENEVER},
    },
    # A fan-out and its barrier, in a queue of their own: see tasks.py.
    "report-every-minute": {
        "task": "proj.tasks.build_report",
        "schedule": crontab(),
        "kwargs": {"shards": 4},
    },
    "report-nightly": {
        "task": "proj.tasks.build_report",
        "schedule": crontab(hour=2, minute=30),
        "kwargs": {"shards": 32},
        # Each night has to be there, one that fell into an outage of up to a day included.
        "dispatch": {"catch_up": "all", "catch_up_window": timedelta(days=1)},
    },
}
