"""The app: who fires, which queues there are, who goes first.

``broker.py`` says through which broker, ``schedule.py`` what runs when, ``tasks.py`` what it does.
"""

from __future__ import annotations

import os

from celery import Celery

from .broker import BROKER_URL, NORMAL, REDIS_URL, SETTINGS
from .schedule import BEAT_SCHEDULE

app = Celery(
    "proj",
    broker=BROKER_URL,
    # A Redis keeps the results: the chord in tasks.py counts its finished parts there.
    backend=os.environ.get("CELERY_RESULT_BACKEND", REDIS_URL),
    include=["proj.tasks"],
)

app.conf.update(
    SETTINGS,  # of the broker: its queues and options
    # --- who fires: as many `celery -A proj beat` as you like, on any hosts ---
    beat_scheduler="celery_dispatch:DispatchScheduler",
    beat_schedule=BEAT_SCHEDULE,
    timezone="UTC",
    # --- where it waits ---
    task_default_queue="default",
    task_create_missing_queues=False,  # a misspelt queue is an error, not a queue without a worker
    task_routes={
        "proj.tasks.build_report": {"queue": "reports"},
        "proj.tasks.count_shard": {"queue": "reports"},
        "proj.tasks.join_report": {"queue": "reports"},
    },
    # --- who goes first ---
    task_default_priority=NORMAL,
    # Whatever a worker has already reserved can no longer be overtaken: reserve one task per process.
    worker_prefetch_multiplier=1,
    # --- what a dying worker leaves behind is run again, so tasks have to bear a second run ---
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # --- the rest ---
    task_time_limit=300,
    task_soft_time_limit=240,
    result_expires=3600,
    broker_connection_retry_on_startup=True,
)
