"""What happens to the config: it is deployed and rolled back, and beats turn up that run another one.

Each function acts on a running stage and returns when the consequences are over.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tests.drills.checker import judge
from tests.drills.cluster import Cluster
from tests.drills.collector import connect, decode, now_us
from tests.drills.node_faults import handover, leave
from tests.drills.oracle import Every
from tests.drills.process import wait_until
from tests.drills.releases import Release, Spec, every
from tests.drills.stage import Stage

__all__ = [
    "DEPLOYED",
    "NEW_QUEUE",
    "canary",
    "deploy",
    "deploy_asleep",
    "deploy_over_an_outage",
    "neighbour",
    "next_release",
    "recreate",
    "roll",
    "staging",
]

_ON_ITS_WAY = 500  # ms that a busy beat may be late
NEW_QUEUE = "fresh"  #: that only the new release knows
_ROUTED = "drill.routed"  # the task that the new release routes there

#: The entries that a deploy begins with; the last two are routed elsewhere without being changed themselves.
DEPLOYED = {**every(18), **{f"routed-{number}": Spec(Every(1), task=_ROUTED) for number in range(2)}}


def deploy(stage: Stage) -> None:
    """Replace every beat by one of another release, one after the other, and then back again."""
    stage.may_repeat = False
    handover(stage)
    old = stage.cluster.release
    stage.switches += 2
    roll(stage, next_release(old), "new")
    stage.run_on(0.4 * stage.lease)
    roll(stage, old, "back")


def deploy_asleep(stage: Stage) -> None:
    """One beat is stopped before a deploy, and goes on in the middle of firing when that is long over."""
    handover(stage)
    stage.switches += 1
    sleeper = stage.cluster.beats["node-3"].process
    stage.at_a_due()
    sleeper.pause()
    stage.note("SIGSTOP to node-3")
    fresh = [f"new-{number}" for number in range(1, 4)]
    for name in fresh:
        stage.cluster.beat(name, release=next_release(stage.cluster.release))
    stage.wait_for_switch(2)
    leave(stage, ["node-1", "node-2"])
    stage.cluster.wait_for_nodes(3)
    stage.run_on(0.4 * stage.lease)
    stage.at_a_due()
    sleeper.resume()
    stage.note("SIGCONT to node-3")
    stage.cluster.wait_for_renewals(4)
    stage.run_on(0.6 * stage.lease)
    stage.cluster.wait_for_state("node-3", "steady")
    _stand_by(stage, ["node-3"], of="config", ours=fresh)
    leave(stage, ["node-3"])


def deploy_over_an_outage(stage: Stage) -> None:
    """Redis stands still from just before a switch until more than a lease after it."""
    handover(stage)
    stage.switches += 1
    fresh = [f"new-{number}" for number in range(1, 5)]
    for name in fresh:
        stage.cluster.beat(name, release=next_release(stage.cluster.release))
    wait_until(lambda: len(stage.seen.found) == 2, 60, why=lambda: f"a switch\n{stage.cluster.logs()}")
    ahead = stage.seen.found[1].since - stage.now()
    if ahead < 0:
        stage.complaints.append(f"the switch was written {-ahead} ms too late")
    time.sleep(max(0.0, ahead / 1000 - 0.6))
    began = time.monotonic()
    stage.ground.server.pause()
    stage.note("Redis stands still (SIGSTOP), just before the switch")
    stage.run_on(1.5 * stage.lease)
    stage.ground.server.resume()
    stage.bound = (time.monotonic() - began) * 1000 + 5000  # the new config leaves the old one its time
    stage.note("Redis goes on")
    stage.wait_for_server()
    stage.cluster.wait_for_nodes(stage.nodes + len(fresh))
    stage.run_on(1.2 * stage.lease)
    leave(stage, [name for name in stage.cluster.beats if name.startswith("node")])


def next_release(release: Release) -> Release:
    """Entries that are new, gone, at another interval, on another queue, routed elsewhere, and unchanged."""
    entries = dict(release.entries)
    names = sorted(name for name, spec in entries.items() if spec.task != _ROUTED)
    for name in names[-3:]:
        del entries[name]
    for name in names[:3]:
        entries[name] = replace(entries[name], rule=Every(2))
    for name in names[3:6]:
        entries[name] = replace(entries[name], options={"queue": NEW_QUEUE})
    entries |= {f"added-{number}": Spec(Every(1)) for number in range(3)}
    entries["added-and-routed"] = Spec(Every(1), task=_ROUTED)
    settings = {**release.settings, "task_routes": {_ROUTED: {"queue": NEW_QUEUE}}}
    return replace(release, entries=entries, settings=settings)


def roll(stage: Stage, release: Release, prefix: str, *, leaving: Sequence[str] = ()) -> None:
    """A rolling update: a new beat, then time to live for a lease, then the end of one of ``leaving``.

    Without any all beats that live are replaced.
    """
    switches = len(stage.seen.found)
    leaving = leaving or [name for name, beat in stage.cluster.beats.items() if beat.process.alive]
    for number, name in enumerate(leaving, start=1):
        fresh = f"{prefix}-{number}"
        stage.cluster.beat(fresh, release=release)
        stage.cluster.wait_for_state(fresh, "steady")
        stage.note(f"{fresh} is there")
        stage.run_on(stage.lease + 1)
        stage.at_a_due()
        leave(stage, [name])
    stage.wait_for_switch(switches + 1)
    stage.cluster.wait_for_nodes(len(leaving))


def recreate(stage: Stage) -> None:
    """End every beat before the first one of another release is started; and back, once that one was swept.

    A release that is gone again within a lease counts as if it had never been: see ``core.sweep``.
    """
    old = stage.cluster.release
    new = next_release(old)
    stage.switches += 2
    began = stage.now()
    for release, prefix in ((new, "new"), (old, "back")):
        _replace_all(stage, release, prefix, theirs=_changed(old, new))
        stage.run_on(stage.lease + 2 * stage.seconds("heartbeat_interval") + 1)
    stage.bound = stage.now() - began + 2000


def _changed(old: Release, new: Release) -> set[str]:
    """The entries that are not the same in both, or go elsewhere."""
    names = old.entries.keys() | new.entries.keys()
    before, after = old.era(0), new.era(0)
    return {
        name
        for name in names
        if old.entries.get(name) != new.entries.get(name) or before.queue(name) != after.queue(name)
    }


def _replace_all(stage: Stage, release: Release, prefix: str, *, theirs: set[str]) -> None:
    """Nobody is there to fire the entries in ``theirs`` between the end of the old and the switch.

    Nor to finish what was due, or claimed and not yet sent, at the end: who has other definitions cannot.
    """
    switches = len(stage.seen.found)
    leaving = [name for name, beat in stage.cluster.beats.items() if beat.process.alive]
    stage.at_a_due(400)
    ended = stage.now()
    leave(stage, leaving)
    for number in range(1, len(leaving) + 1):
        stage.cluster.beat(f"{prefix}-{number}", release=release)
    since = stage.wait_for_switch(switches + 1)
    stage.excuse(ended - _ON_ITS_WAY, since - 1, names=theirs, missing=True)
    stage.cluster.wait_for_nodes(len(leaving))


def canary(stage: Stage) -> None:
    """A canary, a laptop, and a pod that dies whenever it has come up: each runs a config of its own."""
    release = stage.cluster.release
    strays = {"canary": next_release(release), "laptop": _with_entry(release, "laptop-only")}
    for name, other in strays.items():
        stage.cluster.beat(name, release=other)
        stage.cluster.wait_for_state(name, "steady")
        stage.note(f"{name} is there, with a config of its own")
    crashing = _with_entry(release, "crash-looping-only")
    end = time.monotonic() + 2.5 * stage.lease
    number = 0
    while time.monotonic() < end or number < 3:
        number += 1
        _crash(stage, "pod", crashing)
    stage.note(f"the pod has crashed {number} times")
    stage.run_on(0.5 * stage.lease)
    _stand_by(stage, strays, of="config")
    stage.complaints += [
        f"a stray beat fired: {arrival}"
        for arrival in stage.collector.arrivals
        if arrival.node.startswith(("canary", "laptop", "pod"))
    ][:3]


def _with_entry(release: Release, name: str) -> Release:
    return replace(release, entries={**release.entries, name: Spec(Every(1))})


def _crash(stage: Stage, name: str, release: Release) -> None:
    """Start a beat, and kill it two heartbeats after it came up."""
    process = stage.cluster.beat(name, release=release).process
    wait_until(
        lambda: process.pid in {row["info"].get("pid") for row in stage.cluster.members_called(name)},
        30,
        why=lambda: f"{name} in the pool\n{process.log}",
    )
    stage.run_on(2 * stage.seconds("heartbeat_interval"))
    process.kill()


def staging(stage: Stage) -> None:
    """Beats of another app, and of the same app with another broker, on the pool of this one."""
    release = stage.cluster.release
    elsewhere = _with_database(stage.ground.url, 1)
    entries = {**release.entries, "staging-only": Spec(Every(1))}
    settings = {**release.settings, "dispatch_redis_url": stage.ground.url}
    strays = {
        "staging": replace(release, entries=entries, app="staging"),
        "other-db": replace(release, entries=entries, settings={**settings, "broker_url": elsewhere}),
        "same-entries": replace(release, app="staging"),
    }
    for name, other in strays.items():
        stage.cluster.beat(name, release=other)
        stage.cluster.wait_for_state(name, "steady")
        stage.note(f"{name} is there")
    stage.run_on(2.5 * stage.lease)
    _stand_by(stage, strays, of="identity")
    stage.complaints += [
        f"a beat of another app fired: {arrival}"
        for arrival in stage.collector.arrivals
        if arrival.node.rpartition("-")[0] in strays
    ][:3]
    _nothing_on(stage, database=1)


def neighbour(stage: Stage) -> None:
    """Another app has a pool on the same Redis, with a prefix and a queue of its own; each loses a beat."""
    handover(stage)
    directory = stage.directory / "neighbour"
    directory.mkdir()
    own = {"dispatch_key_prefix": "neighbour", "task_default_queue": "neighbour"}
    settings = {**stage.cluster.settings, **own}
    with Cluster(stage.ground.url, directory, stage.entries, settings=settings) as theirs:
        theirs.start(stage.nodes)
        stage.note(f"{stage.nodes} beats of another app are steady")
        stage.at_a_due()
        for cluster in (stage.cluster, theirs):
            cluster.beats["node-2"].process.kill()
        stage.note("SIGKILL to a node-2 of each")
        for cluster in (stage.cluster, theirs):
            cluster.wait_for_nodes(stage.nodes - 1)
        until = stage.now()
        stage.note("both trimmed")
        stage.run_on(0.4 * stage.lease)
        history = [decode(raw, at=now_us(theirs.redis), queue="neighbour") for raw in _left(theirs)]
        verdict = judge(theirs.schedule, history, anchor=theirs.since(), until=until)
    stage.complaints += [f"the other app: {problem}" for problem in verdict.problems()]


def _left(theirs: Cluster) -> Iterable[bytes]:
    """What its beats have sent, in order; nobody takes it."""
    found: Any = theirs.redis.lrange("neighbour", 0, -1)
    return reversed(found)


def _nothing_on(stage: Stage, *, database: int) -> None:
    with contextlib.closing(connect(_with_database(stage.ground.url, database))) as client:
        if found := client.keys("*"):
            stage.complaints.append(f"database {database} is not empty: {found}")


def _with_database(url: str, database: int) -> str:
    return f"{url.removesuffix('/0')}/{database}"


def _stand_by(
    stage: Stage, names: Iterable[str], *, of: str, ours: Iterable[str] = ("node-1", "node-2")
) -> None:
    """A drill without the strays shows nothing: they must be members, and say that they stand by."""
    good = {row[of] for name in ours for row in stage.cluster.members_called(name)}
    for name in names:
        theirs = {row[of] for row in stage.cluster.members_called(name)}
        if not theirs or theirs & good:
            stage.complaints.append(f"{name} should have another {of} than {good}: {theirs}")
        process = stage.cluster.beats[name].process
        try:  # one that slept through a switch runs its config out first
            wait_until(lambda: "stands by" in process.log, stage.lease)  # noqa: B023
        except AssertionError:
            stage.complaints.append(f"{name} does not say that it stands by")
