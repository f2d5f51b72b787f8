"""The ``celery dispatch`` commands, through Celery's own command line, on a real server."""

from __future__ import annotations

import importlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.bin.celery import celery
from celery.signals import before_task_publish
from click.testing import CliRunner, Result

from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.facets import facets_of
from celery_dispatch.celery_bridge.identity import identity_of
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, Heartbeat, Intent, MemberState, Pulse
from celery_dispatch.liveness import TurnFile
from celery_dispatch.manage.health import directory_of
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.facets import Facets
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from tests.servers import Server, free_port, wait_until

READING = (["status"], ["nodes"], ["entries"], ["show", "tick"], ["next", "tick"], ["doctor"])
CHANGING = (["drain", "a-1"], ["undrain", "a-1"], ["adopt", "--yes"], ["cursor", "reset", "tick"])

APP = """
from celery import Celery
from celery.schedules import crontab

app = Celery("proj", broker="redis://127.0.0.1:{port}/0")
app.conf.result_expires = None
app.conf.beat_schedule = {{
    "tick": {{"task": "proj.tick", "schedule": 10.0, "args": (1, 2), "options": {{"queue": "q"}}}},
    "nightly": {{"task": "proj.nightly", "schedule": crontab(hour=3, minute=0)}},
    "bad": {{"task": "proj.bad", "schedule": "never"}},
}}
{more}
"""


@dataclass
class Place:
    """A project on disk, and the pool that it would talk to."""

    port: int
    path: Path
    module: str

    def run(self, *args: str, module: str | None = None) -> Result:
        """``celery -A proj dispatch ARGS``, in this process."""
        return CliRunner().invoke(celery, ["-A", module or self.module, "dispatch", *args])

    def json(self, *args: str, code: int = 0, module: str | None = None) -> Any:
        result = self.run(*args, "--json", module=module)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def write(self, more: str = "", port: int | None = None) -> str:
        """A module with the app; its name."""
        name = f"proj_{os.getpid()}_{len(list(self.path.glob('*.py')))}_{self.path.name.replace('-', '_')}"
        text = APP.format(port=port or self.port, more=textwrap.dedent(more))
        (self.path / f"{name}.py").write_text(text)
        return name


@pytest.fixture
def place(
    server_of: Callable[[str], Server],
    clean: Callable[[Server], redis.Redis],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    server = server_of("valkey")
    clean(server)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Place(server.port, tmp_path, "")
    made.module = made.write()
    return made


def turn_file(module: str) -> TurnFile:
    """The sign of life of a node ``a-1`` of the app in ``module``."""
    return TurnFile(directory_of(importlib.import_module(module).app), "a-1")


class Beats:
    """Nodes made by hand, with the real adapters."""

    def __init__(self, place: Place, module: str = "") -> None:
        app = __import__(module or place.module).app
        config = Config.from_app(app)
        client = redis_client(config.redis_url, {})
        self.catalog = catalog_of(app, config)
        keys = Keys(config.key_prefix)
        self.ledger = RedisLedger(client, keys)
        self.intents = RedisIntents(client, keys)
        self.facets = Facets(client, keys)
        self.own_facets = facets_of(app, self.catalog, config)
        self.pool = RedisPool(client, keys)
        self._identity = identity_of(app)
        self.fence: Fence | None = None

    def join(self, node: str, host: str, **changes: Any) -> datetime:
        """Heartbeats until the pool does not recover any more, as it does at the very first."""
        merged: list[str] = [""]

        def beat() -> Pulse | None:
            heartbeat = self.heartbeat(node, host, merged=merged[-1], **changes)
            pulse = self.pool.heartbeat(heartbeat, known_epoch=None)
            merged.append(pulse.recovery)
            self.fence = pulse.fence
            return None if pulse.recovery else pulse

        wait_until(beat, 5, "the end of the recovery")
        return self.pool.read().now

    def heartbeat(
        self,
        node: str,
        host: str,
        *,
        merged: str = "",
        state: MemberState = MemberState.STEADY,
        config: str = "",
        identity: str = "",
        suspicious: bool = False,
        **info: object,
    ) -> Heartbeat:
        return Heartbeat(
            node=node,
            host=host,
            config=config or self.catalog.fingerprint,
            identity=identity or self._identity,
            state=state,
            lease=timedelta(seconds=10),
            interval=timedelta(milliseconds=50),
            handover=timedelta(seconds=0.5),
            info=info,
            merged=merged,
            suspicious=suspicious,
        )

    def anchor(self, name: str) -> Cursor:
        assert self.fence is not None
        anchor = Cursor.anchor(self.catalog.entries[name].definition, self.fence.since, "a-1")
        self.ledger.claim(self.fence, [Claim(name, None, anchor)])
        return anchor

    def fire(self, name: str, due: datetime) -> None:
        """Anchor an entry and put its cursor at ``due``."""
        anchor = self.anchor(name)
        assert self.fence is not None
        wanted = anchor.advance(
            due, definition=anchor.definition, fence=self.fence, node="a-1", fired=3, skipped=1
        )
        self.ledger.claim(self.fence, [Claim(name, anchor, wanted)])


@pytest.fixture
def beats(place: Place) -> Beats:
    """Two nodes on two hosts; "tick" was fired lately, "nightly" is anchored."""
    made = Beats(place)
    made.join("a-1", "host-a", pid=1, fired=3, lag={"p50": 1.5, "max": 20})
    now = made.join("b-2", "host-b")
    made.fire("tick", now.replace(microsecond=0) - timedelta(seconds=1))
    made.anchor("nightly")
    return made


# --- answers ------------------------------------------------------------------------------------------------


def test_status_tells_the_whole_pool(place: Place, beats: Beats) -> None:
    status = place.json("status", code=1)
    assert [(node["id"], node["state"], node["host"]) for node in status["nodes"]] == [
        ("a-1", "steady", "host-a"),
        ("b-2", "steady", "host-b"),
    ]
    assert sum(node["share"] for node in status["nodes"]) == pytest.approx(1, abs=0.001)
    assert status["config_in_force"]["fingerprint"] == status["this_config"]
    assert status["lag_ms"] == {"p50": 1.5, "max": 20}
    assert (status["entries"]["total"], status["entries"]["fired"], status["entries"]["skipped"]) == (3, 3, 1)
    assert [problem["what"] for problem in status["problems"]] == ["1 entry is in error: bad."]


def test_status_without_a_pool_says_how_to_start_one(place: Place) -> None:
    status = place.json("status", code=1)
    assert status["fine"] is False
    assert "beat" in status["problems"][0]["cure"]


def test_nodes_are_listed_without_the_schedule(place: Place, beats: Beats) -> None:
    nodes = place.json("nodes")
    assert [node["id"] for node in nodes["nodes"]] == ["a-1", "b-2"]
    assert nodes["nodes"][0]["pid"] == 1


def test_entries_show_dues_counts_owners_and_errors(place: Place, beats: Beats) -> None:
    entries = {entry["name"]: entry for entry in place.json("entries")["entries"]}
    tick = entries["tick"]
    assert (tick["task"], tick["schedule"], tick["fired"], tick["skipped"]) == (
        "proj.tick",
        "every 10 s",
        3,
        1,
    )
    assert {tick["owner"], tick["standby"]} == {"a-1", "b-2"}
    assert _seconds(tick["next_due"]) - _seconds(tick["last_due"]) == 10
    assert entries["nightly"]["schedule"] == "cron 0 3 * * *"
    assert (entries["nightly"]["last_due"], entries["nightly"]["state"]) == (None, "scheduled")
    assert entries["bad"]["state"] == "error"
    assert "never" in entries["bad"]["error"]


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["--name", "tick"], ["tick"]),
        (["--name", "*i*"], ["nightly", "tick"]),
        (["--state", "error"], ["bad"]),
        (["--state", "error", "--state", "scheduled"], ["bad", "nightly", "tick"]),
        (["--node", "a-1", "--limit", "1"], ["bad"]),
        (["--node", "nobody"], []),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_entries_are_filtered(place: Place, beats: Beats, args: Sequence[str], names: list[str]) -> None:
    assert [entry["name"] for entry in place.json("entries", *args)["entries"]] == names


def test_show_and_next_tell_one_entry(place: Place, beats: Beats) -> None:
    shown = place.json("show", "tick")
    assert shown["args"] == "(1, 2)"
    assert shown["recurrence"] == {"kind": "interval", "every": 10, "relative": False}
    assert "'q'" in shown["options"]
    assert shown["cursor"]["node"] == "a-1"
    assert shown["cursor"]["due"] == shown["last_due"]
    assert shown["next"]["dues"] == place.json("next", "tick", "-n", "5")["dues"]
    assert len(place.json("next", "nightly", "-n", "12")["dues"]) == 12


def test_broken_entry_is_shown_with_its_reason(place: Place) -> None:
    assert "never" in place.json("show", "bad")["error"]
    assert "never" in place.json("next", "bad")["error"]


@pytest.mark.parametrize("args", [*READING, ["entries", "--limit", "1"]], ids=" ".join)
def test_people_get_tables_without_colour_codes_in_a_pipe(
    place: Place, beats: Beats, args: list[str]
) -> None:
    result = place.run(*args)
    assert result.stdout.strip()
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_reading_writes_nothing(place: Place, beats: Beats) -> None:
    before = _dump(place.port)
    for args in READING:
        place.run(*args)
    assert _dump(place.port) == before


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["show", "next"])
def test_unknown_entry_is_an_error_that_says_which_was_meant(place: Place, command: str) -> None:
    answer = place.json(command, "tikc", code=1)
    assert "tikc" in answer["error"]
    assert "tick" in answer["cure"]


@pytest.mark.parametrize("args", [*READING[:-1], *CHANGING, ["health", "--ready"]], ids=" ".join)
def test_unreachable_redis_is_one_line_and_status_3(place: Place, args: list[str]) -> None:
    module = place.write(port=free_port())
    turn_file(module).touch(time.monotonic())
    answer = place.json(*args, code=3, module=module)
    assert set(answer) == {"error", "cure"}
    result = place.run(*args, module=module)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("args", [*READING[:-1], *CHANGING, ["health", "--live"]], ids=" ".join)
def test_wrong_setting_is_one_line_and_status_2(place: Place, args: list[str]) -> None:
    module = place.write("app.conf.dispatch_lease_tll = 3")
    answer = place.json(*args, code=2, module=module)
    assert "dispatch_lease_ttl" in answer["error"]
    result = place.run(*args, module=module)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_schedule_that_cannot_be_imported_is_an_error_of_configuration(place: Place) -> None:
    module = place.write("app.conf.imports = ['there_is_no_such_module']")
    assert "there_is_no_such_module" in place.json("status", code=2, module=module)["error"]


def test_refused_by_redis_is_status_2(place: Place) -> None:
    module = place.write(f"app.conf.broker_url = 'redis://nobody:s3cret@127.0.0.1:{place.port}/0'")
    result = place.run("nodes", module=module)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize(
    "args",
    [["health"], ["health", "--live", "--ready"], ["status", "--watch"], ["entries", "--state", "x"],
     ["entries", "--limit", "-1"], ["show"], ["nodes", "--no-such-option"], ["drain"], ["cursor", "reset"],
     ["cursor", "reset", "x", "--to", "tomorrow"], ["cursor", "reset", "x", "--to", "2026-01-01T00:00:00"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_status_2_and_json_if_asked(place: Place, args: list[str]) -> None:
    assert set(place.json(*args, code=2)) == {"error", "cure"}
    assert place.run(*args).exit_code == 2


# --- nodes and identity -------------------------------------------------------------------------------------


def test_node_is_drained_and_put_back(place: Place, beats: Beats) -> None:
    drained = place.json("drain", "a")
    assert (drained["node"], drained["draining"]) == ("a-1", True)
    assert [node["state"] for node in place.json("nodes")["nodes"]] == ["draining", "steady"]
    assert place.json("undrain", "a-1")["draining"] is False
    assert [node["state"] for node in place.json("nodes")["nodes"]] == ["steady", "steady"]


def test_last_node_is_drained_only_by_force(place: Place, beats: Beats) -> None:
    place.json("drain", "a-1")
    refused = place.json("drain", "b-2", code=1)
    assert "b-2" in refused["error"] and "--force" in refused["error"]
    assert place.json("drain", "b-2", "--force")["draining"] is True


def test_unknown_node_is_said_with_those_that_live(place: Place, beats: Beats) -> None:
    assert "a-1, b-2" in place.json("drain", "c-3", code=1)["cure"]


def test_pool_is_adopted_after_a_question(place: Place, beats: Beats) -> None:
    module = place.write("app.main = 'renamed'")
    asked = CliRunner().invoke(celery, ["-A", module, "dispatch", "adopt"], input="n\n")
    assert asked.exit_code == 1
    assert "proj on redis db 0" in asked.output and "renamed on redis db 0" in asked.output
    assert place.json("nodes")["identity"] == "proj on redis db 0"
    adopted = place.json("adopt", "--yes", "--force", module=module)
    assert adopted == {"before": "proj on redis db 0", "identity": "renamed on redis db 0", "changed": True}
    assert [node["state"] for node in place.json("nodes")["nodes"]] == ["foreign", "foreign"]
    assert place.json("adopt", "--yes", module=module)["changed"] is False


def test_adopting_in_json_cannot_ask(place: Place, beats: Beats) -> None:
    assert "--yes" in place.json("adopt", code=2)["error"]


# --- cursors ------------------------------------------------------------------------------------------------


def test_cursor_in_the_future_is_shown_and_reset(place: Place, beats: Beats) -> None:
    client: Any = redis.Redis(port=place.port, decode_responses=True)
    key = Keys("celery-dispatch").cursor
    row = json.loads(client.hget(key, "tick"))
    client.hset(key, "tick", json.dumps([row[0] + 86_400_000, *row[1:]], separators=(",", ":")))
    assert place.json("show", "tick")["state"] == "ahead"
    (reset,) = place.json("cursor", "reset", "tick")["cursors"]
    shown = place.json("show", "tick")
    assert shown["state"] == "scheduled"
    assert shown["cursor"]["due"] == reset["after"]
    assert (shown["fired"], shown["skipped"], shown["cursor"]["revision"]) == (3, 1, row[3] + 1)
    assert client.keys("q*") == []


def test_cursor_goes_on_from_an_instant_of_the_past(place: Place, beats: Beats) -> None:
    (reset,) = place.json("cursor", "reset", "nightly", "--to", "2026-01-01T01:00:00+01:00")["cursors"]
    assert reset["after"] == "2026-01-01T00:00:00.000Z"
    assert place.json("next", "nightly", "-n", "1")["dues"] == ["2026-01-01T03:00:00.000Z"]
    assert (
        "in the future"
        in place.json("cursor", "reset", "tick", "--to", "2999-01-01T00:00:00Z", code=1)["error"]
    )


def test_damaged_row_is_replaced(place: Place, beats: Beats) -> None:
    redis.Redis(port=place.port).hset(Keys("celery-dispatch").cursor, "tick", "nonsense")
    (reset,) = place.json("cursor", "reset", "tick")["cursors"]
    assert (reset["before"], reset["error"]) == (None, None)
    assert place.json("show", "tick")["state"] == "scheduled"


def test_names_that_cannot_be_reset_are_said_and_the_others_are(place: Place, beats: Beats) -> None:
    tick, other = place.json("cursor", "reset", "tick", "other", code=1)["cursors"]
    assert tick["error"] is None
    assert "no cursor" in other["error"]
    result = place.run("cursor", "reset", "tick", "other")
    assert "tick: goes on from" in result.stdout and "other: It has no cursor" in result.stdout


# --- the doctor ---------------------------------------------------------------------------------------------


def test_doctor_finds_what_is_wrong_with_evidence_and_exits_by_severity(place: Place, beats: Beats) -> None:
    diagnosis = place.json("doctor", code=2)
    found = {finding["what"]: finding for finding in diagnosis["findings"]}
    assert found["1 entry is in error: bad."]["evidence"][0].startswith("bad: ")
    assert "Redis has no append-only file" in " ".join(found)
    assert found["1 occurrence was skipped so far: while paused, by the entries' catch-up policies, or "
                 "because a message could not be sent any more."]["evidence"] == ["tick: 1"]  # fmt: skip
    assert diagnosis["errors"] == 1
    assert diagnosis["not_read"] == []


def test_doctor_tells_which_entries_take_two_steps_and_why(place: Place, beats: Beats) -> None:
    module = place.write("""
        from celery.signals import before_task_publish

        @before_task_publish.connect(sender="proj.tick", weak=False)
        def stamp(**kwargs):
            raise AssertionError("the doctor sends nothing")
    """)
    notes = [
        (finding["what"], finding["evidence"])
        for finding in place.json("doctor", code=2, module=module)["findings"]
        if finding["area"] == "broker"
    ]
    assert notes[0][0].startswith("1 entry of beat_schedule: claim and message are one write")
    assert (
        "1 entry of beat_schedule: two steps, because" in notes[1][0] and "before_task_publish" in notes[1][0]
    )
    assert notes[1][1] == ["tick"]
    before_task_publish.disconnect(sys.modules[module].stamp, sender="proj.tick")


def test_doctor_sees_what_the_named_scheduler_overrides(place: Place, beats: Beats) -> None:
    module = place.write("""
        from celery_dispatch import DispatchScheduler

        class Mine(DispatchScheduler):
            def apply_async(self, *args, **kwargs):
                raise AssertionError("the doctor sends nothing")

        app.conf.beat_scheduler = Mine
    """)
    found = [
        f["what"] for f in place.json("doctor", code=2, module=module)["findings"] if f["area"] == "broker"
    ]
    assert len(found) == 1
    assert "2 entries of beat_schedule: two steps, because" in found[0] and "apply_async" in found[0]


def test_doctor_tells_in_what_another_config_differs(place: Place, beats: Beats) -> None:
    other = Beats(
        place,
        place.write("""
        app.conf.beat_schedule["tick"]["schedule"] = 20.0
        app.conf.beat_schedule["more"] = {"task": "proj.more", "schedule": 1.0}
    """),
    )
    other.join("c-3", "host-c")
    beats.facets.publish(beats.catalog.fingerprint, beats.own_facets)
    other.facets.publish(other.catalog.fingerprint, other.own_facets)
    (finding,) = [
        finding for finding in place.json("doctor", code=2)["findings"] if "(c-3) differs" in finding["what"]
    ]
    assert finding["evidence"] == ["entry more: only in this one", "entry tick: schedule"]


def test_doctor_lists_wrong_settings_one_by_one(place: Place) -> None:
    module = place.write("app.conf.dispatch_lease_tll = 3; app.conf.dispatch_batch_size = 0")
    diagnosis = place.json("doctor", code=2, module=module)
    (finding,) = diagnosis["findings"]
    assert len(finding["evidence"]) == 2
    assert "dispatch_lease_ttl" in " ".join(finding["evidence"])


def test_doctor_of_an_unreachable_redis_names_what_it_could_not_read(place: Place) -> None:
    diagnosis = place.json("doctor", code=2, module=place.write(port=free_port()))
    assert [finding["area"] for finding in diagnosis["findings"]] == ["redis", "broker", "entries"]
    assert "nodes" in diagnosis["not_read"]


def test_doctor_shows_intents_that_pile_up(place: Place, beats: Beats) -> None:
    anchor = Cursor.anchor("d", beats.pool.read().now.replace(microsecond=0), "a-1")
    assert beats.fence is not None
    intent = Intent("x", anchor.due - timedelta(hours=1), "d", "a-1", "0" * 16, anchor.due)
    beats.ledger.claim(
        beats.fence, [Claim("x", None, replace(anchor, due=intent.due, fired=1), intent=intent)]
    )
    (finding,) = [f for f in place.json("doctor", code=2)["findings"] if f["area"] == "intents"]
    assert finding["evidence"][0].startswith("x, due ")
    assert place.json("status", code=1)["intents"]["open"] == 1


# --- probes -------------------------------------------------------------------------------------------------


def test_live_needs_no_redis(place: Place) -> None:
    module = place.write(port=free_port())
    file = turn_file(module)
    file.touch(time.monotonic())
    assert place.json("health", "--live", module=module)["nodes"] == ["a-1"]
    file.touch(time.monotonic() - 60)
    assert place.json("health", "--live", code=1, module=module)["healthy"] is False
    file.remove()
    assert place.run("health", "--live", module=module).exit_code == 1


def test_ready_once_this_hosts_node_is_steady(place: Place) -> None:
    node = Beats(place)
    turn_file(place.module).touch(time.monotonic())
    assert place.json("health", "--ready", code=1)["healthy"] is False
    node.join("a-1", "host-a", state=MemberState.JOINING)
    assert place.json("health", "--ready", code=1)["healthy"] is False
    node.join("a-1", "host-a")
    assert place.json("health", "--ready")["healthy"] is True


# --- the command line itself --------------------------------------------------------------------------------


def test_help_documents_exit_statuses_and_json(place: Place) -> None:
    text = place.run("--help").output
    assert "Exit status" in text and "--json" in text
    commands = ("status", "doctor", "nodes", "entries", "show", "next", "health", "drain", "undrain", "adopt")
    for command in (*map(str.split, commands), ["cursor", "reset"]):
        assert "--json" in place.run(*command, "--help").output


def test_installed_command_honours_preload_options_and_is_quiet(place: Place) -> None:
    module = place.write("""
        import click
        from celery.signals import user_preload_options

        app.user_options["preload"].add(click.Option(["--shard"]))

        @user_preload_options.connect(weak=False)
        def note(options, **kwargs):
            open("shard", "w").write(options["shard"])
    """)
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", module, "dispatch", "--shard", "7", "entries", "--json"],
        cwd=place.path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["matched"] == 3
    assert (place.path / "shard").read_text() == "7"


def test_watch_refreshes_until_interrupted(place: Place, beats: Beats) -> None:
    terminal, theirs = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", place.module, "dispatch", "status", "--watch"],
        cwd=place.path, stdout=theirs, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    try:
        wait_until(lambda: _seen(terminal, b"host-a"), 20, "the first screen")
        beats.join("c-3", "host-c")
        wait_until(lambda: _seen(terminal, b"host-c"), 20, "a refreshed screen")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(terminal)


def test_commands_that_are_not_ours_do_not_load_what_only_ours_need() -> None:
    code = (
        "import sys, celery_dispatch.manage.cli; print([m for m in ('rich', 'curses') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


# --- pieces -------------------------------------------------------------------------------------------------


def _seen(terminal: int, word: bytes) -> bool:
    """Whether the next piece of output, if there is one by now, holds ``word``."""
    readable, _, _ = select.select([terminal], [], [], 0.1)
    return bool(readable) and word in os.read(terminal, 1 << 16)


def _dump(port: int) -> dict[bytes, bytes]:
    client: Any = redis.Redis(port=port)
    return {key: client.dump(key) for key in client.keys("*")}


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
