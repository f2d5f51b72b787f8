"""A large schedule that was made at run time: what people do to it, and how soon the beats follow.

How long a command held Redis up is what the server's own slow log says, scripts included.  That counts what
other processes took from it meanwhile, so Redis goes before them, as if it had a core of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery

from benchmarks.ground import QUEUE, Beats
from benchmarks.lab import Lab, Step
from benchmarks.results import Followed, Work
from benchmarks.schedules import TASK, Group
from benchmarks.watching import cpu_seconds, messages
from celery_dispatch import Schedules
from celery_dispatch.manage import keeping
from celery_dispatch.manage.connect import open_sources
from celery_dispatch.manage.connect_data import open_kept
from celery_dispatch.manage.operations import read_pool, read_status
from tests.drills.checker import percentile
from tests.drills.process import wait_until

__all__ = ["steps"]

_NODES = 3
_TOMORROW = 86_400.0
_LABELS = {"of": "benchmark"}
_EVERY = 0.05  # seconds between two dues of what is changed to see how soon the beats follow
_LOOK = 0.001
_LONGEST = 10.0  # seconds that a change may take until a beat follows
_SWEEP = 60.0
_SHORT = 100  # µs; what takes less is not looked at


def steps(entries: int, bulk: int, changes: int) -> Iterator[Step]:
    title = f"{entries:,} entries made at run time, {bulk:,} of them in one call"
    yield Step(title, 60 + entries / 800 + changes, lambda lab: _run_time(lab, entries, bulk, changes))


def _run_time(lab: Lab, entries: int, bulk: int, changes: int) -> Iterator[Work | Followed]:
    with lab.beats([Group("interval", 1, _TOMORROW)]) as (server, beats):
        app = Celery("bench", broker=server.url, set_as_current=False)
        app.conf.update(result_expires=None, **beats.settings)
        with suppress(PermissionError):
            os.sched_setscheduler(server.pid, os.SCHED_FIFO, os.sched_param(1))
        watch = _Watch(lab, beats.redis, server.pid)
        with Schedules(app) as schedules:
            yield from _made(watch, app, schedules, beats, entries, bulk)
            yield from _read(watch, app, entries)
            for told in (True, False):
                lab.say("changes, and how soon they are followed")
                yield _followed(app, schedules, beats, changes, told=told)
            yield watch.did("delete all in one call", entries, lambda: schedules.replace({}, labels=_LABELS))
        app.close()


def _made(
    watch: _Watch, app: Celery, schedules: Schedules, beats: Beats, entries: int, bulk: int
) -> Iterator[Work]:
    """Most are made before a beat runs, so that those have to load and to sweep them."""
    backup: dict[str, Any] = {}
    names = [f"entry-{number:06}" for number in range(entries)]
    all_of_them = {name: _item(name) for name in names}

    def create(some: list[str]) -> None:
        schedules.create_many({name: all_of_them[name] for name in some}, allow_unknown_task=True)

    def back_up() -> None:
        with open_kept(app) as kept:
            backup.update(keeping.read_backup(kept))

    def restore() -> None:
        with open_kept(app) as kept:
            keeping.restore(kept, backup)

    def begin() -> None:
        for number in range(1, _NODES + 1):
            beats.beat(f"node-{number}")
        beats.wait_for_nodes(_NODES, timeout=120)
        wait_until(lambda: _is_swept(beats), _SWEEP, why=beats.logs)

    def apply(changed: int) -> None:
        wanted = {name: _item(name, args=[name, 1]) for name in names[:changed]}
        plan = schedules.plan({**all_of_them, **wanted}, labels=_LABELS, prune=True, allow_unknown_task=True)
        plan.run()

    yield watch.did(f"create {entries - bulk:,} in one call", 0, lambda: create(names[:-bulk]))
    yield watch.did("back up", entries - bulk, back_up)
    watch.client.flushall()
    yield watch.did("restore all", 0, restore)
    yield watch.did(f"start {_NODES} nodes, and sweep", entries - bulk, begin)
    yield watch.did(f"create {bulk:,} in one call", entries - bulk, lambda: create(names[-bulk:]))
    yield watch.did("apply all, nothing changed", entries, lambda: apply(0))
    yield watch.did(f"apply all, {bulk:,} changed", entries, lambda: apply(bulk))


def _read(watch: _Watch, app: Celery, entries: int) -> Iterator[Work]:
    with Schedules(app) as schedules:
        yield watch.did("first page of 100", entries, schedules.list)
        yield watch.did(
            "a page of 100 from the middle", entries, lambda: schedules.list(after=f"entry-{entries // 2:06}")
        )
        yield watch.did("all that are paused", entries, lambda: schedules.list(state="paused"))
    with open_sources(app) as sources:
        yield watch.did("status", entries, lambda: read_status(sources))


def _item(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "task": TASK,
        "schedule": _TOMORROW,
        "args": [name],
        "dispatch": {"labels": _LABELS},
        **changes,
    }


def _is_swept(beats: Beats) -> bool:
    since, swept = beats.redis.hmget(beats.key("pool"), "since", "swept")  # type: ignore[misc]
    return bool(since) and since == swept


# --- what it took -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Watch:
    """Has the server write down how long each command took."""

    lab: Lab
    client: redis.Redis
    pid: int

    def did(self, what: str, entries: int, act: Callable[[], object]) -> Work:
        """Do it, with so many entries there, and say what it took."""
        self.lab.say(what)
        asked: Any = self.client
        asked.config_set("slowlog-log-slower-than", _SHORT)
        asked.config_set("slowlog-max-len", 100_000)
        asked.slowlog_reset()
        ran, began = cpu_seconds(self.pid), time.monotonic()
        act()
        took, busy = time.monotonic() - began, cpu_seconds(self.pid) - ran
        logged = (each for each in asked.slowlog_get(100_000) if _words(each["command"]) != "SLOWLOG")
        slow = sorted(logged, key=lambda each: each["duration"])
        return Work(
            what,
            entries,
            took,
            p99=percentile([each["duration"] for each in slow], 99) / 1e6 if slow else _SHORT / 1e6,
            longest=slow[-1]["duration"] / 1e6 if slow else _SHORT / 1e6,
            command=_words(slow[-1]["command"]) if slow else "",
            busy=busy,
        )


def _words(command: Any) -> str:
    text = command.decode(errors="replace") if isinstance(command, bytes) else str(command)
    return text.partition(" ")[0]


# --- how soon it is followed --------------------------------------------------------------------------------


def _followed(app: Celery, schedules: Schedules, beats: Beats, changes: int, *, told: bool) -> Followed:
    """Entries that are due all the time, one of each node, are changed; their messages show when it knows."""
    probes = _one_of_each(app)
    begin = {name: _item(f"{name}:begin", schedule=_EVERY, args=[f"{name}:begin"]) for name in probes}
    schedules.create_many(begin, allow_unknown_task=True)
    for name in probes:
        _seen(beats, f"{name}:begin")
    lags = []
    for number in range(changes):
        for name in probes:
            beats.redis.unlink(QUEUE)
            if not told:
                beats.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            word = f"{name}:{number}"
            schedules.update(name, args=[word], allow_unknown_task=True)
            acknowledged = beats.now()
            lags.append(max(0.0, _seen(beats, word) - acknowledged))
    for name in probes:
        schedules.delete(name)
    return Followed(told, len(lags), percentile(sorted(lags), 50), max(lags))


def _one_of_each(app: Celery) -> list[str]:
    """A name for each node, which owns it."""
    with open_sources(app) as sources:
        pool = read_pool(sources.pool, sources.ring)
    owned: dict[str | None, str] = {}
    for number in range(1_000):
        owned.setdefault(pool.ranks.owner(f"probe-{number}"), f"probe-{number}")
    assert len(owned) == _NODES and None not in owned, owned
    return list(owned.values())


def _seen(beats: Beats, word: str) -> float:
    """When the first message that has this word is on the queue, by Redis's clock."""
    mark = f"'{word}'".encode()
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        if any(mark in message for message in messages(beats.redis, QUEUE)):
            return beats.now()
        time.sleep(_LOOK)
    raise AssertionError(f"no beat follows within {_LONGEST:.0f} s\n{beats.logs()}")
