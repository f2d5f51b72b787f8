"""The example app with another schedule: twelve entries, each of them due every second.

Others come and go while it runs: ``live.py``.
"""

from __future__ import annotations

import os
from typing import Any

import redis

from proj.broker import REDIS_URL
from proj.celery import app

from .runs import Recorder

__all__ = ["ENTRIES", "STEP_MS", "app"]

STEP_MS = 1000
ENTRIES = tuple(f"tick-{number:02}" for number in range(1, 13))

app.conf.beat_schedule = {name: {"task": "demo.tick", "schedule": STEP_MS / 1000} for name in ENTRIES}
app.conf.dispatch_catch_up = "all"  # nothing may be skipped, so whatever did not run was lost
app.conf.dispatch_node_name = os.environ.get("DEMO_NODE", "beat")

_record = Recorder(redis.Redis.from_url(REDIS_URL, socket_timeout=5, socket_connect_timeout=5))


@app.task(bind=True, name="demo.tick", ignore_result=True)
def tick(self: Any, number: int = 0) -> None:
    """Write down which occurrence this is, by which definition, who fired it, and when it runs."""
    headers = self.request.headers or {}
    _record(
        entry=headers.get("dispatch_entry"),
        due=headers.get("dispatch_due"),
        node=headers.get("dispatch_node"),
        task_id=self.request.id,
        number=number,
    )
