"""A large schedule of which nothing is due: what its start takes, and what it costs to have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.ground import Beats
from benchmarks.lab import Lab, Step
from benchmarks.results import Idle, Start
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds, resident_bytes

__all__ = ["steps"]

_TOMORROW = 86_400.0
_SWEPT = (
    14.0  # seconds after the anchor by which the pool has gone through all cursors, as it does once an hour
)
_NODES = 3
_LONGEST = 180.0  # seconds that a start may take
_LOOK = 0.02  # seconds between two looks


def steps(entries: int, seconds: float) -> Iterator[Step]:
    title = f"{entries:,} entries due tomorrow: start, and {seconds:.0f} s of rest"
    yield Step(title, 40 + seconds + entries / 3_000, lambda lab: _rest(lab, entries, seconds))


def _rest(lab: Lab, entries: int, seconds: float) -> Iterator[Idle | Start]:
    with lab.beats([Group("interval", entries, _TOMORROW)]) as (server, beats):
        lab.say("the app merely loaded")
        loaded = beats.merely_loaded()
        time.sleep(1)
        merely = resident_bytes(loaded.pid)
        loaded.end()
        yield _started(lab, beats, entries, 1)
        time.sleep(max(0.0, beats.since() / 1000 + _SWEPT - beats.now()))
        lab.say("at rest")
        pids = beats.pids()[0], server.pid
        before, commands, began = [cpu_seconds(pid) for pid in pids], _commands(beats), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        cpu = [(cpu_seconds(pid) - spent) / took for pid, spent in zip(pids, before)]
        sent = _commands(beats) - commands - 1
        memory = resident_bytes(pids[0])
        yield Idle(entries, took, cpu[0], cpu[1], sent / took * 60, memory, merely)
        for number in range(2, _NODES + 1):
            yield _started(lab, beats, entries, number)


def _started(lab: Lab, beats: Beats, entries: int, number: int) -> Start:
    """One more node; it holds its whole share once it is steady, on a new pool once all cursors are there."""
    name = f"node-{number}"
    lab.say(f"starting {name}")
    began = time.monotonic()
    beats.beat(name)
    beats.wait_for_ready(name)
    read = time.monotonic() - began
    while not (_is_steady(beats, name) and beats.has_cursors()):
        if time.monotonic() - began > _LONGEST:
            raise AssertionError(f"{name} is not steady after {_LONGEST:.0f} s\n{beats.logs()}")
        time.sleep(_LOOK)
    return Start(entries, number, read, time.monotonic() - began)


def _is_steady(beats: Beats, name: str) -> bool:
    return any(member.get("state") == "steady" for member in beats.members_called(name))


def _commands(beats: Beats) -> int:
    """How many commands Redis has carried out, those within scripts included."""
    found: Any = beats.redis.info("stats")
    return int(found["total_commands_processed"])
