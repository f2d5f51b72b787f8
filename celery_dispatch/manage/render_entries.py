"""Entries as tables for people; every function fits what it returns into ``width`` columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from celery_dispatch.core.ports import Damaged
from celery_dispatch.manage.pieces import Column, fitted_table, noted, pair_grid, state_words
from celery_dispatch.manage.reports import Dues, EntryDetail, EntryList, EntryState
from celery_dispatch.manage.words import clock_time, duration, pause_words, relative, shorten
from celery_dispatch.redis_store.codec import printable

__all__ = ["dues_view", "entries_view", "entry_view"]

_LONGEST_NAME = 100  # characters in a table; --json has the whole
_LONGEST_ROW = 1000

_ENTRY_STYLES = {
    EntryState.SCHEDULED: "green",
    EntryState.DUE: "green",
    EntryState.POLLED: "green",
    EntryState.COMPLETED: "dim",
    EntryState.TOMBSTONE: "dim",
    EntryState.OVERDUE: "bold red",
    EntryState.ERROR: "bold red",
    EntryState.DAMAGED: "bold red",
    EntryState.AHEAD: "bold red",
}


def entries_view(report: EntryList, width: int) -> RenderableType:
    """One line an entry, as many columns as there is room for; errors below."""
    if not report.entries:
        found = "No entry matches." if report.total else "There are no entries."
        return Text(f"{found} ({report.total:,} in all.)" if report.total else found)
    parts: list[RenderableType] = [_entry_table(report, width)]
    parts += [noted(entry.name, entry.error, "bold red") for entry in report.entries if entry.error]
    if report.matched > len(report.entries):
        parts += [Text(f"{len(report.entries):,} of {report.matched:,}; --limit 0 shows all.", style="dim")]
    return Group(*parts)


def _entry_table(report: EntryList, width: int) -> Table:
    """By how much each is missed: owner and state stay, the task goes first."""
    entries, now = report.entries, report.now
    columns = [
        Column("name", [shorten(entry.name, _LONGEST_NAME) for entry in entries], least=20),
        Column("task", [entry.sketch.task or "-" for entry in entries], least=20, drop=5),
        Column("schedule", [entry.sketch.schedule or "-" for entry in entries], least=14, drop=3),
        Column("next due", [_when(entry.next_due, now) for entry in entries], right=True),
        Column("last due", [_when(entry.last_due, now) for entry in entries], right=True),
        Column("fired", [f"{entry.fired:,}" for entry in entries], right=True, drop=1),
        Column("skipped", [f"{entry.skipped:,}" for entry in entries], right=True, drop=2),
        Column("owner", [entry.owner or "-" for entry in entries], least=14),
        Column("standby", [entry.standby or "-" for entry in entries], least=14, drop=4),
        Column(
            "state",
            [state_words(entry.state) for entry in entries],
            styles=[_ENTRY_STYLES.get(entry.state, "yellow") for entry in entries],
        ),
    ]
    return fitted_table(columns, width)


def _when(moment: datetime | None, now: datetime) -> str:
    return relative(moment, now) if moment is not None else "-"


def entry_view(detail: EntryDetail, width: int) -> RenderableType:
    """Everything of one entry."""
    report = detail.report
    state = Text(state_words(report.state), style=_ENTRY_STYLES.get(report.state, "yellow"))
    parts: list[RenderableType] = [Text.assemble((report.name, "bold"), "  ", state)]
    if report.error:
        parts += [noted("error", report.error, "bold red")]
    if report.shadows:
        parts += [
            noted("shadows", "one of that name that was created at run time; it is not fired", "yellow")
        ]
    if isinstance(detail.stored, Damaged):
        parts += [noted("row in Redis", printable(detail.stored.raw[:_LONGEST_ROW]), "yellow")]
    parts += [Text(), pair_grid([*_definition(detail), *_place(detail)])]
    if detail.dues.dues or detail.dues.error != report.error:
        parts += [Text(), dues_view(detail.dues, width)]
    return Group(*parts)


def _definition(detail: EntryDetail) -> Iterable[tuple[str, Text]]:
    sketch, entry = detail.report.sketch, detail.entry
    for title in ("task", "schedule", "args", "kwargs", "options"):
        value = getattr(sketch, title)
        if value is not None:
            yield title, Text(value)
    if entry is not None:
        window = f", not older than {duration(entry.catch_up_window)}" if entry.catch_up_window else ""
        yield "catch-up", Text(entry.catch_up.value + window)
        for name in sorted(entry.asked.keys() - {"catch_up", "catch_up_window"}):
            yield name.replace("_", " "), Text(_asked(entry.asked[name]))
        yield "definition", Text(entry.definition)


def _asked(value: object) -> str:
    """What an entry asks of this package: text as it is, all else as JSON."""
    return printable(value if isinstance(value, str) else json.dumps(value, default=str))


def _place(detail: EntryDetail) -> Iterable[tuple[str, Text]]:
    report, cursor = detail.report, detail.cursor
    if detail.pause is not None:
        pause = detail.pause
        yield (
            "paused",
            Text(pause_words(pause.since, author=pause.author, note=pause.note), style="yellow"),
        )
    yield "owner", Text(report.owner or "nobody")
    yield "standby", Text(report.standby or "nobody")
    yield "fired", Text(f"{report.fired:,}, skipped {report.skipped:,}")
    if cursor is None:
        return
    if report.last_due is not None:
        yield "last due", Text(f"{clock_time(report.last_due)}, {relative(report.last_due, detail.dues.now)}")
    yield "in effect", Text(f"since {clock_time(cursor.effective_from)}")
    yield "written by", Text(f"{printable(cursor.node) or '-'}, revision {cursor.revision}")
    if detail.entry is not None and cursor.definition != detail.entry.definition:
        yield "stored as", Text(printable(cursor.definition) or "tombstone", style="yellow")


def dues_view(dues: Dues, width: int) -> RenderableType:
    """The next dues, absolute and relative."""
    parts: list[RenderableType] = []
    if dues.assumed and dues.dues:
        parts += [Text("It has no cursor yet; if it began now:", style="yellow")]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="dim")
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    for number, (due, moment) in enumerate(zip(dues.dues, dues.fires_at or dues.dues)):
        jittered = f"fired at {clock_time(moment)}" if dues.fires_at else ""
        grid.add_row("next" if number == 0 else "", clock_time(due), relative(due, dues.now), jittered)
    if dues.dues:
        parts += [grid]
    if dues.error:
        parts += [Text(dues.error, style="yellow")]
    return Group(*parts)
