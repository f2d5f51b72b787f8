"""What happens to beats: they come, leave, die, stand still, and their clocks are wrong.

Each function harms a running stage, in the very moment of firing where that is the nastiest, and returns when
the consequences are over.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Mapping
from pathlib import Path

from tests.drills.stage import Stage

_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)


def nothing(stage: Stage) -> None:
    stage.run_on(1.5 * stage.lease)


def join(stage: Stage) -> None:
    stage.note("a fourth beat is started")
    stage.cluster.beat("node-4", proxied=stage.proxied)
    stage.cluster.wait_for_nodes(4)
    stage.note("4 nodes steady")
    stage.run_on(0.6 * stage.lease)


def terminate(stage: Stage) -> None:
    victim = stage.cluster.beats["node-2"].process
    stage.at_a_due()
    victim.terminate()
    stage.note("SIGTERM to node-2")
    if status := victim.wait(15):
        stage.complaints.append(f"node-2 ended with status {status} on SIGTERM:\n{victim.log[-2000:]}")
    stage.cluster.wait_for_nodes(2, timeout=1)
    stage.note("node-2 ended, and is no member")
    stage.run_on(stage.lease)


def kill(stage: Stage) -> None:
    handover(stage)
    stage.at_a_due()
    stage.cluster.beats["node-2"].process.kill()
    stage.note("SIGKILL to node-2")
    stage.cluster.wait_for_nodes(2)
    stage.note("node-2 trimmed")
    stage.run_on(0.4 * stage.lease)


def kill_two(stage: Stage) -> None:
    a_lease(stage)
    stage.at_a_due()
    for name in ("node-1", "node-2"):
        stage.cluster.beats[name].process.kill()
    stage.note("SIGKILL to node-1 and node-2 at once")
    stage.cluster.wait_for_nodes(1)
    stage.note("both trimmed")
    stage.run_on(0.4 * stage.lease)


def kill_in_turn(stage: Stage) -> None:
    """Seven kills, each a little further into the moment of firing, each with a new beat in its place."""
    a_lease(stage)
    chance = random.Random(7)
    for number, offset in enumerate((0, 1, 2, 3, 4, 6, 9), start=stage.nodes + 1):
        alive = [name for name, beat in stage.cluster.beats.items() if beat.process.alive]
        victim = chance.choice(alive)
        stage.at_a_due(offset)
        stage.cluster.beats[victim].process.kill()
        stage.note(f"SIGKILL to {victim} {offset} ms after a due")
        stage.cluster.beat(f"node-{number}")
        stage.cluster.wait_for_state(f"node-{number}", "steady")
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.note("all dead ones trimmed")
    stage.run_on(0.4 * stage.lease)


def pause(stage: Stage) -> None:
    _pause(stage, 0.8 * stage.lease)


def pause_past_the_lease(stage: Stage) -> None:
    _pause(stage, stage.lease + stage.seconds("heartbeat_interval") + 2)


def _pause(stage: Stage, seconds: float) -> None:
    handover(stage)
    victim = stage.cluster.beats["node-2"].process
    stage.at_a_due()
    victim.pause()
    stage.note("SIGSTOP to node-2")
    stage.run_on(seconds)
    victim.resume()
    stage.note("SIGCONT to node-2")
    stage.cluster.wait_for_renewals(stage.nodes)
    stage.note("all nodes have renewed")
    stage.run_on(0.6 * stage.lease)


def clock_ahead(stage: Stage) -> None:
    _clock(stage, "+30s")


def clock_behind(stage: Stage) -> None:
    _clock(stage, "-30s")


def clock_stepped(stage: Stage) -> None:
    steps = _clock(stage, "+0s")
    for offset in ("+30s", "-30s", "+0s"):
        _set_clock(steps, offset)
        stage.note(f"node-2's clock is stepped to {offset}")
        stage.run_on(0.5 * stage.lease)
        _has_clock(stage, offset)


def _clock(stage: Stage, offset: str) -> Path:
    """Give node-2 a wrong wall clock, by starting it anew with one before lag is judged."""
    victim = stage.cluster.beats["node-2"].process
    victim.terminate()
    victim.wait(15)
    steps = stage.directory / "clock"
    _set_clock(steps, offset)
    stage.cluster.beat("node-2", env=_clock_environment(steps), launch=True)
    stage.note(f"node-2 is started anew with its clock at {offset}")
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.settled()
    stage.run_on(stage.lease)
    _has_clock(stage, offset)
    return steps


def _has_clock(stage: Stage, offset: str) -> None:
    """A drill whose victim has the right time shows nothing: its log must carry the wrong one."""
    log = stage.cluster.beats["node-2"].process.log
    said = re.findall(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", log, re.MULTILINE)[-1]
    off = time.mktime(time.strptime(said, "%Y-%m-%d %H:%M:%S")) - time.time()
    if abs(off - float(offset.rstrip("s"))) > 4:
        raise AssertionError(f"node-2's clock should be {offset} off, but its log is {off:.0f} s off")


def _clock_environment(steps: Path) -> Mapping[str, str]:
    library = faketime()
    if library is None:
        raise AssertionError("a wrong clock needs libfaketime: apt-get install faketime")
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(steps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _set_clock(steps: Path, offset: str) -> None:
    draft = steps.with_suffix(".new")
    draft.write_text(f"{offset}\n")
    draft.replace(steps)


def faketime() -> str | None:
    """Debian's libfaketime, if it is installed."""
    return next((library for library in _LIBRARIES if os.path.exists(library)), None)


def handover(stage: Stage) -> None:
    """The bound of a fault that the standbys make good."""
    stage.bound = 1000 * stage.seconds("handover_delay") + 200


def a_lease(stage: Stage) -> None:
    """The bound of a fault that owner and standby share."""
    stage.bound = 1000 * (stage.lease + stage.seconds("heartbeat_interval") + 1)
