"""The JSON documents of ``--json``: keys are stable, new ones may be added.

Times are RFC 3339 in UTC with milliseconds and ``Z``, durations are seconds, lags are milliseconds, and what
is not known is ``null``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.rows import Pause
from celery_dispatch.manage.controls import Adoption, Drained
from celery_dispatch.manage.health import Health
from celery_dispatch.manage.reports import (
    Dues,
    EntryDetail,
    EntryList,
    EntryReport,
    EntryState,
    Lag,
    NodeReport,
    PoolReport,
    StatusReport,
)
from celery_dispatch.manage.resets import Reset

__all__ = [
    "Document",
    "adoption_document",
    "drained_document",
    "dues_document",
    "entries_document",
    "entry_document",
    "error_document",
    "health_document",
    "nodes_document",
    "resets_document",
    "status_document",
]

Document = dict[str, Any]


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None


def error_document(error: str, cure: str) -> Document:
    """``{"error", "cure"}``: what every command answers instead if it cannot do what was asked."""
    return {"error": error, "cure": cure}


def status_document(report: StatusReport) -> Document:
    """The document of ``nodes``, with entries, open intents, lag and what is wrong."""
    entries, intents = report.entries, report.intents
    return {
        **nodes_document(report.pool),
        "fine": report.is_fine,
        "this_config": report.config,
        "entries": {
            "total": entries.total,
            "fired": entries.fired,
            "skipped": entries.skipped,
            "by_state": {state.value: entries.by_state.get(state, 0) for state in EntryState},
        },
        "intents": {"open": intents.open, "oldest": _time(intents.oldest)},
        "lag_ms": _lag(report.lag),
        "problems": [
            {"what": problem.what, "cure": problem.cure, "severity": problem.severity.value}
            for problem in report.problems
        ],
    }


def nodes_document(report: PoolReport) -> Document:
    """``{"now", "config_in_force", "switch", "challenger", "identity", "recovering", "nodes"}``."""
    return {
        "now": _time(report.now),
        "config_in_force": _fence(report.fence),
        "switch": _fence(report.switch),
        "challenger": report.challenger or None,
        "identity": report.identity or None,
        "recovering": bool(report.recovery),
        "nodes": [_node(node) for node in report.nodes],
    }


def entries_document(report: EntryList) -> Document:
    """``{"now", "total", "matched", "entries"}``; ``--limit`` cuts ``entries``, not the counts."""
    return {
        "now": _time(report.now),
        "total": report.total,
        "matched": report.matched,
        "entries": [_entry(entry) for entry in report.entries],
    }


def entry_document(detail: EntryDetail) -> Document:
    """An entry as in ``entries``, with definition, recurrence, arguments, cursor and the next dues."""
    sketch, entry = detail.report.sketch, detail.entry
    window = entry.catch_up_window if entry is not None else None
    return {
        **_entry(detail.report),
        "now": _time(detail.dues.now),
        "definition": entry.definition if entry is not None else None,
        "recurrence": sketch.recurrence,
        "args": sketch.args,
        "kwargs": sketch.kwargs,
        "options": sketch.options,
        "catch_up": entry.catch_up.value if entry is not None else None,
        "catch_up_window": window.total_seconds() if window is not None else None,
        "asked": dict(entry.asked) if entry is not None else None,
        "cursor": _cursor(detail.cursor),
        "paused": _pause(detail.pause),
        "shadows": detail.report.shadows,
        "damaged": detail.stored.raw if isinstance(detail.stored, Damaged) else None,
        "next": dues_document(detail.dues),
    }


def dues_document(dues: Dues) -> Document:
    """``{"name", "now", "assumed", "dues", "fires_at", "error"}``.

    ``assumed``: from now on, as it has no cursor.  ``fires_at`` is ``null`` for an entry without a jitter.
    """
    return {
        "name": dues.name,
        "now": _time(dues.now),
        "assumed": dues.assumed,
        "dues": [_time(due) for due in dues.dues],
        "fires_at": [_time(moment) for moment in dues.fires_at] or None,
        "error": dues.error,
    }


def health_document(probe: str, health: Health) -> Document:
    """``{"probe", "healthy", "why", "nodes"}``; ``nodes`` are the ids of this host's nodes."""
    return {"probe": probe, "healthy": health.healthy, "why": health.why, "nodes": list(health.nodes)}


def drained_document(drained: Drained) -> Document:
    """``{"node", "draining", "after"}``; ``after`` says what happens next."""
    return {"node": drained.node, "draining": drained.draining, "after": drained.after}


def adoption_document(adoption: Adoption) -> Document:
    """``{"before", "identity", "changed"}``."""
    return {"before": adoption.before, "identity": adoption.identity, "changed": adoption.is_change}


def resets_document(resets: Sequence[Reset]) -> Document:
    """``{"cursors": [{"name", "before", "after", "error"}]}``; instants are those of the cursors' ``due``."""
    return {
        "cursors": [
            {
                "name": reset.name,
                "before": _time(reset.before),
                "after": _time(reset.after),
                "error": reset.error or None,
            }
            for reset in resets
        ]
    }


def _fence(fence: Fence | None) -> Document | None:
    return {"fingerprint": fence.config, "since": _time(fence.since)} if fence is not None else None


def _node(node: NodeReport) -> Document:
    return {
        "id": node.id,
        "name": node.name,
        "host": node.host,
        "state": node.state.value,
        "config": node.config,
        "identity": node.identity,
        "in_force": node.in_force,
        "joined": _time(node.joined),
        "lease_end": _time(node.lease_end),
        "last_heartbeat": _time(node.last_heartbeat),
        "share": round(node.share, 4),
        "entries": node.entries,
        "standby": node.standby,
        "fired": node.fired,
        "skipped": node.skipped,
        "lag_ms": _lag(node.lag),
        "pid": node.pid,
        "version": node.version,
        "started": _time(node.started),
        "loading": node.loading,
        "outage": node.outage,
        "errors": dict(node.errors),
        "error_count": node.error_count,
    }


def _entry(entry: EntryReport) -> Document:
    return {
        "name": entry.name,
        "state": entry.state.value,
        "task": entry.sketch.task,
        "schedule": entry.sketch.schedule,
        "next_due": _time(entry.next_due),
        "last_due": _time(entry.last_due),
        "fired": entry.fired,
        "skipped": entry.skipped,
        "owner": entry.owner,
        "standby": entry.standby,
        "error": entry.error,
    }


def _pause(pause: Pause | None) -> Document | None:
    if pause is None:
        return None
    return {"at": _time(pause.since), "note": pause.note, "author": pause.author}


def _cursor(cursor: Cursor | None) -> Document | None:
    if cursor is None:
        return None
    return {
        "due": _time(cursor.due),
        "definition": cursor.definition,
        "effective_from": _time(cursor.effective_from),
        "revision": cursor.revision,
        "fired": cursor.fired,
        "skipped": cursor.skipped,
        "node": cursor.node,
    }


def _lag(lag: Lag) -> Document:
    return {"p50": lag.p50, "max": lag.max}
