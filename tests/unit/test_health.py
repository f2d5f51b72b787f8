"""Signs of life on this host, and what the probes make of them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Member, MemberState, PoolState
from celery_dispatch.liveness import STALE_AFTER, TurnFile, directory_for, read_turns
from celery_dispatch.manage.health import live, ready

SERVER = "redis://127.0.0.1:6379/0"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
AHEAD = Fence("new", NOW + timedelta(seconds=2))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return directory_for(SERVER, "celery-dispatch", "proj")


class PoolOf:
    """A pool that only answers."""

    def __init__(self, *members: Member, fence: Fence | None = None, before: Fence | None = None) -> None:
        self._state = PoolState(
            now=NOW,
            epoch="1",
            fence=fence or Fence("cfg", NOW),
            before=before,
            challenger="",
            identity="app",
            recovery="",
            members=members,
        )

    def read(self) -> PoolState:
        return self._state


def member(node: str, *, state: MemberState = MemberState.STEADY, lease: float = 10) -> Member:
    return Member(
        id=node,
        host="host",
        config="cfg",
        identity="app",
        state=state,
        draining=False,
        joined=NOW,
        lease_end=NOW + timedelta(seconds=lease),
        info={},
    )


#: Its last heartbeat, of those that it makes every 2 s, was 3.5 s ago.
LATE = replace(member("a-1", lease=6.5), info={"heartbeat": 2, "lease": 10})
DRAINED = replace(member("a-1"), draining=True)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- the writer ---------------------------------------------------------------------------------------------


def test_directory_differs_by_key_prefix_and_by_app(directory: Path) -> None:
    others = {directory_for(SERVER, "other", "proj"), directory_for(SERVER, "celery-dispatch", "other")}
    assert len({directory, *others}) == 3


def test_turn_is_written_at_most_once_a_second(directory: Path) -> None:
    file = TurnFile(directory, "a-1")
    for now in (100.0, 100.2, 100.9):
        file.touch(now)
    assert _record(directory, "a-1")["turned"] == 100.0
    file.touch(101.0)
    assert _record(directory, "a-1")["turned"] == 101.0


def test_directories_are_private_and_no_draft_is_left(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(1.0)
    assert [oct(path.stat().st_mode & 0o777) for path in (directory.parent, directory)] == ["0o700", "0o700"]
    assert [path.name for path in directory.iterdir()] == ["a-1.json"]


def test_node_name_cannot_leave_the_directory(directory: Path) -> None:
    TurnFile(directory, "../../x/y-1").touch(1.0)
    assert len(list(directory.iterdir())) == 1


def test_directory_that_was_cleaned_away_is_made_anew(directory: Path) -> None:
    file = TurnFile(directory, "a-1")
    file.touch(1.0)
    file.remove()
    directory.rmdir()
    file.touch(3.0)
    assert _record(directory, "a-1")["turned"] == 3.0


def test_unwritable_directory_is_logged_once_and_raises_nothing(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory.parent.write_text("a file where the directory should be")
    file = TurnFile(directory, "a-1")
    with caplog.at_level(logging.DEBUG, logger="celery_dispatch.liveness"):
        file.touch(1.0)
        file.touch(3.0)
        file.remove()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "a-1" in warnings[0] and str(directory) in warnings[0]


def test_new_node_sweeps_what_killed_ones_left(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(1.0)
    _rewrite(directory, "a-1", pid=dead_pid())
    TurnFile(directory, "b-2").touch(2.0)
    assert [path.name for path in directory.iterdir()] == ["b-2.json"]


def test_symlink_in_place_of_the_directory_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    directory.parent.symlink_to(tmp_path / "elsewhere")
    TurnFile(directory, "a-1").touch(1.0)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_removing_twice_is_harmless(directory: Path) -> None:
    file = TurnFile(directory, "a-1")
    file.remove()
    file.touch(1.0)
    file.remove()
    file.remove()
    assert list(directory.iterdir()) == []


# --- live ---------------------------------------------------------------------------------------------------


def test_turning_loop_is_healthy(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(100.0)
    health = live(directory, monotonic_now=100.0 + STALE_AFTER)
    assert health.healthy
    assert health.nodes == ("a-1",)


def test_hanging_loop_is_unhealthy_and_named(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(100.0)
    TurnFile(directory, "b-2").touch(120.0)
    health = live(directory, monotonic_now=120.0)
    assert not health.healthy
    assert "a-1" in health.why and "b-2" not in health.why


def test_host_without_a_node_is_unhealthy(directory: Path) -> None:
    health = live(directory)
    assert not health.healthy
    assert str(directory) in health.why


def test_file_of_a_process_that_is_gone_is_removed_and_ignored(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(100.0)
    _rewrite(directory, "a-1", pid=dead_pid())
    assert not live(directory, monotonic_now=100.0).nodes
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times are only known on Linux")
def test_file_of_an_earlier_process_with_the_same_pid_is_removed(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(100.0)
    _rewrite(directory, "a-1", born="1")
    assert not live(directory, monotonic_now=100.0).nodes


def test_file_from_before_a_reboot_is_removed(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(1_000_000.0)
    assert not live(directory, monotonic_now=100.0).nodes


def test_file_that_is_not_ours_is_ignored(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(100.0)
    for number, text in enumerate(("", "[]", "null", '{"node": "x"}', '{"node":"x","pid":"y","turned":1}')):
        (directory / f"bad{number}.json").write_text(text)
    assert [turn.node for turn in read_turns(directory, monotonic_now=100.0)] == ["a-1"]


# --- ready --------------------------------------------------------------------------------------------------


def test_steady_member_is_ready(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(0.0)
    assert ready(directory, PoolOf(member("a-1"), member("other-9"))).healthy  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pool", "word"),
    [
        (PoolOf(member("other-9")), "not in the pool"),
        (PoolOf(member("a-1", lease=0)), "run out"),
        (PoolOf(member("a-1", state=MemberState.JOINING)), "joining"),
        (PoolOf(member("a-1", state=MemberState.JOINING), fence=AHEAD, before=Fence("cfg", NOW)), "joining"),
        (PoolOf(member("a-1", state=MemberState.CUT_OFF)), "broker"),
        (PoolOf(LATE), "late with its heartbeat (the last one 3.5 s ago)"),
        (PoolOf(replace(LATE, draining=True), member("b-2")), "late"),
        (PoolOf(DRAINED), "celery -A <app> dispatch undrain a-1"),
        (PoolOf(DRAINED, member("b-2", lease=0)), "undrain a-1"),
        (PoolOf(DRAINED, replace(LATE, id="b-2")), "undrain a-1"),
        (PoolOf(DRAINED, replace(member("b-2"), identity="another app")), "undrain a-1"),
    ],
    ids=[
        "absent",
        "expired",
        "joining",
        "joining-before-a-switch",
        "cut-off",
        "late",
        "late-and-drained",
        "drained-and-alone",
        "drained-and-the-other-died",
        "drained-and-the-other-is-late",
        "drained-beside-another-app",
    ],
)
def test_node_that_is_no_steady_member_is_not_ready(directory: Path, pool: PoolOf, word: str) -> None:
    TurnFile(directory, "a-1").touch(0.0)
    health = ready(directory, pool)  # type: ignore[arg-type]
    assert not health.healthy
    assert word in health.why


def test_heartbeat_that_is_not_overdue_yet_is_no_fault(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(0.0)
    fresh = replace(LATE, lease_end=NOW + timedelta(seconds=7))
    assert ready(directory, PoolOf(fresh)).healthy  # type: ignore[arg-type]


def test_config_that_is_written_ahead_and_the_only_one_counts_as_in_force(directory: Path) -> None:
    TurnFile(directory, "a-1").touch(0.0)
    far = Fence("cfg", NOW + timedelta(days=365))
    pool = PoolOf(member("a-1", state=MemberState.JOINING), fence=far)
    assert "joining" in ready(directory, pool).why  # type: ignore[arg-type]


def test_host_without_a_node_is_not_ready(directory: Path) -> None:
    assert not ready(directory, PoolOf(member("a-1"))).healthy  # type: ignore[arg-type]


def _record(directory: Path, node: str) -> dict[str, object]:
    record: dict[str, object] = json.loads((directory / f"{node}.json").read_text())
    assert record["pid"] == os.getpid()
    return record


def _rewrite(directory: Path, node: str, **changes: object) -> None:
    path = directory / f"{node}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "pool",
    [
        PoolOf(replace(member("a-1", state=MemberState.JOINING), config="the next release")),
        PoolOf(replace(member("a-1", state=MemberState.JOINING), identity="on another broker")),
        PoolOf(replace(member("a-1", state=MemberState.JOINING), draining=True), member("b-2")),
        PoolOf(member("a-1", state=MemberState.JOINING), fence=Fence("new", NOW), before=Fence("cfg", NOW)),
    ],
    ids=["another-config", "another-broker", "draining", "config-before-a-switch"],
)
def test_node_that_waits_for_a_person_or_a_deploy_is_ready(directory: Path, pool: PoolOf) -> None:
    TurnFile(directory, "a-1").touch(time.monotonic())
    assert ready(directory, pool).healthy  # type: ignore[arg-type]
