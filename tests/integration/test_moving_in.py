"""Moving in from keyspaces, databases and files that RedBeat, django-celery-beat and stock beat wrote."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import PersistentScheduler

from tests.drills.cluster import Cluster, Spec, every
from tests.drills.oracle import Every
from tests.drills.process import ROOT
from tests.drills.redis_server import Server
from tests.integration.conftest import MakeCluster
from tests.servers import wait_until

SETTINGS = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3, "dispatch_catch_up": "all"}
LAST_RUN = datetime(2026, 11, 21, 3, 10, 0, 740_123, tzinfo=timezone.utc)
DJANGO = {"DJANGO_SETTINGS_MODULE": "tests.foreign.django_settings"}

pytestmark = pytest.mark.timeout(180)


def _write(module: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Let another scheduler write its store, in a process of its own."""
    environment = {**os.environ, **(env or {}), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"tests.foreign.{module}", *arguments]
    subprocess.run(command, env=environment, check=True, timeout=60)


def _import(cluster: Cluster, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    done = cluster.run("dispatch", "import", *arguments, "--allow-unknown-task", "--json", timeout=90)
    assert done.status == code, done.out + done.err
    return {entry["name"]: entry for entry in json.loads(done.out)["entries"]}


def _cursors(cluster: Cluster) -> dict[str, list[Any]]:
    found: Any = cluster.redis.hgetall(cluster.key("cursor"))
    return {name.decode(): json.loads(row) for name, row in found.items()}


def _dues(cluster: Cluster, queue: str = "celery") -> dict[str, list[datetime]]:
    """The dues of the messages that were sent, by entry."""
    found: dict[str, list[datetime]] = {}
    rows: Any = cluster.redis.lrange(queue, 0, -1)
    for row in reversed(rows):
        headers = json.loads(row)["headers"]
        due = datetime.fromisoformat(headers["dispatch_due"].replace("Z", "+00:00"))
        found.setdefault(headers["dispatch_entry"], []).append(due)
    return found


# --- RedBeat ------------------------------------------------------------------------------------------------


@pytest.fixture
def redbeat(server: Server, make_cluster: MakeCluster) -> Cluster:
    """An app whose ``beat_schedule`` has one of RedBeat's entries."""
    cluster = make_cluster(server, {"interval": Spec(Every(90))}, settings=SETTINGS)
    _write("redbeat", server.url)
    return cluster


def test_every_entry_of_a_redbeat_keyspace_is_moved(redbeat: Cluster) -> None:
    moved = _import(redbeat, "redbeat")
    assert {name: entry["step"] for name, entry in moved.items()} == {
        "interval": "cursor",
        **dict.fromkeys(
            ("relative", "crontab", "rrule", "monthly", "dates", "expiring", "disabled", "fresh"), "create"
        ),
    }
    last = {name: entry["last_due"] for name, entry in moved.items()}
    assert last["interval"] == "2026-11-21T03:10:00.741Z"
    assert last["crontab"] == "2026-11-21T03:10:00.000Z"
    assert last["rrule"] == "2026-11-20T20:00:00.000Z"
    assert moved["monthly"]["next_due"] == "2026-11-30T08:00:00.000Z"
    assert moved["dates"]["notes"] == [
        "kwargs.since is a date and time; it is sent as kombu writes one in JSON"
    ]
    assert moved["disabled"]["paused"]


def test_a_dry_run_writes_nothing(redbeat: Cluster) -> None:
    _import(redbeat, "redbeat", "--dry-run")
    assert _cursors(redbeat) == {}
    assert redbeat.redis.exists(redbeat.key("entries")) == 0


def test_an_import_may_be_repeated_until_a_beat_starts(redbeat: Cluster, server: Server) -> None:
    _import(redbeat, "redbeat")
    assert {entry["step"] for entry in _import(redbeat, "redbeat").values()} == {"keep", "pause"}
    later = LAST_RUN + timedelta(minutes=20)
    _write("redbeat", server.url, later.isoformat())
    again = _import(redbeat, "redbeat")
    assert again["interval"]["step"] == again["crontab"]["step"] == "cursor"
    assert again["crontab"]["last_due"] == "2026-11-21T03:30:00.000Z"


def test_what_is_wrong_with_one_entry_of_redbeat_ends_no_import(redbeat: Cluster) -> None:
    redbeat.redis.set("redbeat:text", "no hash")
    redbeat.redis.hset("redbeat:odd", "definition", '{"task": "t", "options": 1, "schedule": {}}')
    redbeat.redis.hset("redbeat:late", "definition", json.dumps({
        "name": "late", "task": "t",
        "schedule": {"__type__": "rrule", "freq": 5, "bysetpos": [3], "dtstart": 1_700_000_000},
    }))  # fmt: skip
    for name in ("text", "odd", "late"):
        redbeat.redis.zadd("redbeat::schedule", {f"redbeat:{name}": 0})
    moved = _import(redbeat, "redbeat", code=1)
    assert {name for name, entry in moved.items() if entry["step"] == "refuse"} == {"text", "odd", "late"}
    assert "its key cannot be read" in moved["text"]["why"]
    assert "BYSETPOS" in moved["late"]["why"]
    assert moved["crontab"]["step"] == "create"


def test_no_redbeat_keyspace_is_an_error_with_its_cure(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(1))
    done = cluster.run("dispatch", "import", "redbeat", "--prefix", "other:")
    assert done.status == 1
    assert "There is no RedBeat schedule 'other::schedule'" in done.err


def test_the_first_fire_after_the_move_is_the_next_one_of_redbeat(
    server: Server, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster(server, {"interval": Spec(Every(90))}, settings=SETTINGS)
    sent = datetime.now(timezone.utc) - timedelta(seconds=150)
    _write("redbeat", server.url, sent.isoformat())
    moved = _import(cluster, "redbeat")
    cluster.start(2)
    wait_until(lambda: {"interval", "dates"} <= _dues(cluster).keys(), 30, "the first messages")
    for name, seconds in (("interval", 90), ("dates", 60)):
        dues = _dues(cluster)[name]
        first = _moment(moved[name]["next_due"])
        assert dues == [first + timedelta(seconds=seconds * number) for number in range(len(dues))]
    assert "disabled" not in _dues(cluster)
    assert _import(cluster, "redbeat")["interval"]["why"] == (
        "this pool has fired or skipped an occurrence already"
    )


def test_dates_reach_the_worker_as_redbeat_would_have_sent_them(redbeat: Cluster) -> None:
    sent = datetime.now(timezone.utc) - timedelta(seconds=70)
    _write("redbeat", redbeat.url, sent.isoformat())
    _import(redbeat, "redbeat")
    redbeat.start(1)
    wait_until(lambda: "dates" in _dues(redbeat), 30, "the message")
    rows: Any = redbeat.redis.lrange("celery", 0, -1)
    (message,) = [row for row in map(json.loads, rows) if row["headers"]["dispatch_entry"] == "dates"][:1]
    _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert kwargs == {"since": {"__type__": "datetime", "__value__": "2026-11-01T08:00:00+00:00"}}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


# --- django-celery-beat -------------------------------------------------------------------------------------


def test_every_task_of_a_django_database_is_moved(
    server: Server, make_cluster: MakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**DJANGO, "DATABASE": str(tmp_path / "db.sqlite")}
    _write("django_beat", env=env)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    cluster = make_cluster(server, {"interval": Spec(Every(120))}, settings=SETTINGS)
    moved = _import(cluster, "django-celery-beat", code=1)
    assert {name: entry["step"] for name, entry in moved.items()} == {
        "interval": "cursor",
        **dict.fromkeys(
            ("crontab", "solar", "clocked", "one-off", "ending", "starting", "expiring", "disabled"),
            "create",
        ),
        "ran": "refuse",
        "broken": "refuse",
    }
    assert moved["crontab"]["last_due"] == "2026-11-21T03:00:00.000Z"
    assert moved["crontab"]["definition"]["schedule"]["timezone"] == "Europe/Paris"
    assert moved["ran"]["why"] == "it is one-off and has run"
    assert "is no JSON" in moved["broken"]["why"]
    assert moved["starting"]["next_due"] == _rounded(moved["starting"]["definition"]["dispatch"]["start"])
    assert set(_cursors(cluster)) == set(moved) - {"ran", "broken"}


def _rounded(text: str) -> str:
    moment = datetime.fromisoformat(text).astimezone(timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_without_django_the_cure_is_named(server: Server, make_cluster: MakeCluster) -> None:
    cluster = make_cluster(server, every(1))
    done = cluster.run("dispatch", "import", "django-celery-beat")
    assert done.status == 1
    assert "DJANGO_SETTINGS_MODULE" in done.err


# --- stock beat ---------------------------------------------------------------------------------------------


def test_entries_of_beat_schedule_go_on_where_stock_beat_stopped(
    server: Server, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(server, {"minutely": Spec(Every(60))}, settings=SETTINGS)
    path = str(tmp_path / "celerybeat-schedule")
    app = Celery("proj", set_as_current=False, broker="memory://")
    app.conf.result_expires = None
    app.conf.beat_schedule = {"minutely": {"task": "drill.record", "schedule": 60.0}}
    beat: Any = PersistentScheduler(app, schedule_filename=path, lazy=False)
    sent = datetime.now(timezone.utc) - timedelta(seconds=65)
    beat.schedule["minutely"] = beat.schedule["minutely"]._next_instance(sent)
    beat.sync()
    beat._store.close()

    moved = _import(cluster, "beat-file", path)
    assert moved["minutely"]["step"] == "cursor"
    cluster.start(1)
    wait_until(lambda: _dues(cluster), 30, "the occurrence that was due after stock beat stopped")
    (due,) = _dues(cluster)["minutely"]
    assert timedelta() <= due - (sent + timedelta(seconds=60)) <= timedelta(milliseconds=1)
