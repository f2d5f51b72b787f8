"""The open intents: occurrences that were claimed and are not known to be on the broker."""

from __future__ import annotations

from collections.abc import Iterator

from celery_dispatch.core.ports import Intent
from celery_dispatch.manage.doctor.findings import Area, Finding, from_problem
from celery_dispatch.manage.doctor.snapshot import Snapshot
from celery_dispatch.manage.problems import problems_of_intents
from celery_dispatch.manage.reports import Severity
from celery_dispatch.manage.words import clock_time, counted
from celery_dispatch.redis_store.codec import printable

__all__ = ["check_intents"]


def check_intents(snapshot: Snapshot) -> Iterator[Finding]:
    """Open intents, as a note where they are young."""
    pool, report = snapshot.pool, snapshot.open_intents
    if pool is None or not report.open:
        return
    evidence = [_line(intent) for intent in snapshot.intents]
    old = list(problems_of_intents(pool, report, snapshot.patience))
    if old:
        yield from_problem(old[0], Area.INTENTS, evidence)
        return
    yield Finding(
        Area.INTENTS,
        Severity.NOTE,
        f"{counted(report.open, 'occurrence')} on the way to the broker.",
        tuple(evidence),
    )


def _line(intent: Intent) -> str:
    rendered = "" if intent.commands is not None else ", message not built yet"
    who = f"{printable(intent.name)}, due {clock_time(intent.due)}, at node {printable(intent.node)}"
    return f"{who}{rendered}"
