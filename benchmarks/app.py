"""The Celery app of every process of a benchmark; ``BENCH_APP`` names the JSON document that it comes from.

``conf`` are settings, ``groups`` the entries.  With ``receiver`` the app has one for ``before_task_publish``,
as many apps do.  A beat that has read its schedule, and has done nothing with it yet, writes the file
``ready``, and waits for the file ``hold`` to go away, where there is one.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals

from benchmarks.schedules import Group, entries_of
from tests.drills.process import die_with_parent

_HOLD = 0.002  # seconds between two looks


def _build(document: dict[str, Any]) -> Celery:
    app = Celery("bench")
    app.conf.update(document["conf"])
    app.conf.beat_schedule = entries_of([Group(**group) for group in document["groups"]])
    if document["receiver"]:
        signals.before_task_publish.connect(_mark, weak=False)
    signals.beat_init.connect(_begin, weak=False)
    return app


def _mark(headers: dict[str, Any], **_: object) -> None:
    headers["bench_mark"] = os.getpid()


def ready() -> None:
    """Say that this process has read its schedule."""
    Path(_document["ready"]).touch()


def _begin(**_: object) -> None:
    ready()
    while Path(_document["hold"]).exists():
        time.sleep(_HOLD)


die_with_parent()
_document = json.loads(Path(os.environ["BENCH_APP"]).read_text())
app = _build(_document)
