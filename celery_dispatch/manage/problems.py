"""What is wrong with a pool, each with what cures it; worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from celery_dispatch.manage.reports import (
    EntryReport,
    EntryState,
    IntentReport,
    NodeReport,
    NodeState,
    PoolReport,
    Problem,
    Severity,
)
from celery_dispatch.manage.words import counted, duration, listed, sentence

__all__ = [
    "SEE_DOCTOR",
    "problems_of",
    "problems_of_configs",
    "problems_of_entries",
    "problems_of_intents",
    "problems_of_life",
    "problems_of_nodes",
    "problems_of_unnamed_entries",
]


#: Part of a cure; the doctor leaves it out.
SEE_DOCTOR = " What differs says: celery -A <app> dispatch doctor."


def problems_of(
    pool: PoolReport,
    wrong: Sequence[EntryReport],
    *,
    config: str,
    intents: IntentReport,
    patience: timedelta,
) -> tuple[Problem, ...]:
    """What is wrong, errors before warnings; ``config`` is the fingerprint of the app that asks.

    ``patience`` is lease and handover together.
    """
    found = [
        *problems_of_life(pool),
        *problems_of_nodes(pool),
        *problems_of_configs(pool, config),
        *problems_of_entries(wrong),
        *problems_of_unnamed_entries(pool, wrong),
        *problems_of_intents(pool, intents, patience),
    ]
    return tuple(sorted(found, key=lambda problem: problem.severity is not Severity.ERROR))


def problems_of_life(pool: PoolReport) -> Iterator[Problem]:
    """Whether somebody fires at all, and what one more fault would cost."""
    if pool.recovery:
        yield Problem(
            "The pool is recovering: Redis lost data, is another server, or is new to the pool. Nothing is "
            "fired until every live node has put back what it knows.",
            "Wait: it ends after a lease at most, at a first start after two heartbeats.",
            Severity.WARNING,
        )
    if pool.fence is None and not pool.nodes:
        yield Problem("There is no pool yet.", "Start a beat: celery -A <app> beat -S dispatch.")
    elif not pool.alive:
        yield Problem(
            "No node is alive: nothing is fired.", "Start a beat: celery -A <app> beat -S dispatch."
        )
    elif not pool.steady:
        yield Problem(
            "No node is steady: nothing is fired.",
            "Wait until one has loaded its entries. If none does: are all draining, cut off from the broker, "
            "or of another app? See: celery -A <app> dispatch nodes.",
        )
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


def problems_of_nodes(pool: PoolReport) -> Iterator[Problem]:
    """Nodes that do not fire although they are there, or were."""
    expired = _in(pool, NodeState.EXPIRED)
    if expired and pool.alive:
        yield Problem(
            f"{counted(len(expired), 'node')} let the lease run out: {_ids(expired)}.",
            "Nothing, if they are gone for good (the next heartbeat trims them); else look into their logs.",
            Severity.WARNING,
        )
    cut_off = _in(pool, NodeState.CUT_OFF)
    if cut_off:
        yield Problem(
            f"{counted(len(cut_off), 'node')} cannot reach the broker: {_ids(cut_off)}.",
            "See from their hosts whether the broker answers; they are back as soon as it does.",
            Severity.WARNING if pool.steady else Severity.ERROR,
        )
    draining = _in(pool, NodeState.DRAINING)
    if draining:
        yield Problem(
            f"{counted(len(draining), 'node')} drain{'s' if len(draining) == 1 else ''}: {_ids(draining)}.",
            "Stop it when it owns nothing any more, or put it back: celery -A <app> dispatch undrain <node>.",
            Severity.WARNING,
        )
    for node in pool.alive:
        if node.outage is not None:
            yield Problem(
                f"Node {node.id} reports an outage: {sentence(node.outage)}",
                "Look into its log.",
                Severity.WARNING,
            )


def problems_of_configs(pool: PoolReport, config: str) -> Iterator[Problem]:
    """Nodes of other configs and other apps, and whether ``config`` is the one in force."""
    foreign = _in(pool, NodeState.FOREIGN)
    if foreign:
        yield Problem(
            f"{counted(len(foreign), 'node')} of another app or broker {_stand(foreign)} by: "
            f"{_ids(foreign)}.",
            "Give the other app its own dispatch_key_prefix. If the pool moved to another broker: it is "
            "taken over once no node of the old one is left, or now with: celery -A <app> dispatch adopt.",
            Severity.WARNING,
        )
    if pool.fence is None:
        return
    others = _in(pool, NodeState.STANDBY)
    if others:
        yield Problem(
            f"{counted(len(others), 'node')} {_stand(others)} by with another config "
            f"than the one in force: {_ids(others)}.",
            "Finish the deploy; if there is none, let all beats run the same code and settings."
            f"{SEE_DOCTOR} If these are two apps, give each its own dispatch_key_prefix.",
            Severity.WARNING,
        )
    if config != pool.fence.config:
        yield Problem(
            f"This command runs config {config}, but {pool.fence.config} is in force: what it says of "
            "entries that differ may be wrong.",
            "Run it from the code and settings that the beats run.",
            Severity.WARNING,
        )


_OF_ENTRIES = {
    EntryState.ERROR: ("in error", "See their errors with: celery -A <app> dispatch entries --state error."),
    EntryState.OVERDUE: (
        "overdue",
        "Look into the logs of their owners; list them with: celery -A <app> dispatch entries --state "
        "overdue.",
    ),
    EntryState.DAMAGED: (
        "damaged in Redis",
        "Find out what else writes to the cursor key (is the prefix shared?), then let each go on from now: "
        "celery -A <app> dispatch cursor reset <name>.",
    ),
    EntryState.AHEAD: (
        "silent, because their cursors are in the future",
        "Was Redis's clock set back? Wait until it has caught up, or let each go on from now: "
        "celery -A <app> dispatch cursor reset <name>.",
    ),
}


def problems_of_entries(wrong: Sequence[EntryReport]) -> Iterator[Problem]:
    """Entries that are not fired although they should be."""
    for state, (what, cure) in _OF_ENTRIES.items():
        names = [entry.name for entry in wrong if entry.state is state]
        if names:
            verb = "is" if len(names) == 1 else "are"
            yield Problem(f"{counted(len(names), 'entry')} {verb} {what}: {listed(names)}.", cure)


def problems_of_unnamed_entries(pool: PoolReport, wrong: Sequence[EntryReport]) -> Iterator[Problem]:
    """Errors that nodes count but do not name: each names twenty at most."""
    named = sum(entry.state in (EntryState.ERROR, EntryState.DAMAGED) for entry in wrong)
    reported = max((node.error_count for node in pool.alive), default=0)
    if reported > named:
        yield Problem(f"A node reports errors of {reported - named:,} more entries.", "Look into the logs.")


def problems_of_intents(pool: PoolReport, intents: IntentReport, patience: timedelta) -> Iterator[Problem]:
    """Occurrences that were claimed, and whose messages are long in coming."""
    if intents.oldest is None or pool.now - intents.oldest <= patience:
        return
    yield Problem(
        f"{counted(intents.open, 'occurrence')} {'was' if intents.open == 1 else 'were'} claimed and "
        f"{'is' if intents.open == 1 else 'are'} not known to be on the broker, the oldest for "
        f"{duration(pool.now - intents.oldest)}.",
        "Does the broker take messages? They are sent as soon as it does.",
        Severity.WARNING,
    )


def _in(pool: PoolReport, state: NodeState) -> list[NodeReport]:
    return [node for node in pool.nodes if node.state is state]


def _ids(nodes: Sequence[NodeReport]) -> str:
    return listed([node.id for node in nodes])


def _stand(nodes: Sequence[NodeReport]) -> str:
    return "stands" if len(nodes) == 1 else "stand"
