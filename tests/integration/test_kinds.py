"""One entry of every kind and policy, fired by two real beats of which one is killed."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from celery_dispatch.redis_store.client import redis_client
from tests.drills.process import Process, wait_until
from tests.drills.redis_server import Server, running_server

pytestmark = pytest.mark.timeout(180)

APP = """
import os, sys
from datetime import datetime, timedelta

from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule, solar

from celery_dispatch import ScheduleCodec, at, cron, rrule

sys.path.insert(0, {root!r})
from tests.drills.process import die_with_parent

die_with_parent()
began = datetime.fromisoformat({began!r})
moment = began + timedelta(seconds={lead})


class Even(BaseSchedule):
    def remaining_estimate(self, last_run_at):
        return timedelta(seconds=2 - last_run_at.timestamp() % 2)


app = Celery("kinds", broker={url!r})
app.conf.update(
    beat_scheduler="celery_dispatch:DispatchScheduler", dispatch_catch_up="all",
    dispatch_schedule_codecs={{"even": ScheduleCodec(Even, lambda even: {{}}, lambda document: Even())}},
)
kinds = {{
    "interval": 2,
    "relative": schedule(2, relative=True),
    "crontab": crontab(),
    "solar": solar("sunset", 48, 2),
    "cron": cron("*/2 * * * * *", timezone="Europe/Paris"),
    "hashed": cron("H/3 * * * * *"),
    "document": {{"kind": "cron", "expression": "1/2 * * * * *", "timezone": "Antarctica/Troll"}},
    "at": at(moment),
    "past": at(began - timedelta(hours=1)),
    "rrule": rrule("FREQ=SECONDLY;INTERVAL=2", dtstart="2020-01-01T00:00:00", timezone="Europe/Paris"),
    "own": {{"kind": "even"}},
}}
policies = {{
    "count": {{"count": 5}},
    "between": {{"start": moment, "end": moment + timedelta(seconds=4)}},
    "jitter": {{"jitter": 0.9}},
    "labelled": {{"description": "words", "labels": {{"team": ["a", {{"b": None}}]}}}},
}}
app.conf.beat_schedule = {{
    **{{name: {{"task": "t.a", "schedule": each}} for name, each in kinds.items()}},
    **{{name: {{"task": "t.a", "schedule": 1, "dispatch": each}} for name, each in policies.items()}},
}}
"""
LEAD, RUN = 40, 55  # seconds from the start to the moment of ``at``, and to the end


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path / "redis") as server:
        yield server


def fired(server: Server) -> dict[str, list[datetime]]:
    client = redis_client(server.url, {})
    found = defaultdict(list)
    for raw in client.lrange("celery", 0, -1):  # type: ignore[union-attr]
        headers = json.loads(raw)["headers"]
        found[headers["dispatch_entry"]].append(
            datetime.fromisoformat(headers["dispatch_due"].replace("Z", "+00:00"))
        )
    client.close()
    return {name: sorted(dues) for name, dues in found.items()}


def test_every_kind_and_policy_is_fired_as_it_says(server: Server, tmp_path: Path) -> None:
    began = datetime.now(timezone.utc).replace(microsecond=0)
    root = str(Path(__file__).resolve().parents[2])
    text = APP.format(root=root, began=began.isoformat(), lead=LEAD, url=server.url)
    (tmp_path / "kinds_app.py").write_text(text)
    env = {"PYTHONPATH": f"{tmp_path}:{root}"}

    def beat(name: str) -> Process:
        argv = [sys.executable, "-m", "celery", "-A", "kinds_app", "beat", "-l", "INFO", "--pidfile="]
        return Process(name, argv, env=env, log=tmp_path / f"{name}.log")

    beats = [beat("one"), beat("two")]

    def logs() -> str:
        return "\n".join(one.log for one in beats) + str({k: len(v) for k, v in fired(server).items()})

    try:
        for one in beats:
            one.start()
        wait_until(lambda: len(fired(server).get("interval", ())) >= 3, 60, why=logs)
        beats[0].kill()
        end = max(began + timedelta(seconds=RUN), datetime.now(timezone.utc) + timedelta(seconds=15))
        wait_until(lambda: datetime.now(timezone.utc) > end, 90)
        found = fired(server)
    finally:
        for one in beats:
            one.end()
    assert "is left out" not in logs() and "Traceback" not in logs(), logs()
    moment = began + timedelta(seconds=LEAD)
    assert all(len(set(dues)) == len(dues) for dues in found.values()), "doubled"
    for name, every in {"interval": 2, "relative": 2, "cron": 2, "document": 2, "rrule": 2, "own": 2}.items():
        gaps = {later - due for due, later in zip(found[name], found[name][1:])}
        assert gaps == {timedelta(seconds=every)}, (name, logs())
    assert {due.second % 2 for due in found["cron"]} == {0}
    assert {due.second % 2 for due in found["document"]} == {1}
    assert len({due.second % 3 for due in found["hashed"]}) == 1
    assert found["at"] == [moment]
    assert "past" not in found and "solar" not in found
    assert len(found["count"]) == 5
    assert found["between"] == [moment + timedelta(seconds=n) for n in range(5)]
    assert len(found["jitter"]) >= 15 and len(found["labelled"]) >= 15
