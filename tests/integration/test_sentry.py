"""Sentry's cron monitors, the real ones, on two beats and a worker: what is checked in, and how often.

They patch ``Scheduler.apply_entry``: an occurrence is claimed first, and checked in by the beat that won it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from celery_dispatch.redis_store.client import redis_client
from tests.drills.process import ROOT, Process, wait_until
from tests.drills.redis_server import Server

pytest.importorskip("sentry_sdk")
pytestmark = pytest.mark.timeout(180)

# Sentry monitors no interval below a minute, so the crontab is one in name only.
APP = """
import json
from datetime import timedelta

import sentry_sdk
from celery import Celery
from celery.schedules import crontab
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from celery_dispatch import cron
from tests.drills.process import die_with_parent

die_with_parent()


def write(path, document):
    with open(path, "a") as file:
        file.write(json.dumps(document) + "\\n")


class ToFile(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type == "check_in":
                write({checked_in!r}, item.payload.json)


class EachSecond(crontab):
    def remaining_estimate(self, last_run_at):
        return timedelta(seconds=1 - last_run_at.microsecond / 1e6)


sentry_sdk.init(
    dsn="http://key@127.0.0.1:1/1",
    transport=ToFile,
    integrations=[CeleryIntegration(monitor_beat_tasks=True)],
)
app = Celery("proj", broker={url!r})
app.conf.update(
    beat_scheduler="celery_dispatch:DispatchScheduler",
    dispatch_catch_up="all",
    task_ignore_result=True,
    beat_schedule={{
        **{{f"monitored-{{n}}": {{"task": "ticked", "schedule": EachSecond()}} for n in range(4)}},
        "unknown-to-sentry": {{"task": "ticked", "schedule": cron("* * * * * *")}},
    }},
)


@app.task(bind=True, name="ticked")
def ticked(self):
    headers = self.request.headers or {{}}
    names = "dispatch_entry", "dispatch_due", "sentry-monitor-check-in-id"
    write({ran!r}, [headers.get(name) for name in names])
"""


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_occurrence_is_checked_in_once_when_it_is_fired_and_once_when_it_has_run(
    server: Server, tmp_path: Path
) -> None:
    checked_in, ran = tmp_path / "checked-in", tmp_path / "ran"
    text = APP.format(url=server.url, checked_in=str(checked_in), ran=str(ran))
    (tmp_path / "sentry_app.py").write_text(text)

    def start(name: str, *arguments: str) -> Process:
        argv = [sys.executable, "-m", "celery", "-A", "sentry_app", *arguments, "-l", "INFO"]
        process = Process(name, argv, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, log=tmp_path / f"{name}.log")
        process.start()
        return process

    def logs() -> str:
        return "\n".join(process.log[-5000:] for process in (worker, *beats))

    def run(more: int) -> None:
        wanted = len(lines(ran)) + more
        wait_until(lambda: len(lines(ran)) >= wanted, 60, why=logs)

    def ids(status: str) -> Counter[str]:
        return Counter(each["check_in_id"] for each in lines(checked_in) if each["status"] == status)

    worker = start("worker", "worker", "-P", "solo", "--without-mingle")
    beats = [start(name, "beat", "--pidfile=") for name in ("one", "two")]
    client = redis_client(server.url, {})
    try:
        run(30)
        for beat in beats:
            beat.terminate()
            beat.wait(15)
            run(25 if beat is beats[0] else 0)
        wait_until(lambda: not client.llen("celery") and ids("ok") == ids("in_progress"), 20, why=logs)
    finally:
        client.close()
        for process in (*beats, worker):
            process.end()
    runs = lines(ran)
    occurrences = Counter((entry, due) for entry, due, _ in runs)
    assert set(occurrences.values()) == {1}
    monitored = [check_in for entry, _, check_in in runs if entry.startswith("monitored-")]
    assert ids("in_progress") == ids("ok") == Counter(monitored)
    assert {each["monitor_slug"] for each in lines(checked_in)} == {f"monitored-{n}" for n in range(4)}
    unknown = [check_in for entry, _, check_in in runs if entry == "unknown-to-sentry"]
    assert unknown
    assert set(unknown) == {None}
