"""The report of shadow mode, for people and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.manage.pieces import Column, fitted_table
from celery_dispatch.manage.shadowed import ShadowReport
from celery_dispatch.manage.words import clock_time, counted, milliseconds, shorten

__all__ = ["shadow_document", "shadow_view"]

_LONGEST_NAME = 100


def shadow_document(report: ShadowReport) -> dict[str, Any]:
    """``{"since", "until", "total", "unreadable", "entries"}``; ``dues`` where one entry was asked for."""
    return {
        "since": rfc3339(report.since),
        "until": rfc3339(report.until),
        "total": report.total,
        "unreadable": report.unreadable,
        "entries": [
            {
                "name": entry.name,
                "count": entry.count,
                "first_due": rfc3339(entry.first_due),
                "last_due": rfc3339(entry.last_due),
                "worst_lag_ms": round(entry.worst_lag, 1),
                **({"dues": [rfc3339(due) for due in entry.dues]} if entry.dues else {}),
            }
            for entry in report.entries
        ],
    }


def shadow_view(report: ShadowReport, width: int) -> RenderableType:
    """One line an entry; every due where one entry was asked for."""
    span = f"due from {clock_time(report.since)} to {clock_time(report.until)}"
    if not report.entries:
        return Text(f"Nothing would have been fired, {span}. Do beats run with dispatch_shadow = True?")
    entries = report.entries
    parts: list[RenderableType] = [
        Text(f"{counted(report.total, 'occurrence')} would have been fired, {span}"),
        Text(),
    ]
    if len(entries) == 1 and entries[0].dues:
        parts += [Text(clock_time(due)) for due in entries[0].dues]
    else:
        parts.append(
            fitted_table(
                [
                    Column("name", [shorten(each.name, _LONGEST_NAME) for each in entries], least=20),
                    Column("count", [f"{each.count:,}" for each in entries], right=True),
                    Column("first due", [clock_time(each.first_due) for each in entries], drop=2),
                    Column("last due", [clock_time(each.last_due) for each in entries], drop=1),
                    Column("worst lag", [milliseconds(each.worst_lag) for each in entries], right=True),
                ],
                width,
            )
        )
    if report.unreadable:
        parts += [Text(f"{counted(report.unreadable, 'row')} could not be read.", style="yellow")]
    return Group(*parts)
