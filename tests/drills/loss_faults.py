"""What happens when Redis comes back older than it was, or empty.

Cursors are lost, and with them messages that nobody had taken off the queue.  Which ones is known or bounded:
these occurrences are excused, and no other is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from tests.drills.collector import ARCHIVE, connect, decode
from tests.drills.config_faults import next_release, roll
from tests.drills.outer_faults import redis_killed
from tests.drills.process import wait_until
from tests.drills.stage import Stage
from tests.servers import Server

__all__ = [
    "excuse_now",
    "recovered",
    "recovery",
    "redis_flushed",
    "redis_killed_everysec",
    "redis_old",
    "redis_promoted",
    "redis_with_old_config",
]

_QUIET = 400  # ms after a due: nothing is on its way
_LAG = 3.0  # seconds; with more a Sentinel would not promote the replica


def recovery(stage: Stage) -> None:
    """The bound of a fault after which the pool has to recover."""
    stage.bound = 1000 * (stage.lease + 2)


def excuse_now(stage: Stage, began: int) -> None:
    """Excuse what became due just before ``began``: only that can have been on its way."""
    stage.excuse(began - 500, began)


def redis_old(stage: Stage) -> None:
    """Killed while firing, and started again with what it had a lease ago."""
    _old(stage, meanwhile=lambda: stage.run_on(stage.lease))


def redis_with_old_config(stage: Stage) -> None:
    """The same, and since then another config has come into force, whose beats are all that is left."""
    stage.switches += 1
    _old(stage, meanwhile=lambda: roll(stage, next_release(stage.cluster.release), "new"))


def _old(stage: Stage, *, meanwhile: Callable[[], None]) -> None:
    recovery(stage)
    stage.at_a_due(_QUIET)
    stage.cluster.redis.save()
    stage.note("SAVE")
    meanwhile()
    stage.at_a_due()
    began = stage.now()
    stage.ground.server.kill()
    stage.note("Redis is killed (SIGKILL)")
    excuse_now(stage, began)
    stage.ground.server.start()
    stage.wait_for_server()
    stage.note(f"Redis is back, as it was at SAVE: {_forgotten(stage)} messages ago")
    recovered(stage)


def _forgotten(stage: Stage) -> int:
    """How many messages arrived of which Redis knows nothing any more; a drill without any shows nothing."""
    known: Any = stage.cluster.redis.llen(ARCHIVE)
    forgotten = len(stage.collector) - int(known)
    if forgotten <= 0:
        stage.complaints.append("Redis has forgotten nothing")
    return forgotten


def redis_flushed(stage: Stage) -> None:
    """Emptied three times, each a little further into the moment of firing."""
    recovery(stage)
    for offset in (2, 0, 6):
        stage.at_a_due(offset)
        pipe = stage.cluster.redis.pipeline(transaction=True)
        pipe.lrange("celery", 0, -1)
        pipe.flushall()
        taken: Any = pipe.execute()[0]
        lost = [decode(raw, at=0, queue="celery") for raw in taken]
        stage.note(f"FLUSHALL {offset} ms after a due; {len(lost)} messages were lost")
        stage.excused.update((message.entry, message.due or 0) for message in lost)
        if stage.in_two_steps:
            excuse_now(stage, stage.now())  # what was claimed and not yet sent is lost with its intent
        recovered(stage)


def redis_promoted(stage: Stage) -> None:
    """The master is killed while firing, and a replica that lags behind it is promoted."""
    recovery(stage)
    assert stage.ground.trio is not None
    master, replica = stage.ground.trio.master, stage.ground.trio.replica
    stage.at_a_due(_QUIET)
    _cut_off(stage, replica)
    stage.note("the replica does not hear of the master any more")
    stage.run_on(_LAG)
    stage.at_a_due()
    began = stage.now()
    master.kill()
    stage.note("the master is killed (SIGKILL)")
    excuse_now(stage, began)
    stage.ground.trio.wait_for_promotion(of=replica)
    stage.cluster.moved_to(replica.url)
    outage = stage.now() - began
    stage.note(f"the replica was promoted after {outage} ms; it is {_forgotten(stage)} messages behind")
    stage.bound += outage
    recovered(stage)


def _cut_off(stage: Stage, replica: Server) -> None:
    """Let the replica's login fail from now on, and end its link."""
    with contextlib.closing(connect(replica.url)) as client:
        client.config_set("masteruser", "nobody")
        client.config_set("masterauth", "wrong")
        stage.cluster.redis.client_kill_filter(_type="slave")
        wait_until(lambda: client.info("replication")["master_link_status"] == "down", 5)


def redis_killed_everysec(stage: Stage) -> None:
    """What Redis acknowledged while an fsync was running may be gone."""
    redis_killed(stage, on_kill=lambda began: excuse_now(stage, began))


def recovered(stage: Stage) -> None:
    began = time.monotonic()
    stage.cluster.wait_for_renewals(stage.nodes)
    recovery = stage.cluster.key("pool")
    wait_until(
        lambda: not stage.cluster.redis.hget(recovery, "recovery"),
        2 * stage.lease,
        why=lambda: f"the end of the recovery: {stage.cluster.redis.hgetall(recovery)}",
    )
    stage.note(f"the pool has recovered {time.monotonic() - began:.2f} s later")
    if (since := stage.cluster.since()) != (last := stage.seen.found[-1].since):
        stage.complaints.append(f"the config in force was of {last}, is of {since}")
    stage.run_on(0.6 * stage.lease)
