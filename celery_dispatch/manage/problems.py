"""What is wrong with a pool, each with what cures it; worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from celery_dispatch.core.rows import ALL
from celery_dispatch.manage.problems_of_nodes import (
    DATE_ANEW,
    ids,
    in_state,
    problems_of_life,
    problems_of_nodes,
)
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
from celery_dispatch.manage.run_time import Told
from celery_dispatch.manage.words import (
    clock_time,
    counted,
    duration,
    is_or_are,
    listed,
    pause_words,
    relative,
)

__all__ = [
    "SEE_DOCTOR",
    "problems_of",
    "problems_of_configs",
    "problems_of_entries",
    "problems_of_intents",
    "problems_of_pause",
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
    of_all: Told,
) -> tuple[Problem, ...]:
    """What is wrong, errors before warnings; ``config`` is the fingerprint of the app that asks.

    ``patience`` is lease and handover together, ``of_all`` what was said at run time of all entries.
    """
    found = [
        *problems_of_life(pool),
        *problems_of_nodes(pool),
        *problems_of_configs(pool, config, patience),
        *problems_of_pause(pool, of_all),
        *problems_of_entries(wrong),
        *problems_of_unnamed_entries(pool, wrong),
        *problems_of_intents(pool, intents, patience),
    ]
    return tuple(sorted(found, key=lambda problem: problem.severity is not Severity.ERROR))


def problems_of_configs(pool: PoolReport, config: str, patience: timedelta) -> Iterator[Problem]:
    """Nodes of other configs and other apps, and whether ``config`` is the one in force.

    ``patience`` is lease and handover together: no switch is written further ahead.
    """
    yield from _far_ahead(pool, patience)
    foreign = in_state(pool, NodeState.FOREIGN)
    if foreign:
        yield Problem(
            f"{counted(len(foreign), 'node')} of another app or broker {_stand(foreign)} by: {ids(foreign)}.",
            "Give the other app its own dispatch_key_prefix. If the pool moved to another broker: it is "
            "taken over once no node of the old one is left, or now with: celery -A <app> dispatch adopt.",
            Severity.WARNING,
        )
    if pool.fence is None:
        return
    others = in_state(pool, NodeState.STANDBY)
    if others:
        yield Problem(
            f"{counted(len(others), 'node')} {_stand(others)} by with another config "
            f"than the one in force: {ids(others)}.",
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


def _far_ahead(pool: PoolReport, patience: timedelta) -> Iterator[Problem]:
    """A config that comes into force later than any switch: every node believes it, and waits."""
    coming = pool.switch or pool.fence
    if coming is None or coming.since - pool.now <= patience:
        return
    until = (
        f"until then {pool.fence.config} stays in force"
        if pool.switch is not None and pool.fence is not None
        else "what is new or changed in it is not fired until then"
    )
    yield Problem(
        f"Config {coming.config} comes into force {relative(coming.since, pool.now)} only, at "
        f"{clock_time(coming.since)}: {until}.",
        "Was Redis's clock ahead, or does something else write to the pool's row? Correct that first. Then "
        f"wait, or {DATE_ANEW}",
    )


_OF_ENTRIES = {
    EntryState.ERROR: (
        "in error",
        "See what is wrong with each: celery -A <app> dispatch entries --state error.",
    ),
    EntryState.OVERDUE: (
        "overdue",
        "Look into the log of the owner, which is shown by: celery -A <app> dispatch entries --state "
        "overdue.",
    ),
    EntryState.DAMAGED: (
        "damaged in Redis",
        "Find out what else writes to the cursor key (is the prefix shared?), then let each go on from now: "
        "celery -A <app> dispatch cursor reset <name>.",
    ),
    EntryState.AHEAD: (
        "silent, with a cursor in the future",
        "Was Redis's clock set back? Wait until it has caught up, or let each go on from now: "
        "celery -A <app> dispatch cursor reset <name>.",
    ),
}


def problems_of_pause(pool: PoolReport, of_all: Told) -> Iterator[Problem]:
    """That all entries are paused; or that nobody can know it: nodes that start meanwhile fire nothing."""
    halt = of_all.halt
    if halt is not None:
        yield Problem(
            f"Everything is paused, {pause_words(halt.since, author=halt.author, note=halt.note)}.",
            "When all may go on: celery -A <app> dispatch resume --all.",
            Severity.WARNING,
        )
    silent = [node for node in pool.alive if ALL in node.errors]
    unclear = of_all.unclear
    if not unclear and not silent:
        return
    waiting = f"; {ids(silent)} {'fires' if len(silent) == 1 else 'fire'} nothing" if silent else ""
    yield Problem(
        f"Whether everything is paused cannot be read ({unclear or 'its row is missing'}), so that a node "
        f"which starts now fires nothing{waiting}.",
        "Write it anew: celery -A <app> dispatch pause --all, and when all may go on: "
        "celery -A <app> dispatch resume --all.",
    )


def problems_of_entries(wrong: Sequence[EntryReport]) -> Iterator[Problem]:
    """Entries that are not fired although they should be."""
    for state, (what, cure) in _OF_ENTRIES.items():
        names = [entry.name for entry in wrong if entry.state is state]
        if names:
            yield Problem(f"{counted(len(names), 'entry')} {is_or_are(names)} {what}: {listed(names)}.", cure)


def problems_of_unnamed_entries(pool: PoolReport, wrong: Sequence[EntryReport]) -> Iterator[Problem]:
    """Errors that nodes count but do not name: each names twenty at most."""
    named = sum(entry.state in (EntryState.ERROR, EntryState.DAMAGED) for entry in wrong)
    reported = max((node.error_count - (ALL in node.errors) for node in pool.alive), default=0)
    if reported > named:
        more = counted(reported - named, "more entry")
        yield Problem(f"A node reports errors of {more}.", "Look into its log.")


def problems_of_intents(pool: PoolReport, intents: IntentReport, patience: timedelta) -> Iterator[Problem]:
    """Occurrences that were claimed, and whose messages are long in coming."""
    if intents.oldest is None or pool.now - intents.oldest <= patience:
        return
    yield Problem(
        f"{counted(intents.open, 'occurrence')} {'was' if intents.open == 1 else 'were'} claimed and "
        f"{'is' if intents.open == 1 else 'are'} not known to be on the broker"
        f"{'' if intents.open == 1 else ', the oldest'} for {duration(pool.now - intents.oldest)}.",
        "Does the broker take messages? What is open is sent as soon as it does.",
        Severity.WARNING,
    )


def _stand(nodes: Sequence[NodeReport]) -> str:
    return "stands" if len(nodes) == 1 else "stand"
