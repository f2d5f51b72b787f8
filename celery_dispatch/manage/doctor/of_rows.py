"""What lies under the pool's keys and is of no node's making."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from celery_dispatch.manage.doctor.findings import Area, Finding
from celery_dispatch.manage.doctor.snapshot import DamagedRow, Snapshot
from celery_dispatch.manage.reports import Severity
from celery_dispatch.manage.words import counted

__all__ = ["check_rows"]


def check_rows(snapshot: Snapshot) -> Iterator[Finding]:
    """One finding for all of them: somebody else writes there."""
    if snapshot.damaged_rows:
        yield Finding(
            Area.REDIS,
            Severity.WARNING,
            f"{counted(len(snapshot.damaged_rows), 'row')} of the pool's keys no node would have written.",
            tuple(f"{row.key} {row.field}: {row.reason}" for row in snapshot.damaged_rows),
            "Find out what else writes there: is the prefix shared, has another user rights to these keys? "
            + " ".join(_cures(snapshot.damaged_rows)),
        )


def _cures(rows: Sequence[DamagedRow]) -> Iterator[str]:
    of_entries = [row for row in rows if row.key.endswith(":entries")]
    if any(row.field for row in of_entries):
        yield "Of entries: celery -A <app> dispatch remove <name>, and create it again."
    if not all(row.field for row in of_entries):
        yield "Of all entries: celery -A <app> dispatch pause --all, and then resume --all."
    if len(rows) > len(of_entries):
        yield "Nodes drop rows of members and intents that are none; remove what stays, with HDEL or ZREM."
