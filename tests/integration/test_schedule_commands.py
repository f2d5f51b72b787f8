"""The commands for schedules as data, through Celery's own command line, on a real server."""

from __future__ import annotations

import importlib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.schedules import Schedules
from tests.drills.cluster import Spec
from tests.drills.oracle import Every
from tests.drills.redis_server import Server as OwnServer
from tests.integration.conftest import MakeCluster
from tests.servers import Server, wait_until

APP = """
from celery import Celery

app = Celery("proj", broker="redis://127.0.0.1:{port}/0")
app.conf.result_expires = None
app.conf.beat_schedule = {{"fixed": {{"task": "proj.tick", "schedule": 10.0}}}}


@app.task(name="proj.tick", shared=False)
def tick(*args):
    pass
"""
FILE = """
entries:
  a: {task: proj.tick, schedule: 10, args: [1]}
  b: {task: proj.tick, schedule: {kind: crontab, hour: 3, minute: 0}}
"""


@dataclass
class Place:
    """A project on disk, and the empty Redis that it would talk to."""

    module: str
    path: Path

    def run(self, *args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(celery, ["-A", self.module, "dispatch", *args], input=input)

    def json(self, *args: str, code: int = 0) -> Any:
        result = self.run(*args, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def write(self, name: str, text: str) -> str:
        (self.path / name).write_text(textwrap.dedent(text))
        return str(self.path / name)

    @property
    def app(self) -> Any:
        return importlib.import_module(self.module).app


@pytest.fixture
def place(
    server_of: Callable[[str], Server],
    clean: Callable[[Server], redis.Redis],
    queues: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    server = server_of("valkey")
    clean(server)
    queues.update({"celery", "_kombu.*"})
    module = f"proj_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(APP.format(port=server.port))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Place(module, tmp_path)
    sys.modules.pop(module, None)


# --- one entry ----------------------------------------------------------------------------------------------


def test_an_entry_is_added_edited_shown_and_removed(place: Place) -> None:
    added = place.json("add", "tick", "--task", "proj.tick", "--every", "10", "--set", "options.queue=q")
    assert added["definition"] == {
        "task": "proj.tick",
        "schedule": {"kind": "interval", "every": 10, "relative": False},
        "options": {"queue": "q"},
    }
    edited = place.json("edit", "tick", "--cron", "*/5 * * * *", "--args", "[1]", "--unset", "options.queue")
    assert edited["definition"] == {
        "task": "proj.tick",
        "schedule": {"kind": "cron", "expression": "*/5 * * * *"},
        "args": [1],
    }
    assert edited["version"] > added["version"]
    assert [each["name"] for each in place.json("list")["schedules"]] == ["fixed", "tick"]
    assert place.json("show", "tick")["recurrence"]["kind"] == "cron"
    assert place.json("remove", "tick") == {"entries": [{"name": "tick", "done": "removed", "error": None}]}
    assert [each["name"] for each in place.json("list")["schedules"]] == ["fixed"]


def test_a_stale_writer_is_told_and_writes_nothing(place: Place) -> None:
    version = place.json("add", "tick", "--task", "proj.tick", "--every", "10")["version"]
    place.json("edit", "tick", "--every", "20")
    stale = place.json("edit", "tick", "--every", "30", "--version", str(version), code=1)
    assert "somebody changed it" in stale["error"]
    assert place.json("list")["schedules"][1]["definition"]["schedule"]["every"] == 20


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["add", "x", "--task", "proj.tick"], 1, "needs a task and a schedule"),
        (["add", "x", "--task", "proj.tikc", "--every", "10"], 2, "did you mean 'proj.tick'?"),
        (["add", "x", "--task", "proj.tick", "--every", "0"], 2, "not positive"),
        (["add", "x", "--task", "proj.tick", "--cron", "0 0 30 2 *"], 2, "cron"),
        (["add", "a\x07b", "--task", "proj.tick", "--every", "1"], 2, "control characters"),
        (["add", "fixed", "--task", "proj.tick", "--every", "1"], 1, "is an entry of beat_schedule"),
        (["edit", "fixed", "--every", "1"], 1, "is an entry of the config"),
        (
            ["add", "x", "--task", "proj.tick", "--every", "1", "--set", "optoins.queue=q"],
            1,
            "no field 'optoins'",
        ),
        (["edit", "nope", "--every", "1"], 1, "There is no schedule 'nope'"),
        (["pause"], 2, "Give the NAME of an entry, or --all"),
        (["remove", "a", "b", "--version", "1"], 2, "--version goes with one NAME"),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_written(
    place: Place, arguments: list[str], code: int, what: str
) -> None:
    error = place.json(*arguments, code=code)
    assert what in error["error"]
    assert error["cure"]
    assert [each["name"] for each in place.json("list")["schedules"]] == ["fixed"]


def test_an_entry_of_the_config_is_paused_with_note_and_author(place: Place) -> None:
    place.json("pause", "fixed", "--note", "wrong figures", "--author", "ada")
    (fixed,) = place.json("list")["schedules"]
    assert fixed["state"] == "paused"
    assert (fixed["paused"]["note"], fixed["paused"]["author"]) == ("wrong figures", "ada")
    assert place.json("show", "fixed")["paused"]["note"] == "wrong figures"
    assert "by ada" in place.run("show", "fixed").output
    assert re.search(r"fixed: paused since .* UTC, by ada: wrong figures", place.run("list").output)
    place.json("resume", "fixed")
    assert place.json("list")["schedules"][0]["paused"] is None


def test_an_entry_that_the_config_took_over_says_what_it_shadows(place: Place) -> None:
    place.json("add", "tick", "--task", "proj.tick", "--every", "10")
    assert place.json("show", "tick")["shadows"] is False
    place.app.conf.beat_schedule["tick"] = {"task": "proj.tick", "schedule": 60.0}
    shown = place.json("show", "tick")
    assert (shown["shadows"], shown["recurrence"]["every"]) == (True, 60)
    assert "shadows: one of that name that was created at run time" in place.run("show", "tick").output
    assert [each["name"] for each in place.json("list", "--state", "shadowed")["schedules"]] == ["tick"]
    (found,) = (each for each in place.json("doctor", code=2)["findings"] if "shadowed" in each["what"])
    assert (found["severity"], found["evidence"]) == ("warning", ["tick"])
    place.json("remove", "tick")
    assert place.json("show", "tick")["shadows"] is False
    assert not [each for each in place.json("doctor", code=2)["findings"] if "shadowed" in each["what"]]


def test_one_wrong_name_does_not_stop_the_others(place: Place) -> None:
    done = place.json("pause", "nope", "fixed", code=1)["entries"]
    assert [(each["name"], each["done"]) for each in done] == [("nope", None), ("fixed", "paused")]


def test_everything_is_paused_and_resumed(place: Place) -> None:
    assert place.json("list")["paused_all"] is None
    assert place.run("pause", "--all", "--note", "INC-1", "--author", "ann").output == "All entries: paused\n"
    assert place.json("list")["paused_all"]["note"] == "INC-1"
    for command in ("list", "status", "doctor"):
        said = re.search(r"Everything is paused, since .* UTC, by ann: INC-1\.", place.run(command).output)
        assert said, command
    with Schedules(place.app) as schedules:
        assert schedules.paused_all is not None
        assert schedules.paused_all.note == "INC-1"
        place.json("resume", "--all")
        assert schedules.paused_all is None


def test_that_nobody_can_read_whether_everything_is_paused_is_said_with_its_cure(place: Place) -> None:
    place.json("pause", "--all")
    client = redis.Redis.from_url(place.app.conf.broker_url)
    client.hset(Keys("celery-dispatch").entries, "", "nonsense")
    client.close()
    said = "Whether everything is paused cannot be read (damaged"
    (problem,) = [each for each in place.json("status", code=1)["problems"] if each["what"].startswith(said)]
    assert (problem["severity"], "pause --all" in problem["cure"]) == ("error", True)
    found = place.run("doctor").output
    assert said in found and "no node would have written" not in found
    assert [each["name"] for each in place.json("list")["schedules"]] == ["fixed"]
    place.json("pause", "--all")
    place.json("resume", "--all")
    assert said not in place.run("status").output


def test_what_does_not_exist_yet_is_previewed(place: Place) -> None:
    preview = place.json("preview", "--cron", "0 3 * * *", "--timezone", "Europe/Paris", "-n", "2")
    assert [each["due"][11:] for each in preview["occurrences"]] == ["02:00:00.000Z"] * 2 or [
        each["due"][11:] for each in preview["occurrences"]
    ] == ["01:00:00.000Z"] * 2
    assert place.json("preview", code=1)["error"] == "There is nothing to look at."
    shown = place.run("preview", "--cron", "0 3 * * mon", "--timezone", "Europe/Paris", "-n", "2").output
    assert len(re.findall(r" UTC +Mon 03:00:00 in Europe/Paris", shown)) == 2


def test_an_entry_is_run_and_what_was_missed_is_made_up_for(place: Place) -> None:
    ran = place.json("run", "fixed")
    span = ("--start", "2026-11-01T00:00:00Z", "--end", "2026-11-01T00:01:00Z")
    assert place.json("backfill", "fixed", *span, "--dry-run")["count"] == 6
    assert place.json("backfill", "fixed", *span, "--yes", "--rate", "1000")["sent"] == 6
    assert "add --yes" in place.json("backfill", "fixed", *span, code=2)["error"]
    told = place.run("backfill", "fixed", *span, "--dry-run").output
    assert "due 6 times from 2026-11-01 00:00:00 UTC to 2026-11-01 00:01:00 UTC." in told
    client = redis.Redis.from_url(place.app.conf.broker_url)
    rows: Any = client.lrange("celery", 0, -1)
    client.close()
    headers = [json.loads(row)["headers"] for row in rows]
    assert [each["id"] for each in headers if each.get("dispatch_run_now")] == [ran["task_id"]]
    assert sum(bool(each.get("dispatch_backfill")) for each in headers) == 6


# --- files --------------------------------------------------------------------------------------------------


def test_a_file_is_applied_and_a_second_run_changes_nothing(place: Place) -> None:
    file = place.write("s.yaml", FILE)
    assert place.json("apply", "-f", file, "--dry-run")["created"] == 2
    assert len(place.json("list")["schedules"]) == 1
    assert place.json("apply", "-f", file)["created"] == 2
    again = place.json("apply", "-f", file)
    assert (again["unchanged"], again["created"], again["changed"]) == (2, 0, 0)
    versions = [each["version"] for each in place.json("list")["schedules"]]
    place.json("apply", "-f", file)
    assert [each["version"] for each in place.json("list")["schedules"]] == versions


def test_a_change_in_the_file_is_shown_by_field(place: Place) -> None:
    place.json("apply", "-f", place.write("s.yaml", FILE))
    changed = place.write("s.yaml", FILE.replace("schedule: 10", "schedule: 20"))
    result = place.run("apply", "-f", changed)
    assert "    schedule.every: 10 -> 20" in result.output
    assert "1 changed, 1 unchanged." in result.output


def test_only_what_has_the_label_is_pruned(place: Place) -> None:
    place.json("add", "other", "--task", "proj.tick", "--every", "10")
    file = place.write("s.yaml", FILE)
    place.json("apply", "-f", file, "--label", "app=shop")
    rest = place.write("s.yaml", "entries: {a: {task: proj.tick, schedule: 10, args: [1]}}")
    done = place.json("apply", "-f", rest, "--label", "app=shop", "--prune")
    assert [(each["name"], each["step"]) for each in done["entries"]] == [("a", "unchanged"), ("b", "delete")]
    assert [each["name"] for each in place.json("list")["schedules"]] == ["a", "fixed", "other"]
    assert "--prune needs a --label" in place.json("apply", "-f", rest, "--prune", code=2)["error"]


def test_applying_resumes_nothing(place: Place) -> None:
    file = place.write("s.yaml", FILE)
    place.json("apply", "-f", file)
    place.json("pause", "a")
    place.json("apply", "-f", place.write("s.yaml", FILE.replace("[1]", "[2]")))
    found = {each["name"]: each for each in place.json("list")["schedules"]}
    assert found["a"]["definition"]["args"] == [2]
    assert found["a"]["state"] == "paused"


def test_one_wrong_entry_keeps_the_whole_file_out(place: Place) -> None:
    wrong = place.write(
        "s.yaml", FILE + "  c: {task: proj.nope, schedule: 1}\n  fixed: {task: proj.tick, schedule: 1}\n"
    )
    error = place.json("apply", "-f", wrong, code=1)
    assert "'c': task = 'proj.nope'" in error["error"]
    configured = place.write("s.yaml", FILE + "  fixed: {task: proj.tick, schedule: 1}\n")
    error = place.json("apply", "-f", configured, code=1)["error"]
    assert error.startswith("Nothing was written: 'fixed' is an entry of beat_schedule. ")
    assert error.endswith("it can be paused.")
    assert [each["name"] for each in place.json("list")["schedules"]] == ["fixed"]


def test_what_is_exported_can_be_applied(place: Place) -> None:
    place.json("apply", "-f", place.write("s.yaml", FILE))
    for form in ("yaml", "json"):
        exported = place.write("out", place.run("export", "--format", form).output)
        assert place.json("apply", "-f", exported)["unchanged"] == 2
    module = place.run("export", "--format", "beat", "--config").output
    assert "'fixed': {" in module and "crontab(minute=0, hour=3)" in module


# --- backup -------------------------------------------------------------------------------------------------


def test_a_backup_puts_back_what_was_lost_and_overwrites_nothing(place: Place) -> None:
    place.json("apply", "-f", place.write("s.yaml", FILE))
    place.json("pause", "a", "--note", "kept")
    path = str(place.path / "backup.json")
    assert place.json("backup", path)["entries"] == 2
    assert (place.path / "backup.json").stat().st_mode & 0o077 == 0
    before = place.json("list")["schedules"]
    place.json("edit", "b", "--every", "60")
    assert not any(each["row"] or each["cursor"] for each in place.json("restore", path)["entries"])
    place.json("remove", "b")
    assert [each["name"] for each in place.json("restore", path)["entries"] if each["deleted"]] == ["b"]
    assert "b: it was deleted since, and stays so; create it anew." in place.run("restore", path).output

    client = redis.Redis.from_url(place.app.conf.broker_url)
    client.flushall()
    client.close()
    assert all(each["row"] for each in place.json("restore", path, "--dry-run")["entries"])
    assert "Dry run, nothing was written. To be put back: 2" in place.run("restore", path, "--dry-run").output
    assert len(place.json("list")["schedules"]) == 1
    place.json("restore", path)
    after = place.json("list")["schedules"]
    assert [(each["definition"], each["paused"]) for each in after] == [
        (each["definition"], each["paused"]) for each in before
    ]


def test_what_cannot_be_read_is_named_and_kept_and_the_rest_is_put_back(place: Place) -> None:
    place.json("apply", "-f", place.write("s.yaml", FILE))
    path = str(place.path / "backup.json")
    keys = Keys("celery-dispatch")
    client = redis.Redis.from_url(place.app.conf.broker_url)
    row: Any = client.hget(keys.entries, "a")
    damaged = row.replace(b'"args":[1]', b'"args":[1')
    client.hset(keys.entries, "a", damaged)
    assert place.json("backup", path)["damaged"] == ["a"]
    assert "'a' cannot be read in Redis" in place.run("backup", path).output
    assert json.loads((place.path / "backup.json").read_text())["damaged"]["entries"]["a"] == damaged.decode()
    assert [(each["name"], each["state"]) for each in place.json("list")["schedules"]] == [
        ("a", "broken"), ("b", "scheduled"), ("fixed", "scheduled")
    ]  # fmt: skip
    client.flushall()
    client.hset(keys.cursor, "b", "nonsense")
    restored = {each["name"]: each for each in place.json("restore", path, code=1)["entries"]}
    assert "could not be read when the backup was made" in restored["a"]["error"]
    assert (restored["a"]["row"], restored["b"]["row"], restored["b"]["cursor"]) == (False, True, False)
    assert "its cursor in Redis is damaged (not JSON" in restored["b"]["error"]
    client.hdel(keys.cursor, "b")
    assert not place.json("restore", path, code=1)["entries"][1]["error"]
    assert place.json("list")["schedules"][1]["state"] == "scheduled"
    client.close()


def test_a_one_shot_that_was_completed_and_removed_stands_in_nobodys_way(place: Place) -> None:
    once = "  once: {task: proj.tick, schedule: {kind: at, moment: 2020-01-01T00:00:00Z}, dispatch: {%s}}\n"
    file = place.write("s.yaml", FILE + once % "remove_when_completed: true")
    done = place.json("apply", "-f", file)
    assert (done["created"], done["over"]) == (2, 1)
    again = place.json("apply", "-f", file)
    assert (again["unchanged"], again["over"], again["created"]) == (2, 1, 0)
    late = place.write("s.yaml", FILE + once % "count: 1")
    assert "nothing would ever be fired" in place.json("apply", "-f", late, code=1)["error"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}', "[" * 100_000])
def test_a_file_that_is_no_backup_is_refused(place: Place, text: str) -> None:
    error = place.json("restore", place.write("x.json", text), code=1)
    assert "celery dispatch backup" in error["cure"]


# --- with beats ---------------------------------------------------------------------------------------------


def test_real_beats_follow_what_is_added_paused_and_removed(
    server: OwnServer, make_cluster: MakeCluster
) -> None:
    settings = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3}
    cluster = make_cluster(server, {"fixed": Spec(Every(30))}, settings=settings)
    cluster.start(2)

    def sent() -> int:
        rows: Any = cluster.redis.lrange("celery", 0, -1)
        return sum(json.loads(row)["headers"]["dispatch_entry"] == "tick" for row in rows)

    def run(*arguments: str) -> None:
        done = cluster.run("dispatch", *arguments, timeout=90)
        assert done.status == 0, done.out + done.err

    run("add", "tick", "--task", "drill.record", "--every", "0.5")
    wait_until(lambda: sent() >= 2, 20, "messages of the new entry")
    run("pause", "tick")
    paused = sent()
    run("resume", "tick")
    wait_until(lambda: sent() > paused, 20, "messages after the pause")
    run("remove", "tick")
    wait_until(lambda: cluster.redis.hget(cluster.key("cursor"), "tick") is not None, 5, "the tombstone")
    removed = sent()
    run("status")
    assert sent() == removed


def test_beats_that_run_follow_what_is_restored(
    server: OwnServer, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    settings = {"dispatch_heartbeat_interval": 0.5, "dispatch_lease_ttl": 3}
    cluster = make_cluster(server, {"fixed": Spec(Every(1))}, settings=settings)

    def dues(name: str) -> list[str]:
        rows: Any = cluster.redis.lrange("celery", 0, -1)
        headers = [json.loads(row)["headers"] for row in reversed(rows)]
        return [each["dispatch_due"] for each in headers if each["dispatch_entry"] == name]

    def run(*arguments: str) -> Any:
        done = cluster.run("dispatch", *arguments, timeout=90)
        assert done.status == 0, done.out + done.err
        return json.loads(done.out)

    cluster.start(2)
    path = str(tmp_path / "backup.json")
    for name in ("tick", "held"):
        run("add", name, "--task", "drill.record", "--every", "0.5", "--json")
    run("pause", "held", "--json")
    wait_until(lambda: len(dues("tick")) >= 2, 20, "messages of the new entry")
    assert run("backup", path, "--json")["entries"] == 2
    for beat in cluster.beats.values():
        beat.process.terminate()
        beat.process.wait(20)
    sent = {name: dues(name) for name in ("tick", "held")}

    cluster.redis.flushall()
    cluster.start(2)
    restored = {each["name"]: each for each in run("restore", path, "--json")["entries"]}
    assert {name for name, each in restored.items() if each["row"] and each["cursor"]} == {"tick", "held"}
    assert (restored["fixed"]["row"], restored["fixed"]["cursor"]) == (False, False)
    wait_until(lambda: len(dues("tick")) >= 3, 20, "messages of the restored entry")
    wait_until(lambda: len(dues("fixed")) >= 3, 20, "messages of the config's entry")
    again = run("restore", path, "--json")["entries"]
    assert not any(each["row"] or each["cursor"] for each in again)
    assert dues("held") == []
    for name in ("tick", "fixed"):
        assert len(set(dues(name))) == len(dues(name))
    assert not set(dues("tick")) & set(sent["tick"][:-1])  # what was fired after the backup is not known
