"""What is wrong with a pool, each with what cures it; worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from celery_dispatch.manage.reports import (
    EntryReport,
    EntryState,
    NodeState,
    PoolReport,
    Problem,
    Severity,
)

__all__ = ["problems_of"]

_NAMED = 3  # entries or nodes that one problem names


def problems_of(pool: PoolReport, wrong: Sequence[EntryReport], *, config: str) -> tuple[Problem, ...]:
    """What is wrong, errors before warnings; ``config`` is the fingerprint of the app that asks."""
    found = [*_of_life(pool), *_of_nodes(pool), *_of_configs(pool, config), *_of_entries(pool, wrong)]
    return tuple(sorted(found, key=lambda problem: problem.severity is not Severity.ERROR))


def _of_life(pool: PoolReport) -> Iterator[Problem]:
    """Whether somebody fires at all, and what one more fault would cost."""
    if pool.fence is None and not pool.nodes:
        yield Problem("There is no pool yet.", "Start a beat: celery -A <app> beat -S dispatch.")
    elif not pool.alive:
        yield Problem(
            "No node is alive: nothing is fired.", "Start a beat: celery -A <app> beat -S dispatch."
        )
    elif not pool.steady:
        yield Problem(
            "No node is steady: nothing is fired.",
            "Wait until one has loaded its entries; if none does, look into the beats' logs.",
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


def _of_nodes(pool: PoolReport) -> Iterator[Problem]:
    expired = [node for node in pool.nodes if node.state is NodeState.EXPIRED]
    if expired and pool.alive:
        yield Problem(
            f"{_count(len(expired), 'node')} let the lease run out: {_names(node.id for node in expired)}.",
            "Nothing, if they are gone for good (the next heartbeat trims them); else look into their logs.",
            Severity.WARNING,
        )
    for node in pool.alive:
        if node.outage is not None:
            yield Problem(
                f"Node {node.id} reports an outage: {_sentence(node.outage)}",
                "Look into its log.",
                Severity.WARNING,
            )


def _of_configs(pool: PoolReport, config: str) -> Iterator[Problem]:
    if pool.fence is None:
        return
    others = [node for node in pool.nodes if node.state is NodeState.STANDBY]
    if others:
        yield Problem(
            f"{_count(len(others), 'node')} stand{'s' if len(others) == 1 else ''} by with another config "
            f"than the one in force: {_names(node.id for node in others)}.",
            "Finish the deploy; if there is none, let all beats run the same code and settings. "
            "If these are two apps, give each its own dispatch_key_prefix.",
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
        "Find out what else writes to the cursor key (is the prefix shared?) and remove the field: "
        "HDEL {<prefix>}:cursor <name>; a node that knows the cursor puts it "
        "back, else the entry begins anew.",
    ),
    EntryState.AHEAD: (
        "silent, because their cursors are in the future",
        "Was Redis's clock set back? Wait until it has caught up, or stop all beats, remove the field "
        "(HDEL {<prefix>}:cursor <name>) and start them: the entry begins anew.",
    ),
}


def _of_entries(pool: PoolReport, wrong: Sequence[EntryReport]) -> Iterator[Problem]:
    for state, (what, cure) in _OF_ENTRIES.items():
        names = [entry.name for entry in wrong if entry.state is state]
        if names:
            verb = "is" if len(names) == 1 else "are"
            yield Problem(f"{_entries(len(names))} {verb} {what}: {_names(iter(names))}.", cure)
    named = sum(entry.state in (EntryState.ERROR, EntryState.DAMAGED) for entry in wrong)
    reported = max((node.error_count for node in pool.alive), default=0)
    if reported > named:
        yield Problem(f"A node reports errors of {reported - named:,} more entries.", "Look into the logs.")


def _names(names: Iterator[str]) -> str:
    listed = list(names)
    rest = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number:,} entries"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
