"""What the entries of a benchmark are due at."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from celery import Celery

from benchmarks.schedules import Group, entries_of, stream

_FIRST = datetime(2026, 12, 31, 23, 59, tzinfo=timezone.utc)


def test_crontabs_differ_and_are_all_due_at_the_stated_minutes() -> None:
    group = Group("crontab", 3_000, 120.0, first=_FIRST.isoformat())
    crontabs = group.schedules()
    fields = {
        (frozenset(it.minute), frozenset(it.hour), frozenset(it.day_of_month), frozenset(it.month_of_year))
        for it in crontabs
    }
    assert len(fields) == 3_000
    app = Celery("test", set_as_current=False)
    app.conf.timezone = "UTC"
    for it in crontabs[::97]:
        it.app = app
        for due in (_FIRST, _FIRST + timedelta(minutes=1)):
            it.nowfun = lambda due=due: due - timedelta(seconds=1)
            assert it.remaining_estimate(due - timedelta(seconds=2)) == timedelta(seconds=1)


def test_a_stream_has_intervals_around_its_base() -> None:
    assert stream(4, 1.0) == [700, 900, 1100, 1300]


def test_a_group_of_one_is_a_stream_too() -> None:
    assert stream(1, 1.0) == [700]


def test_entries_are_called_after_group_and_number_and_say_so_in_their_message() -> None:
    entries = entries_of([Group("interval", 2, 5.0), Group("interval", 1, 7.0, last_run=_FIRST.isoformat())])
    assert list(entries) == ["0-interval-000000", "0-interval-000001", "1-interval-000000"]
    assert entries["1-interval-000000"]["args"] == ("1-interval-000000",)
    assert entries["1-interval-000000"]["last_run_at"] == _FIRST
    assert "last_run_at" not in entries["0-interval-000000"]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind 'solar'"):
        entries_of([Group("solar", 1, 1.0)])
