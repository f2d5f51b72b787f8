"""What a drill looks at besides messages: who lives, what is open, who owns what, and what workers ran."""

from __future__ import annotations

import contextlib
import json
import math
import time
from typing import TYPE_CHECKING, Any

from tests.drills.checker import Arrival
from tests.drills.collector import MARK, runs
from tests.drills.convergence import unconverged
from tests.drills.process import wait_until
from tests.drills.releases import Release
from tests.drills.run_checker import RunVerdict, judge_runs

if TYPE_CHECKING:
    from tests.drills.stage import Stage

__all__ = ["still_wrong", "without_a_mark"]

_PATIENCE = 4.0  # seconds; what a node says of itself is a heartbeat old, and a command takes its time
_CLEANUP = "celery.backend_cleanup"  # that Celery adds to every schedule
_RUNS = 10.0  # seconds in which workers run something, if there is anything


def still_wrong(stage: Stage) -> list[str]:
    """What is wrong with the pool now that the fault is over, a sentence each."""
    ran = _mistakes_of_workers(stage) if stage.worked else []
    return [*_corpses(stage), *_disagreements(stage), *ran, *_open_intents(stage)]


def without_a_mark(stage: Stage) -> list[str]:
    """A drill with user code that did not run shows nothing."""
    arrivals = stage.collector.arrivals
    bare = [arrival for arrival in arrivals if MARK not in arrival.headers]
    if not stage.user_code or (arrivals and not bare):
        return []
    return [f"user code did not run for {len(bare)} messages, e.g. {bare[:1]}"]


def _corpses(stage: Stage) -> list[str]:
    """A beat that no fault ended must be alive."""
    return [
        f"{beat.process.name} ended by itself:\n{beat.process.log[-2000:]}"
        for beat in stage.cluster.beats.values()
        if not beat.process.alive and not beat.process.ended_by_us
    ]


def _open_intents(stage: Stage) -> list[str]:
    """What was claimed must be delivered, and known to be."""
    intents = stage.cluster.key("intents")
    try:
        wait_until(lambda: not stage.cluster.redis.hlen(intents), 2, every=0.001)
    except AssertionError:
        return [f"open intents are left: {stage.cluster.redis.hkeys(intents)}"]
    return []


def _disagreements(stage: Stage) -> list[str]:
    """What the pool is not of one mind about, within a few heartbeats of now."""
    limit = time.monotonic() + _PATIENCE + 3 * stage.seconds("heartbeat_interval")
    while (found := _disagreements_now(stage)) and time.monotonic() < limit:
        time.sleep(0.1)
    return found


def _disagreements_now(stage: Stage) -> list[str]:
    release = stage.cluster.released[stage.seen.found[-1].beat]
    nodes, entries = (
        _document(stage, release, *command) for command in (("nodes",), ("entries", "--limit", "0"))
    )
    # Listed are also cursors of entries that have left the config: nobody is to own those.
    listed = [row for row in entries["entries"] if row["name"] in {*release.entries, _CLEANUP}]
    alive = [
        name
        for name, beat in stage.cluster.beats.items()
        if beat.process.alive and stage.cluster.released[name] == release
    ]
    return unconverged(alive, nodes, {"total": len(listed), "entries": listed}, _since_calm(stage))


def _document(stage: Stage, release: Release, *command: str) -> Any:
    done = stage.cluster.run("dispatch", *command, "--json", release=release)
    if done.status:
        raise AssertionError(f"{command} ended with status {done.status}: {done.out}{done.err}")
    return json.loads(done.out)


def _since_calm(stage: Stage) -> list[Arrival]:
    since = stage.ended - 1000 * stage.calm if stage.calm else math.inf
    return [it for it in stage.collector.arrivals if it.due is not None and it.due > since]


def _mistakes_of_workers(stage: Stage) -> list[str]:
    """What is wrong with the runs of all messages that were due until the drill's end."""
    before = None
    while (left := len(_runs(stage).unrun)) != before:  # a busy machine's workers may be far behind
        before = left
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not _runs(stage).unrun, _RUNS, every=0.2)
    return _runs(stage).problems


def _runs(stage: Stage) -> RunVerdict:
    made = list(runs(stage.cluster.redis))
    ran = {run.task_id for run in made}
    sent = [it for it in stage.collector.arrivals if it.task_id in ran or (it.due or 0) <= stage.ended]
    return judge_runs(sent, made)
