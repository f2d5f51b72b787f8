"""The entries: those that are not fired as they should be."""

from __future__ import annotations

from collections.abc import Iterator

from celery_dispatch.manage.doctor.findings import Area, Finding, from_problem
from celery_dispatch.manage.doctor.snapshot import MOST, Snapshot
from celery_dispatch.manage.problems import (
    problems_of_entries,
    problems_of_pause,
    problems_of_unnamed_entries,
)
from celery_dispatch.manage.reports import EntryReport, EntryState, Severity
from celery_dispatch.manage.words import counted, relative

__all__ = ["check_entries"]


def check_entries(snapshot: Snapshot) -> Iterator[Finding]:
    """Entries in error, overdue, damaged or ahead, and what was skipped."""
    pool = snapshot.pool
    if pool is None:
        if snapshot.broken:
            yield _broken(snapshot)
        return
    for problem in problems_of_pause(pool, snapshot.unclear):
        yield from_problem(problem, Area.ENTRIES)
    for state in (EntryState.ERROR, EntryState.OVERDUE, EntryState.DAMAGED, EntryState.AHEAD):
        wrong = [entry for entry in snapshot.wrong if entry.state is state]
        if wrong:
            problem = next(problems_of_entries(wrong))
            more = len(wrong) - MOST
            lines = [_line(snapshot, entry) for entry in wrong[:MOST]]
            yield from_problem(problem, Area.ENTRIES, [*lines, *([f"and {more:,} more"] if more > 0 else [])])
    for problem in problems_of_unnamed_entries(pool, snapshot.wrong):
        yield from_problem(problem, Area.ENTRIES)
    if snapshot.skipped_total:
        yield Finding(
            Area.ENTRIES,
            Severity.NOTE,
            f"{counted(snapshot.skipped_total, 'occurrence')} "
            f"{'was' if snapshot.skipped_total == 1 else 'were'} skipped so far, by the entries' catch-up "
            "policies or because a message could not be sent any more.",
            tuple(f"{name}: {count:,}" for name, count in snapshot.skipped),
            'Nothing, if the policies are meant; dispatch: {"catch_up": "all"} fires every one.',
        )


def _broken(snapshot: Snapshot) -> Finding:
    names = sorted(snapshot.broken)
    return Finding(
        Area.ENTRIES,
        Severity.ERROR,
        f"{counted(len(names), 'entry')} of this app cannot be fired.",
        tuple(f"{name}: {snapshot.broken[name]}" for name in names[:MOST]),
        "Correct them in beat_schedule.",
    )


def _line(snapshot: Snapshot, entry: EntryReport) -> str:
    if entry.error:
        return f"{entry.name}: {entry.error}"
    assert snapshot.pool is not None
    due = f"was due {relative(entry.next_due, snapshot.pool.now)}" if entry.next_due else entry.state.value
    return f"{entry.name}: {due}, owner {entry.owner or 'nobody'}"
