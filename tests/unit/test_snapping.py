"""A send time of another scheduler, snapped to the due that it was."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_dispatch.celery_bridge.recurrences import recurrence_of
from celery_dispatch.core.recurrence import Nominal
from celery_dispatch.manage.moving.snapping import snapped

UTC = timezone.utc
APP = Celery("proj", set_as_current=False)
APP.conf.timezone = "Europe/Paris"


def _recurrence(kind: Any) -> Nominal:
    found = recurrence_of(kind, APP)
    assert isinstance(found, Nominal)
    return found


@pytest.mark.parametrize(
    ("kind", "sent", "due"),
    [
        (crontab(minute="*/10"), "2026-11-21T03:10:00.740123+00:00", "2026-11-21T03:10:00+00:00"),
        (crontab(minute=30, hour=2), "2026-11-21T01:30:04+00:00", "2026-11-21T01:30:00+00:00"),
        (crontab(minute=0, hour=0, day_of_month=1), "2026-11-21T01:30:04+00:00", "2026-10-31T23:00:00+00:00"),
        (
            crontab(minute=0, hour=0, day_of_month=29, month_of_year=2),
            "2026-11-21T00:00:00+00:00",
            "2024-02-28T23:00:00+00:00",
        ),
    ],
    ids=["minutes", "the zone of the app", "a month ago", "29 February"],
)
def test_the_run_of_a_grid_of_its_own_was_the_latest_due_before_it(kind: Any, sent: str, due: str) -> None:
    assert snapped(datetime.fromisoformat(sent), _recurrence(kind)) == datetime.fromisoformat(due)


def test_a_run_at_the_very_due_is_that_due() -> None:
    due = datetime(2026, 11, 21, 3, 10, tzinfo=UTC)
    assert snapped(due, _recurrence(crontab(minute="*/10"))) == due


def test_an_interval_is_counted_from_the_run_itself() -> None:
    sent = datetime(2026, 11, 21, 3, 10, 0, 740_123, tzinfo=UTC)
    found = snapped(sent, _recurrence(schedule(timedelta(seconds=30))))
    assert found == datetime(2026, 11, 21, 3, 10, 0, 741_000, tzinfo=UTC)


@settings(max_examples=40, deadline=None)
@given(
    offset=st.integers(0, 10 * 366 * 86_400 * 1_000_000),
    kind=st.sampled_from(
        [
            crontab(minute="*/7"),
            crontab(minute=30, hour="2,3"),
            crontab(minute=0, hour=12, day_of_week="sun"),
            solar("sunset", 48.85, 2.35),
        ]
    ),
)
def test_the_first_fire_is_that_which_the_other_scheduler_would_have_made(offset: int, kind: Any) -> None:
    sent = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=offset)
    recurrence = _recurrence(kind)
    due = snapped(sent, recurrence)
    assert due <= sent + timedelta(milliseconds=1)
    following = recurrence.following(due, due)
    assert following > sent
    with pytest.MonkeyPatch.context() as patch:  # Celery's own answer, asked as beat asks
        local = sent.astimezone(ZoneInfo("Europe/Paris"))
        patch.setattr(kind, "nowfun", lambda: local)
        kind.app = APP
        remaining = kind.remaining_estimate(local)
    assert abs(following - (sent + remaining)) < timedelta(seconds=1)
