"""What people and scripts get to see."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console, RenderableType

from celery_dispatch.core.entry import Cursor, Entry, Fence
from celery_dispatch.core.ports import Damaged
from celery_dispatch.core.ring import Ring
from celery_dispatch.manage.documents import (
    dues_document,
    entries_document,
    entry_document,
    nodes_document,
    status_document,
)
from celery_dispatch.manage.render import nodes_view, status_view
from celery_dispatch.manage.render_entries import dues_view, entries_view, entry_view
from celery_dispatch.manage.reports import (
    Dues,
    EntryDetail,
    EntryList,
    EntryReport,
    EntryState,
    EntryTotals,
    IntentReport,
    Lag,
    NodeReport,
    NodeState,
    PoolReport,
    Problem,
    Severity,
    Sketch,
    StatusReport,
)
from celery_dispatch.manage.words import clock_time, duration, milliseconds, relative, shorten

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc)
WIDTHS = (60, 80, 100, 120, 200)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def node(name: str, **changes: Any) -> NodeReport:
    made = NodeReport(
        id=name, host=name.rpartition("-")[0], state=NodeState.STEADY, config="3f9a51c07be2",
        identity="proj on redis db 0", in_force=True,
        joined=later(-900), lease_end=later(8.5), share=1 / 3, pid=1, version="0.1.0", entries=1234,
        standby=1100, fired=98765, lag=Lag(1.26, 44.0),
    )  # fmt: skip
    return replace(made, **changes)


LONG = "beat-7d9f8c6b5d-x2x4z-1a2b3c4d"
POOL = PoolReport(
    now=NOW,
    fence=Fence("3f9a51c07be2", later(-500)),
    nodes=(
        node(LONG),
        node(
            "beat-b-99aa88bb", errors={"mail": "no route"}, error_count=1, outage="the broker does not answer"
        ),
        node("beat-c-11223344", state=NodeState.STANDBY, config="other", lag=Lag(), share=0.0),
        node("beat-d-55667788", state=NodeState.CUT_OFF, share=0.0),
        node("beat-e-99001122", state=NodeState.FOREIGN, identity="shop on redis db 0", share=0.0),
    ),
    ranks=Ring().ranks({}),
    switch=Fence("other", later(2)),
    identity="proj on redis db 0",
    recovery="r1",
)
STATUS = StatusReport(
    pool=POOL,
    entries=EntryTotals(2500, {EntryState.SCHEDULED: 2498, EntryState.OVERDUE: 2}, 1_234_567, 3),
    intents=IntentReport(3, later(-20)),
    lag=Lag(1.26, 44.0),
    config="3f9a51c07be2",
    problems=(
        Problem("2 entries are overdue: a, b.", "Look."),
        Problem("One host.", "Two.", Severity.WARNING),
    ),
)
REPORT = EntryReport(
    name="reports.nightly-" + "x" * 60, state=EntryState.OVERDUE,
    sketch=Sketch("proj.tasks.nightly", "cron 0 3 * * *"),
    next_due=later(-40), last_due=later(-86_440), fired=12, skipped=1, owner=LONG, standby="beat-b-99aa88bb",
)  # fmt: skip
ENTRIES = EntryList(
    NOW,
    (REPORT, EntryReport("broken", EntryState.ERROR, error="[bold]no[/bold] such task")),
    matched=7,
    total=9,
)
DETAIL = EntryDetail(
    report=REPORT,
    entry=Entry("nightly", None, "d1d2d3"),  # type: ignore[arg-type]
    stored=Cursor(later(-86_440), "d1d2d3", later(-500_000), 3, 12, 1, LONG),
    dues=Dues("nightly", NOW, (later(-40), later(86_360)), error="and then no more"),
)
VIEWS: list[tuple[str, Callable[[int], RenderableType]]] = [
    ("status", lambda width: status_view(STATUS, width)),
    ("nodes", lambda width: nodes_view(POOL, width)),
    ("entries", lambda width: entries_view(ENTRIES, width)),
    ("show", lambda width: entry_view(DETAIL, width)),
    ("next", lambda width: dues_view(DETAIL.dues, width)),
]


def printed(view: RenderableType, width: int, *, color: bool = False) -> str:
    stream = io.StringIO()
    terminal: dict[str, Any] = {"color_system": "standard" if color else None, "force_terminal": color}
    Console(file=stream, width=width, markup=False, highlight=False, **terminal).print(view)
    return stream.getvalue()


# --- for people ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("view", [view for _, view in VIEWS], ids=[name for name, _ in VIEWS])
def test_no_line_is_wider_than_the_terminal(view: Callable[[int], RenderableType], width: int) -> None:
    lines = printed(view(width), width).splitlines()
    assert lines
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_list_of_entries_always_shows_name_dues_owner_and_state(width: int) -> None:
    text = printed(entries_view(ENTRIES, width), width)
    assert all(word in text for word in ("reports", "40 s ago", "1 d ago", "1a2b3c4d", "overdue"))


def test_wide_list_of_entries_shows_everything_whole() -> None:
    text = printed(entries_view(ENTRIES, 1000), 1000)
    assert all(word in text for word in (REPORT.name, "proj.tasks.nightly", "cron 0 3 * * *", LONG))
    assert "…" not in text


def test_cut_list_says_so() -> None:
    assert "2 of 7" in printed(entries_view(ENTRIES, 100), 100)


def test_words_of_others_are_not_read_as_markup() -> None:
    assert "[bold]no[/bold] such task" in printed(entries_view(ENTRIES, 100), 100)


def test_pipe_gets_no_padding() -> None:
    assert max(map(len, printed(entries_view(ENTRIES, 1000), 1000).splitlines())) < 300


def test_reason_of_a_broken_entry_is_said_once() -> None:
    broken = replace(
        DETAIL, report=replace(REPORT, error="no such task"), dues=Dues("x", NOW, (), error="no such task")
    )
    assert printed(entry_view(broken, 80), 80).count("no such task") == 1


def test_status_names_config_others_lag_and_cures() -> None:
    text = printed(status_view(STATUS, 80), 80)
    for word in ("3f9a51c07be2", "1 runs another", "1,234,567", "44 ms", "33.3%", "overdue: a, b.", "Look."):
        assert word in text


def test_status_tells_a_switch_ahead_a_recovery_and_open_intents() -> None:
    text = printed(status_view(STATUS, 200), 200)
    assert "switches to other in 2 s, at 2026-01-02 03:04:07.678 UTC" in text
    assert "recovering" in text
    assert "3 open, the oldest for 20 s" in text
    led = replace(STATUS, pool=replace(POOL, switch=None, challenger="other"))
    assert "most nodes run other" in printed(status_view(led, 200), 200)


def test_nodes_name_the_identity_of_the_pool() -> None:
    text = printed(nodes_view(POOL, 200), 200)
    assert "proj on redis db 0" in text
    assert "beat-e-99001122: is of shop on redis db 0" in text


def test_large_pool_leaves_status_on_one_screen() -> None:
    many = replace(STATUS, pool=replace(POOL, nodes=tuple(node(f"n-{i}") for i in range(200))))
    text = printed(status_view(many, 80), 80)
    assert "188 more" in text
    assert len(text.splitlines()) < 30


def test_colour_adds_no_words() -> None:
    coloured, plain = (printed(status_view(STATUS, 80), 80, color=color) for color in (True, False))
    assert "\x1b[" in coloured
    assert "\x1b" not in plain


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "now"),
        (4, "in 4 s"),
        (-0.3, "0.3 s ago"),
        (59.7, "in 1 min"),
        (-200, "3 min 20 s ago"),
        (7200, "in 2 h"),
        (8000, "in 2 h 13 min"),
        (80_000, "in 22 h"),
        (200_000, "in 2 d 7 h"),
    ],
)
def test_time_is_told_relative_to_now(seconds: float, words: str) -> None:
    assert relative(later(seconds), NOW) == words


def test_words_for_times_numbers_and_names() -> None:
    assert clock_time(NOW) == "2026-01-02 03:04:05.678 UTC"
    assert clock_time(NOW.replace(microsecond=0)) == "2026-01-02 03:04:05 UTC"
    assert duration(timedelta(milliseconds=1500)) == "1.5 s"
    assert [milliseconds(value) for value in (None, 1.26, 44.0, 2100)] == ["-", "1.3 ms", "44 ms", "2.1 s"]
    assert shorten(LONG, 16) == "beat-7…-1a2b3c4d"
    assert shorten("short", 16) == "short"


# --- for scripts --------------------------------------------------------------------------------------------


def test_documents_have_the_documented_keys_and_times_in_utc() -> None:
    status = status_document(STATUS)
    assert set(status) == {
        "now", "fine", "config_in_force", "switch", "challenger", "identity", "recovering", "this_config",
        "nodes", "entries", "intents", "lag_ms", "problems",
    }  # fmt: skip
    assert status["now"] == "2026-01-02T03:04:05.678Z"
    assert status["fine"] is False
    assert status["entries"]["by_state"]["overdue"] == 2
    assert status["nodes"] == nodes_document(POOL)["nodes"]
    assert set(status["nodes"][0]) == {
        "id", "name", "host", "state", "config", "identity", "in_force", "joined", "lease_end",
        "last_heartbeat", "share", "entries", "standby", "fired", "skipped", "lag_ms", "pid", "version",
        "started", "loading", "outage", "errors", "error_count",
    }  # fmt: skip


def test_document_of_an_entry_holds_that_of_the_list() -> None:
    listed = entries_document(ENTRIES)["entries"][0]
    shown = entry_document(DETAIL)
    assert set(listed) == {
        "name", "state", "task", "schedule", "next_due", "last_due", "fired", "skipped", "owner", "standby",
        "error",
    }  # fmt: skip
    assert listed.items() <= shown.items()
    assert set(shown) - set(listed) == {
        "now", "definition", "recurrence", "args", "kwargs", "options", "catch_up", "catch_up_window",
        "asked", "cursor", "damaged", "next", "paused", "shadows",
    }  # fmt: skip
    assert shown["next"] == dues_document(DETAIL.dues)


def test_damaged_row_is_shown_as_it_is() -> None:
    detail = replace(DETAIL, stored=Damaged("<raw>", "not JSON"))
    assert entry_document(detail)["damaged"] == "<raw>"
    assert "<raw>" in printed(entry_view(detail, 80), 80)


def test_every_document_is_json() -> None:
    for document in (
        status_document(STATUS), entries_document(ENTRIES), entry_document(DETAIL), dues_document(DETAIL.dues)
    ):  # fmt: skip
        assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_offset_of_another_zone_becomes_utc() -> None:
    zone = timezone(timedelta(hours=2))
    dues = dues_document(Dues("x", NOW.astimezone(zone), (NOW.astimezone(zone),)))
    assert dues["dues"] == ["2026-01-02T03:04:05.678Z"]


def test_a_name_of_hundreds_of_characters_leaves_room_for_the_other_columns() -> None:
    long = replace(REPORT, name="x" * 300)
    text = printed(entries_view(EntryList(NOW, (long,), matched=1, total=1), 1000), 1000)
    assert LONG in text
    assert max(map(len, text.splitlines())) < 300
