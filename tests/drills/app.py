"""The Celery app of the drills: everything in it comes from the JSON document that ``DRILL_APP`` names.

``conf`` are settings, ``entries`` items of ``beat_schedule`` whose ``schedule`` is a description,
``namespace`` the prefix under which the settings are given, as in a Django project, and ``app`` what the app
is called.  Each entry's first argument is its name; ``odd`` adds one that is lazy or cannot be serialised.
With ``user_code`` a receiver marks each message as it is published, and may take a lock in Redis for it.
``DRILL_POINT`` names a point at which the process is to come to harm (``points``).
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery.beat
from celery import Celery, Task, signals
from celery.beat import BeatLazyFunc
from celery.schedules import crontab, schedule

from tests.drills import points
from tests.drills.collector import MARK, RUNS, connect
from tests.drills.process import die_with_parent

_RECORD = """
local time = redis.call('TIME')
local at = time[1] .. string.format('%06d', tonumber(time[2]))
redis.call('RPUSH', KEYS[1], '{"at": ' .. at .. ', ' .. string.sub(ARGV[1], 2))
"""


def _without_processes() -> None:
    """Make ``worker -B`` run its beat in a thread, as Celery does where there is no multiprocessing."""
    if os.environ.get("DRILL_EMBED") == "thread":
        setattr(celery.beat, "_Process", None)  # noqa: B010


def _recurrence(description: dict[str, Any]) -> object:
    if "cron" in description:
        minute, hour, day_of_month, month, day_of_week = description["cron"].split()
        return crontab(minute, hour, day_of_week, day_of_month, month)
    if description.get("relative"):
        return schedule(timedelta(seconds=description["every"]), relative=True)
    return description["every"] if description.get("plain") else timedelta(seconds=description["every"])


def _entry(name: str, item: dict[str, Any]) -> dict[str, Any]:
    odd = {"lazy": BeatLazyFunc(os.getpid), "locked": BeatLazyFunc(_locked), "unserialisable": object()}
    args = (name, odd[item["odd"]]) if "odd" in item else (name,)
    known = {key: value for key, value in item.items() if key != "odd"}
    return {"task": "drill.record", "args": args, **known, "schedule": _recurrence(item["schedule"])}


def _mark(headers: dict[str, Any], **_: object) -> None:
    """What a user's receiver of ``before_task_publish`` does; leaves a trace in the message."""
    headers[MARK] = os.getpid()


def _locked() -> int:
    """What a user's code does that is to run on one host at a time; all beats wait for one lock.

    Whoever dies with it keeps the others waiting until it runs out.
    """
    client = connect(os.environ["DRILL_SERVER"])
    with contextlib.closing(client), client.lock("drill:lock", timeout=1.0, sleep=0.002):
        return os.getpid()


def _mark_locked(headers: dict[str, Any], **_: object) -> None:
    headers[MARK] = _locked()


_RECEIVERS = {"mark": _mark, "lock": _mark_locked}


def _build() -> Celery:
    die_with_parent()
    _without_processes()
    points.install()
    document = json.loads(Path(os.environ["DRILL_APP"]).read_text())
    namespace = document.get("namespace", "")
    entries = {name: _entry(name, item) for name, item in document.get("entries", {}).items()}
    conf = {**document["conf"], "beat_schedule": entries}
    app = Celery(document.get("app", "drill"))
    if document.get("user_code"):
        signals.before_task_publish.connect(_RECEIVERS[document["user_code"]], weak=False)
    if namespace:
        settings = SimpleNamespace(**{f"{namespace}_{key.upper()}": value for key, value in conf.items()})
        app.config_from_object(settings, namespace=namespace)
    else:
        app.conf.update(conf)
    return app


app = _build()


def _record(self: Task[Any, Any], *args: Any) -> None:
    """Note what ran, with the instant by Redis's clock."""
    request = self.request
    names = ("dispatch_entry", "dispatch_due", "dispatch_node", "celery_beat_task", "periodic_task_name")
    headers = {name: value for name in names if (value := request.get(name)) is not None}
    queue = (request.delivery_info or {}).get("routing_key")
    run = {"args": args, "queue": queue, "headers": {"id": request.id, **headers}}
    client = connect(os.environ["DRILL_SERVER"])
    client.eval(_RECORD, 1, RUNS, json.dumps(run))
    client.close()


record = app.task(bind=True, name="drill.record")(_record)
routed = app.task(bind=True, name="drill.routed")(_record)
