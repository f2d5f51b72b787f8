"""Whether somebody fires, and which nodes do not although they are there, each with what cures it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from celery_dispatch.celery_bridge.identity import IN_SHADOW
from celery_dispatch.core.rows import ALL
from celery_dispatch.manage.reports import NodeReport, NodeState, PoolReport, Problem, Severity
from celery_dispatch.manage.words import counted, is_or_are, listed, relative, sentence

__all__ = ["ASK_REDIS", "DATE_ANEW", "ids", "in_state", "problems_of_life", "problems_of_nodes"]

#: Part of a cure; the doctor leaves it out.
ASK_REDIS = " Whether Redis is well says: celery -A <app> dispatch doctor."

#: Part of a cure: without that field, the config that most nodes run comes into force.
DATE_ANEW = (
    "let the next heartbeat put a config in force anew: redis-cli HDEL '{celery-dispatch}:pool' since (in "
    "the braces your dispatch_key_prefix, if you set one)."
)

_START = "Start a beat: celery -A <app> beat -S dispatch."


def problems_of_life(pool: PoolReport) -> Iterator[Problem]:
    """Whether somebody fires at all, and what one more fault would cost."""
    if pool.recovery:
        yield Problem(
            "The pool is recovering: Redis lost data, is another server, or is new to the pool. Nothing is "
            "fired until every live node has put back what it knows.",
            "Wait: it ends after a lease at most, at a first start after two heartbeats.",
            Severity.WARNING,
        )
    if pool.identity.endswith(IN_SHADOW):
        yield Problem(
            "The pool is in shadow mode (dispatch_shadow): nothing is sent.",
            "What would have been fired says: celery -A <app> dispatch shadow.",
            Severity.WARNING,
        )
    if pool.fence is None and not pool.nodes:
        yield Problem("There is no pool yet.", _START)
    elif not pool.alive:
        yield Problem("No node is alive: nothing is fired.", _cure_of_death(pool))
    elif not pool.steady:
        yield from _nobody_steady(pool)
    elif len(pool.steady) == 1:
        yield Problem(
            "Only one node fires: there is no standby.",
            "Start a second beat, on another host.",
            Severity.WARNING,
        )
    elif len({node.host for node in pool.steady}) == 1:
        yield Problem(
            f"All nodes are on host {pool.steady[0].host}: its loss silences the schedule.",
            "Run one of the beats on another host.",
            Severity.WARNING,
        )


def _cure_of_death(pool: PoolReport) -> str:
    gone = in_state(pool, NodeState.EXPIRED)
    if not gone:
        return _START
    return (
        f"Does a process of {ids(gone)} still run? Then its log says why Redis takes no heartbeat of it."
        f"{ASK_REDIS} Else start a beat: celery -A <app> beat -S dispatch."
    )


def _nobody_steady(pool: PoolReport) -> Iterator[Problem]:
    """What to do where live nodes fire nothing; those that are late or cut off have problems of their own."""
    states = Counter(node.state for node in pool.alive)
    if not states.keys() - {NodeState.LATE, NodeState.CUT_OFF}:
        return
    counts = ", ".join(f"{count:,} {state.value.replace('-', ' ')}" for state, count in states.items())
    if pool.recovery:
        cure = "Wait until the recovery is over."
    elif pool.fence is None:
        cure = f"Wait for two heartbeats. If it stays so, the pool's row is damaged: {DATE_ANEW}"
    elif any(ALL in node.errors for node in pool.alive):
        cure = "Write anew whether everything is paused, as is said below."
    elif NodeState.JOINING in states:
        cure = "Wait until one has loaded its entries."
    elif NodeState.DRAINING in states:
        node = in_state(pool, NodeState.DRAINING)[0]
        cure = f"Start another beat, or put one back: celery -A <app> dispatch undrain {node.id}."
    else:
        cure = "See what each waits for: celery -A <app> dispatch nodes."
    yield Problem(f"No node is steady: nothing is fired ({counts}).", cure)


def problems_of_nodes(pool: PoolReport) -> Iterator[Problem]:
    """Nodes that do not fire although they are there, or were."""
    yield from _expired(pool)
    yield from _late(pool)
    yield from _cut_off(pool)
    yield from _drained(pool)
    yield from _outages(pool)


def _expired(pool: PoolReport) -> Iterator[Problem]:
    expired = in_state(pool, NodeState.EXPIRED)
    if expired and pool.alive:
        trimmed = "when the recovery is over" if pool.recovery else "by one of the next heartbeats"
        yield Problem(
            f"{counted(len(expired), 'node')} let the lease run out: {ids(expired)}.",
            f"Nothing, where a process is gone for good (its node is trimmed {trimmed}); else look into its "
            "log.",
            Severity.WARNING,
        )


def _late(pool: PoolReport) -> Iterator[Problem]:
    late = in_state(pool, NodeState.LATE)
    if late:
        yield Problem(
            f"{counted(len(late), 'node')} {is_or_are(late)} late with the heartbeat: "
            f"{listed([_last_heard(node, pool.now) for node in late])}.{_nothing(pool)}",
            "Look into the log: Redis refuses it or is out of its reach, or its process is gone, paused or "
            f"hangs.{ASK_REDIS}",
            _severity(pool),
        )


def _cut_off(pool: PoolReport) -> Iterator[Problem]:
    cut_off = in_state(pool, NodeState.CUT_OFF)
    if cut_off:
        yield Problem(
            f"{counted(len(cut_off), 'node')} cannot reach the broker: {ids(cut_off)}.{_nothing(pool)}",
            "See from there whether the broker answers; firing goes on as soon as it does.",
            _severity(pool),
        )


def _drained(pool: PoolReport) -> Iterator[Problem]:
    """Where nobody else fires, ``problems_of_life`` says so."""
    drained = in_state(pool, NodeState.DRAINING)
    if drained and pool.steady:
        yield Problem(
            f"{counted(len(drained), 'node')} {'drains' if len(drained) == 1 else 'drain'}: {ids(drained)}.",
            "Stop what is drained whenever you like, or put it back: "
            f"celery -A <app> dispatch undrain {drained[0].id}.",
            Severity.WARNING,
        )


def _outages(pool: PoolReport) -> Iterator[Problem]:
    """What nodes said with their last heartbeats; it may be over since."""
    well = [node for node in pool.steady if node.outage is None]
    for node in pool.alive:
        if node.outage is None:
            continue
        said = f"{relative(node.last_heartbeat, pool.now)}, " if node.last_heartbeat is not None else ""
        yield Problem(
            f"Node {node.id} reported an outage ({said}with its last heartbeat): {sentence(node.outage)}",
            "It may be over: look again after the next heartbeat. If it is not, look into the node's log.",
            Severity.WARNING if well else Severity.ERROR,
        )


def _last_heard(node: NodeReport, now: datetime) -> str:
    return (
        f"{node.id} (the last one {relative(node.last_heartbeat, now)})" if node.last_heartbeat else node.id
    )


def _severity(pool: PoolReport) -> Severity:
    return Severity.WARNING if pool.steady else Severity.ERROR


def _nothing(pool: PoolReport) -> str:
    return "" if pool.steady else " Nothing is fired."


def in_state(pool: PoolReport, state: NodeState) -> list[NodeReport]:
    return [node for node in pool.nodes if node.state is state]


def ids(nodes: Sequence[NodeReport]) -> str:
    return listed([node.id for node in nodes])
