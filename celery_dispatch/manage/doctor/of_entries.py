"""The entries: those that are not fired as they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    """Entries in error, overdue, damaged or ahead, those that are shadowed, and what was skipped."""
    pool = snapshot.pool
    if pool is None:
        if snapshot.broken:
            yield _broken(snapshot)
        return
    for problem in problems_of_pause(pool, snapshot.of_all):
        yield from_problem(problem, Area.ENTRIES)
    for state in (EntryState.ERROR, EntryState.OVERDUE, EntryState.DAMAGED, EntryState.AHEAD):
        wrong = [entry for entry in snapshot.wrong if entry.state is state]
        if wrong:
            problem = next(problems_of_entries(wrong))
            lines = [_line(snapshot, entry) for entry in wrong[:MOST]]
            yield from_problem(problem, Area.ENTRIES, _and_more(lines, len(wrong)))
    if snapshot.shadowed:
        in_force = pool.fence is not None and pool.fence.config == snapshot.config
        yield _shadowed(snapshot.shadowed, in_force=in_force)
    for problem in problems_of_unnamed_entries(pool, snapshot.wrong):
        yield from_problem(problem, Area.ENTRIES)
    if snapshot.skipped_total:
        yield Finding(
            Area.ENTRIES,
            Severity.NOTE,
            f"{counted(snapshot.skipped_total, 'occurrence')} "
            f"{'was' if snapshot.skipped_total == 1 else 'were'} skipped so far: while paused, by the "
            "entries' catch-up policies, or because a message could not be sent any more.",
            tuple(f"{name}: {count:,}" for name, count in snapshot.skipped),
            'Nothing, if that is meant. dispatch: {"catch_up": "all"} fires all that is late. What was '
            "skipped is fired by: celery -A <app> dispatch backfill <name>.",
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


def _shadowed(names: Sequence[str], *, in_force: bool) -> Finding:
    """What was created at run time is not what is fired, which its creator may not know."""
    one = len(names) == 1
    now, whose = ("is" if one else "are", "the config") if in_force else ("will be", "this command's config")
    return Finding(
        Area.ENTRIES,
        Severity.WARNING,
        f"{counted(len(names), 'entry')} created at run time {now} shadowed: {whose} has "
        f"{'one of that name, which is' if one else 'entries of these names, which are'} fired instead.",
        _and_more(names[:MOST], len(names)),
        "Remove what is not wanted any more: celery -A <app> dispatch remove <name>; the config's stays. Add "
        "what is wanted under another name first. What is left as it is comes back into force with a config "
        "that has not its name.",
    )


def _and_more(lines: Sequence[str], count: int) -> tuple[str, ...]:
    more = count - len(lines)
    return (*lines, *([f"and {more:,} more"] if more > 0 else []))


def _line(snapshot: Snapshot, entry: EntryReport) -> str:
    if entry.error:
        return f"{entry.name}: {entry.error}"
    assert snapshot.pool is not None
    due = f"was due {relative(entry.next_due, snapshot.pool.now)}" if entry.next_due else entry.state.value
    return f"{entry.name}: {due}, owner {entry.owner or 'nobody'}"
