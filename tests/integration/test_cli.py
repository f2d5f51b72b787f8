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
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, Heartbeat, MemberState
from celery_dispatch.liveness import TurnFile
from celery_dispatch.manage.health import directory_of
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from celery_dispatch.redis_store.pool import RedisPool
from tests.servers import Server, free_port, wait_until

READING = (["status"], ["nodes"], ["entries"], ["show", "tick"], ["next", "tick"])

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

    def __init__(self, place: Place) -> None:
        app = __import__(place.module).app
        config = Config.from_app(app)
        client = redis_client(config.redis_url, {})
        self.catalog = catalog_of(app, config)
        self.ledger = RedisLedger(client, Keys(config.key_prefix))
        self._pool = RedisPool(client, Keys(config.key_prefix))
        self.fence: Fence | None = None

    def join(
        self, node: str, host: str, *, state: MemberState = MemberState.STEADY, **info: object
    ) -> datetime:
        beat = Heartbeat(node, host, self.catalog.fingerprint, state, timedelta(seconds=10), info)
        pulse = self._pool.heartbeat(beat, known_epoch=None)
        self.fence = pulse.fence
        return pulse.now

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


@pytest.mark.parametrize("args", [*READING, ["health", "--ready"]], ids=" ".join)
def test_unreachable_redis_is_one_line_and_status_3(place: Place, args: list[str]) -> None:
    module = place.write(port=free_port())
    turn_file(module).touch(time.monotonic())
    answer = place.json(*args, code=3, module=module)
    assert set(answer) == {"error", "cure"}
    result = place.run(*args, module=module)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("args", [*READING, ["health", "--live"]], ids=" ".join)
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
     ["entries", "--limit", "-1"], ["show"], ["nodes", "--no-such-option"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_status_2_and_json_if_asked(place: Place, args: list[str]) -> None:
    assert set(place.json(*args, code=2)) == {"error", "cure"}
    assert place.run(*args).exit_code == 2


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
    for command in ("status", "nodes", "entries", "show", "next", "health"):
        assert "--json" in place.run(command, "--help").output


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
