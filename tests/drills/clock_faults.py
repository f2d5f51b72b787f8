"""Clocks that are wrong or stepped: a beat's, which must not matter, and Redis's, by which everything goes.

Each function harms a running stage and returns when the consequences are over.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.drills.clocks import clock_environment, set_clock
from tests.drills.process import wait_until
from tests.drills.redis_server import SteppedServer
from tests.drills.stage import Stage

__all__ = ["clock_ahead", "clock_behind", "clock_stepped", "redis_ahead", "redis_stepped_back"]

_QUIET = 400  # ms after a due: nothing is on its way


def clock_ahead(stage: Stage) -> None:
    _clock(stage, "+30s")


def clock_behind(stage: Stage) -> None:
    _clock(stage, "-30s")


def clock_stepped(stage: Stage) -> None:
    steps = _clock(stage, "+0s")
    for offset in ("+30s", "-30s", "+0s"):
        set_clock(steps, offset)
        stage.note(f"node-2's clock is stepped to {offset}")
        stage.run_on(0.5 * stage.lease)
        _has_clock(stage, offset)


def _clock(stage: Stage, offset: str) -> Path:
    """Give node-2 a wrong wall clock, by starting it anew with one before lag is judged."""
    victim = stage.cluster.beats["node-2"].process
    victim.terminate()
    victim.wait(15)
    steps = stage.directory / "clock"
    set_clock(steps, offset)
    stage.cluster.beat("node-2", env=clock_environment(steps), launch=True)
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


def redis_stepped_back(stage: Stage) -> None:
    """Redis's clock goes back: what was fired is not fired again, and what is to come waits for its due."""
    step = 3 * stage.lease
    stage.bound = 1000 * step
    stage.at_a_due(_QUIET)
    _step_redis(stage, -step)
    _heard_of_again(stage, within=step + 2)
    stage.run_on(0.6 * stage.lease)


def redis_ahead(stage: Stage) -> None:
    """Redis's clock is set forward, and what it says is due is fired; and right again half a lease later."""
    step = 3 * stage.lease
    stage.bound = 1000 * (step + 2)
    stage.at_a_due(_QUIET)
    _step_redis(stage, step)
    stage.run_on(0.5 * stage.lease)
    stage.at_a_due(_QUIET)
    _step_redis(stage, -step, to=0)
    _heard_of_again(stage, within=step + 2)
    stage.run_on(0.6 * stage.lease)


def _step_redis(stage: Stage, step: float, *, to: float | None = None) -> None:
    server = stage.ground.server
    assert isinstance(server, SteppedServer)
    before = stage.now()
    server.set_clock(step if to is None else to)
    wait_until(  # a Valkey that is idle looks at its clock ten times a second
        lambda: abs(stage.now() - before - 1000 * step) < 1500,
        2,
        why=lambda: f"a step of Redis's clock by {step:g} s; it was by {stage.now() - before} ms",
    )
    stage.note(f"Redis's clock is stepped by {step:+g} s")


def _heard_of_again(stage: Stage, *, within: float) -> None:
    """Until messages come again; entries must not be silent for longer than the step."""
    began, before = time.monotonic(), len(stage.collector)
    wait_until(
        lambda: len(stage.collector) > before, within, why=lambda: f"a message\n{stage.cluster.logs()}"
    )  # fmt: skip
    stage.note(f"messages come again after {time.monotonic() - began:.1f} s")
