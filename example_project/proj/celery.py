"""The app: broker, queues and priorities.  ``schedule.py`` says what runs when, ``tasks.py`` what it does."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Queue

from .schedule import BEAT_SCHEDULE

BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")

app = Celery(
    "proj",
    broker=BROKER_URL,
    # The same Redis keeps the results: the chord in tasks.py counts its finished parts there.
    backend=os.environ.get("CELERY_RESULT_BACKEND", BROKER_URL),
    include=["proj.tasks"],
)

app.conf.update(
    # --- who fires: as many `celery -A proj beat` as you like, on any hosts ---
    beat_scheduler="celery_dispatch:DispatchScheduler",
    beat_schedule=BEAT_SCHEDULE,
    timezone="UTC",
    # --- where it waits: two queues, each with workers of its own, so that neither can starve the other ---
    task_queues=[Queue("default"), Queue("reports")],
    task_default_queue="default",
    task_create_missing_queues=False,  # a misspelt queue is an error, not a queue without a worker
    task_routes={
        "proj.tasks.build_report": {"queue": "reports"},
        "proj.tasks.count_shard": {"queue": "reports"},
        "proj.tasks.join_report": {"queue": "reports"},
    },
    # --- who goes first: on Redis a *small* number is urgent, 0 to 9 (on RabbitMQ a large one is) ---
    # Each step is a list of its own (`default`, `default\x06\x163`, …), and a worker asks for them in this
    # order; a priority in between takes the step below it.
    # With "priority", a worker of several queues empties them in the order that -Q names them; the default,
    # "round_robin", takes turns.  Steps come before queues either way.
    broker_transport_options={
        "priority_steps": [0, 3, 6, 9],
        "queue_order_strategy": "priority",
        # A task that was reserved but not acknowledged for so long is given to another worker.
        "visibility_timeout": 3600,
    },
    task_default_priority=3,
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
