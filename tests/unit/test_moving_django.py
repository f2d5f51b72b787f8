"""What a row of django-celery-beat says, in this package's documents."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from celery_dispatch.manage.moving.django_beat import found_in

UTC = timezone.utc
AT = datetime(2026, 11, 21, 3, 0, 5, 700, tzinfo=UTC)


def _row(**changes: Any) -> SimpleNamespace:
    plain: dict[str, Any] = {
        "name": "tick", "task": "proj.tick", "args": "[]", "kwargs": "{}", "headers": "{}",
        "interval": SimpleNamespace(every=2, period="minutes"), "crontab": None, "solar": None,
        "clocked": None, "queue": None, "exchange": None, "routing_key": None, "priority": None,
        "expires": None, "expire_seconds": None, "one_off": False, "start_time": None, "enabled": True,
        "last_run_at": AT, "total_run_count": 3, "date_changed": AT, "description": "",
    }  # fmt: skip
    return SimpleNamespace(**{**plain, **changes})


def _document(**changes: Any) -> dict[str, Any]:
    found = found_in(_row(**changes))
    assert found.definition is not None, found.refusal
    return dict(found.definition)


def test_an_interval_with_its_last_run() -> None:
    found = found_in(_row())
    assert found.definition == {
        "task": "proj.tick",
        "schedule": {"kind": "interval", "every": 120, "relative": False},
    }
    assert (found.last_run, found.since, found.runs, found.paused) == (AT, AT, 3, False)


@pytest.mark.parametrize(
    ("schedule", "document"),
    [
        (
            {"interval": SimpleNamespace(every=500_000, period="microseconds")},
            {"kind": "interval", "every": 0.5, "relative": False},
        ),
        (
            {
                "crontab": SimpleNamespace(
                    minute="0,30", hour="2", day_of_week="mon-fri", day_of_month="*", month_of_year="*",
                    timezone=ZoneInfo("Europe/Paris"),
                )
            },
            {
                "kind": "crontab", "minute": "0,30", "hour": "2", "day_of_week": "mon-fri",
                "day_of_month": "*", "month_of_year": "*", "timezone": "Europe/Paris",
            },
        ),
        (
            {"solar": SimpleNamespace(event="sunset", latitude="48.85", longitude="2.35")},
            {"kind": "solar", "event": "sunset", "lat": 48.85, "lon": 2.35},
        ),
        (
            {"clocked": SimpleNamespace(clocked_time=AT)},
            {"kind": "at", "moment": "2026-11-21T03:00:05.000700+00:00"},
        ),
    ],
    ids=["interval", "crontab", "solar", "clocked"],
)  # fmt: skip
def test_each_kind_of_schedule(schedule: dict[str, Any], document: dict[str, Any]) -> None:
    assert _document(**{"interval": None, **schedule})["schedule"] == document


def test_a_crontab_without_zones_is_due_in_that_of_the_app() -> None:
    fields = {"minute": "0", "hour": "2", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*"}
    row = _row(interval=None, crontab=SimpleNamespace(**fields, timezone=ZoneInfo("Europe/Paris")))
    found = found_in(row, zoned=False)
    assert found.definition is not None
    assert found.definition["schedule"] == {"kind": "crontab", **fields}


def test_what_is_sent_and_how() -> None:
    document = _document(
        args='[1, "two"]', kwargs='{"three": 3}', queue="q", routing_key="", priority=0, expire_seconds=60,
        headers='{"tenant": 7, "periodic_task_name": "tick"}',
    )  # fmt: skip
    assert document["args"] == [1, "two"]
    assert document["kwargs"] == {"three": 3}
    assert document["options"] == {"queue": "q", "priority": 0, "expires": 60, "headers": {"tenant": 7}}


def test_from_when_until_when_and_how_often() -> None:
    document = _document(
        start_time=AT, last_run_at=None, expires=AT, one_off=True, description="Board", total_run_count=0
    )
    assert document["dispatch"] == {
        "start": "2026-11-21T03:00:05.000700+00:00",
        "end": "2026-11-21T03:00:04.999700+00:00",
        "count": 1,
        "description": "Board",
    }
    assert document["options"] == {"expires": "2026-11-21T03:00:05.000700+00:00"}


def test_a_disabled_entry_is_paused_and_a_disabled_one_off_is_pointed_out() -> None:
    found = found_in(_row(enabled=False, one_off=True, total_run_count=0))
    assert found.paused
    assert "one-off and disabled" in found.notes[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"interval": None}, "it has no schedule"),
        ({"one_off": True, "total_run_count": 1}, "it is one-off and has run"),
        ({"args": "[1,"}, "args = '[1,' is no JSON"),
        ({"kwargs": "[]"}, "not a JSON object"),
    ],
)
def test_what_cannot_be_carried_says_why(changes: dict[str, Any], why: str) -> None:
    found = found_in(_row(**changes))
    assert found.definition is None
    assert why in found.refusal
