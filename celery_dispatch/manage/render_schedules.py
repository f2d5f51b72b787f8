"""Schedules for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from celery_dispatch.celery_bridge.moments import rfc3339
from celery_dispatch.manage.editing import Preview
from celery_dispatch.manage.pieces import Column, fitted_table, noted, pair_grid
from celery_dispatch.manage.schedule_words import schedule_words
from celery_dispatch.manage.words import clock_time, duration, pause_words, shorten
from celery_dispatch.redis_store.codec import printable
from celery_dispatch.schedules import Page, Paused, Schedule, State

__all__ = [
    "Listing",
    "listing_document",
    "listing_view",
    "preview_document",
    "preview_view",
    "schedule_document",
    "schedule_view",
]

_LONGEST_NAME = 100
_STYLES = {State.SCHEDULED: "green", State.BROKEN: "bold red", State.COMPLETED: "dim"}


@dataclass(frozen=True, slots=True)
class Listing:
    """Some schedules by name, and the pause of all of them, if they are paused."""

    page: Page
    paused_all: Paused | None


# --- JSON ---------------------------------------------------------------------------------------------------


def listing_document(listing: Listing) -> dict[str, Any]:
    """``{"schedules", "next", "paused_all"}``; ``next`` is for ``--after``, ``null`` at the end."""
    page = listing.page
    return {
        "schedules": [schedule_document(each) for each in page.items],
        "next": page.next,
        "paused_all": _pause_document(listing.paused_all),
    }


def schedule_document(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "origin": schedule.origin,
        "version": schedule.version,
        "state": schedule.state.value,
        "definition": schedule.definition,
        "paused": _pause_document(schedule.paused),
        "next_due": _time(schedule.next_due),
        "last_due": _time(schedule.last_due),
        "fired": schedule.fired,
        "skipped": schedule.skipped,
        "error": schedule.error or None,
    }


def _pause_document(paused: Paused | None) -> dict[str, Any] | None:
    if paused is None:
        return None
    return {"at": rfc3339(paused.at), "note": paused.note, "author": paused.author}


def preview_document(preview: Preview) -> dict[str, Any]:
    """``{"name", "occurrences": [{"due", "fires_at"}]}``."""
    return {
        "name": preview.name,
        "occurrences": [
            {"due": rfc3339(due), "fires_at": rfc3339(fires_at)} for due, fires_at in preview.occurrences
        ],
    }


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None


# --- people -------------------------------------------------------------------------------------------------


def listing_view(listing: Listing, width: int) -> RenderableType:
    """One line a schedule; what is wrong or paused below."""
    page, parts = listing.page, list[RenderableType]()
    if listing.paused_all is not None:
        parts += [Text(f"Everything is paused, {_paused(listing.paused_all)}.", style="yellow"), Text()]
    if not page.items:
        return Group(*parts, Text("No schedule matches."))
    items = page.items
    parts += [
        fitted_table(
            [
                Column("name", [shorten(printable(each.name), _LONGEST_NAME) for each in items], least=20),
                Column("task", [_task(each) for each in items], least=20, drop=3),
                Column("schedule", [_schedule(each) for each in items], least=14, drop=2),
                Column("next due", [_clock(each.next_due) for each in items]),
                Column("last due", [_clock(each.last_due) for each in items], drop=1),
                Column("fired", [f"{each.fired:,}" for each in items], right=True, drop=4),
                Column("from", [each.origin for each in items], drop=5),
                Column(
                    "state",
                    [each.state.value for each in items],
                    styles=[_STYLES.get(each.state, "yellow") for each in items],
                ),
            ],
            width,
        )
    ]
    parts += [noted(printable(each.name), printable(each.error), "bold red") for each in items if each.error]
    parts += [
        noted(printable(each.name), f"paused {_paused(each.paused)}", "yellow")
        for each in items
        if each.paused is not None
    ]
    if page.next is not None:
        parts += [Text(f"There are more: --after {printable(page.next)!r}.", style="dim")]
    return Group(*parts)


def schedule_view(schedule: Schedule, width: int) -> RenderableType:
    """Everything of one schedule."""
    state = Text(schedule.state.value, style=_STYLES.get(schedule.state, "yellow"))
    parts: list[RenderableType] = [Text.assemble((printable(schedule.name), "bold"), "  ", state)]
    if schedule.error:
        parts += [noted("error", printable(schedule.error), "bold red")]
    return Group(*parts, Text(), pair_grid(_pairs(schedule)))


def _pairs(schedule: Schedule) -> Iterable[tuple[str, Text]]:
    definition = schedule.definition or {}
    yield "task", Text(_task(schedule))
    yield "schedule", Text(_schedule(schedule))
    for field in ("args", "kwargs", "options", "dispatch"):
        if definition.get(field):
            yield field, Text(json.dumps(definition[field], ensure_ascii=True))
    if schedule.paused is not None:
        yield "paused", Text(_paused(schedule.paused), style="yellow")
    yield "next due", Text(_clock(schedule.next_due))
    yield "last due", Text(_clock(schedule.last_due))
    yield "fired", Text(f"{schedule.fired:,}, skipped {schedule.skipped:,}")
    yield "from", Text(f"{schedule.origin}, version {schedule.version}")


def preview_view(preview: Preview, width: int) -> RenderableType:
    """A line an occurrence; the jitter where there is any."""
    if not preview.occurrences:
        return Text("It is never due again.")
    grid = Table.grid(padding=(0, 2))
    for due, fires_at in preview.occurrences:
        there = f"{due.astimezone(preview.zone):%a %H:%M:%S} in {preview.zone.key}" if preview.zone else ""
        later = f"fired {duration(fires_at - due)} later" if fires_at > due else ""
        grid.add_row(Text(clock_time(due)), Text(there), Text(later, style="dim"))
    return grid


def _paused(paused: Paused) -> str:
    return pause_words(paused.at, author=paused.author, note=paused.note)


def _task(schedule: Schedule) -> str:
    return printable(str((schedule.definition or {}).get("task", "-")))


def _schedule(schedule: Schedule) -> str:
    document = (schedule.definition or {}).get("schedule")
    return printable(schedule_words(document)) if document is not None else "-"


def _clock(moment: datetime | None) -> str:
    return clock_time(moment) if moment is not None else "-"
