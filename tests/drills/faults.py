"""The faults, one function each: harms a running stage, and returns when the consequences are over.

``FAULTS`` is in the order of the design's table.  A fault that changes the bound of the worst lag says so on
the stage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.drills.process import wait_until
from tests.drills.stage import Stage

__all__ = ["FAULTS", "Fault", "faketime"]

_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A drill's name, what a person reads of it, what is done, and how the stage is set."""

    name: str
    title: str
    strike: Callable[[Stage], None]
    proxied: bool = False
    clock: bool = False


def faketime() -> str | None:
    """Debian's libfaketime, if it is installed."""
    return next((library for library in _LIBRARIES if os.path.exists(library)), None)


# --- nodes --------------------------------------------------------------------------------------------------


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
    stage.note("SIGTERM to node-2")
    victim.terminate()
    if status := victim.wait(15):
        stage.complaints.append(f"node-2 ended with status {status} on SIGTERM:\n{victim.log[-2000:]}")
    stage.note("node-2 ended")
    stage.cluster.wait_for_nodes(2, timeout=1)
    stage.run_on(stage.lease)


def kill(stage: Stage) -> None:
    _handover(stage)
    stage.note("SIGKILL to node-2")
    stage.cluster.beats["node-2"].process.kill()
    stage.cluster.beats["node-2"].process.wait(5)
    stage.cluster.wait_for_nodes(2)
    stage.note("node-2 trimmed")
    stage.run_on(4)


def pause(stage: Stage) -> None:
    _handover(stage)
    victim = stage.cluster.beats["node-2"].process
    stage.note("SIGSTOP to node-2")
    victim.pause()
    stage.run_on(0.8 * stage.lease)
    stage.note("SIGCONT to node-2")
    victim.resume()
    stage.run_on(0.6 * stage.lease)
    stage.cluster.wait_for_nodes(stage.nodes)


def pause_past_the_lease(stage: Stage) -> None:
    _handover(stage)
    victim = stage.cluster.beats["node-2"].process
    stage.note("SIGSTOP to node-2")
    victim.pause()
    stage.run_on(stage.seconds("lease_ttl") + stage.seconds("heartbeat_interval") + 2)
    stage.note("SIGCONT to node-2")
    victim.resume()
    stage.run_on(0.5 * stage.lease)
    stage.cluster.wait_for_nodes(stage.nodes)


def kill_two(stage: Stage) -> None:
    stage.bound = 1000 * (stage.seconds("lease_ttl") + stage.seconds("heartbeat_interval") + 1)
    stage.note("SIGKILL to node-1 and node-2 at once")
    for name in ("node-1", "node-2"):
        stage.cluster.beats[name].process.kill()
    stage.cluster.wait_for_nodes(1)
    stage.note("both trimmed")
    stage.run_on(4)


# --- the network --------------------------------------------------------------------------------------------


def cut_deaf(stage: Stage) -> None:
    _cut(stage, "deaf", 1.2 * stage.lease)


def cut_held(stage: Stage) -> None:
    _cut(stage, "held", 0.8 * stage.lease)


def cut_refused(stage: Stage) -> None:
    _cut(stage, "refused", 0.8 * stage.lease)


def lost_replies(stage: Stage) -> None:
    _handover(stage)
    for number in range(1, stage.nodes + 1):
        cable = stage.cluster.beats[f"node-{number}"].cable
        for _ in range(2):
            dropped = cable.dropped
            cable.drop_reply(after=b"drill.record")  # only a claim carries messages
            wait_until(lambda: cable.dropped > dropped, 10, why=lambda: "a claim behind this proxy")  # noqa: B023
            stage.note(f"a reply to node-{number} was dropped")
    stage.run_on(3)


def _cut(stage: Stage, how: str, seconds: float) -> None:
    _handover(stage)
    cable = stage.cluster.beats["node-2"].cable
    before = set(stage.cluster.nodes())
    stage.note(f"node-2 cut from Redis ({how})")
    {"deaf": cable.go_deaf, "held": cable.hold, "refused": cable.refuse}[how]()
    stage.run_on(seconds)
    stage.note("healed")
    cable.heal()
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.note("node-2 is back")
    if (after := set(stage.cluster.nodes())) != before:
        stage.complaints.append(f"nodes came back under other ids: {sorted(before)}, then {sorted(after)}")
    stage.run_on(0.5 * stage.lease)


def _handover(stage: Stage) -> None:
    stage.bound = 1000 * stage.seconds("handover_delay") + 200


# --- Redis --------------------------------------------------------------------------------------------------


def redis_down(stage: Stage) -> None:
    stage.note("Redis is stopped (SIGTERM)")
    _outage(stage, stage.server.stop, stage.lease)


def redis_killed(stage: Stage) -> None:
    stage.note("Redis is killed (SIGKILL)")
    _outage(stage, stage.server.kill, 0)


def _outage(stage: Stage, take_away: Callable[[], None], seconds: float) -> None:
    began = time.monotonic()
    take_away()
    stage.run_on(seconds)
    stage.server.start()
    stage.wait_for_server()
    outage = time.monotonic() - began
    stage.bound = 1000 * (outage + 2)
    stage.note(f"Redis is back after {outage:.1f} s")
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.note("all nodes are back")
    stage.run_on(0.8 * stage.lease)


# --- clocks -------------------------------------------------------------------------------------------------


def clock_ahead(stage: Stage) -> None:
    _clock(stage, "+30s")


def clock_behind(stage: Stage) -> None:
    _clock(stage, "-30s")


def clock_stepped(stage: Stage) -> None:
    steps = _clock_file(stage.directory)
    _clock(stage, "+0s")
    for offset in ("+30s", "-30s", "+0s"):
        stage.note(f"node-2's clock is stepped to {offset}")
        _set_clock(steps, offset)
        stage.run_on(0.5 * stage.lease)


def _clock(stage: Stage, offset: str) -> None:
    """Give node-2 a wrong wall clock, by starting it anew with one before lag is judged."""
    stage.note(f"node-2 is started anew with its clock at {offset}")
    victim = stage.cluster.beats["node-2"].process
    victim.terminate()
    victim.wait(15)
    steps = _clock_file(stage.directory)
    _set_clock(steps, offset)
    stage.cluster.beat("node-2", env=_clock_environment(steps), launch=True)
    stage.cluster.wait_for_nodes(stage.nodes)
    stage.settled()
    stage.run_on(stage.lease)


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


def _clock_file(directory: Path) -> Path:
    return directory / "clock"


def _set_clock(steps: Path, offset: str) -> None:
    draft = steps.with_suffix(".new")
    draft.write_text(f"{offset}\n")
    draft.replace(steps)


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("none", "none", nothing),
        Fault("join", "join (3 to 4)", join),
        Fault("term", "SIGTERM of one", terminate),
        Fault("kill", "SIGKILL of one", kill),
        Fault("pause", "SIGSTOP 8 s, SIGCONT", pause),
        Fault("pause-long", "SIGSTOP past the lease, SIGCONT", pause_past_the_lease),
        Fault("cut", "one node cut from Redis 12 s (deaf)", cut_deaf, proxied=True),
        Fault("cut-held", "one node cut 8 s, what it sent arrives after", cut_held, proxied=True),
        Fault("cut-refused", "one node refused by Redis 8 s", cut_refused, proxied=True),
        Fault("lost-reply", "replies to claims lost", lost_replies, proxied=True),
        Fault("kill-two", "two of three SIGKILLed at once", kill_two),
        Fault("redis-down", "Redis down 10 s (AOF)", redis_down),
        Fault("redis-kill", "Redis SIGKILLed and restarted (AOF)", redis_killed),
        Fault("clock-ahead", "one clock +30 s", clock_ahead, clock=True),
        Fault("clock-behind", "one clock -30 s", clock_behind, clock=True),
        Fault("clock-step", "one clock stepped +30, -60, +30 s", clock_stepped, clock=True),
    )
}
