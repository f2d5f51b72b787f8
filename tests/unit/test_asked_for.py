"""The options of add and edit, as parts of a definition."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from celery_dispatch.manage.asked_for import Asked, changed, labels_of
from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.editing import previewed
from celery_dispatch.schedules import Coming

TICK = {
    "task": "proj.tick",
    "schedule": {"kind": "interval", "every": 10},
    "options": {"queue": "q", "headers": {"tenant": 7}},
}


@pytest.mark.parametrize(
    ("asked", "schedule"),
    [
        (Asked(every=30), {"kind": "interval", "every": 30}),
        (Asked(cron="0/10 * * * * *"), {"kind": "cron", "expression": "0/10 * * * * *"}),
        (
            Asked(crontab="*/5 8 * * mon-fri", timezone="Europe/Paris"),
            {
                "kind": "crontab", "minute": "*/5", "hour": "8", "day_of_month": "*", "month_of_year": "*",
                "day_of_week": "mon-fri", "timezone": "Europe/Paris",
            },
        ),
        (Asked(at="2030-01-01T00:00:00Z"), {"kind": "at", "moment": "2030-01-01T00:00:00Z"}),
        (Asked(rrule="FREQ=DAILY"), {"kind": "rrule", "rule": "FREQ=DAILY"}),
        (Asked(schedule='{"kind": "moon"}'), {"kind": "moon"}),
    ],
)  # fmt: skip
def test_each_way_to_write_a_schedule(asked: Asked, schedule: dict[str, Any]) -> None:
    assert changed({}, asked) == {"schedule": schedule}


PARIS = {"kind": "crontab", "minute": "0", "hour": "3", "timezone": "Europe/Paris"}


@pytest.mark.parametrize(
    ("before", "asked", "kept"),
    [
        (PARIS, Asked(crontab="0 4 * * *"), {"kind": "crontab", "timezone": "Europe/Paris"}),
        (PARIS, Asked(cron="0 4 * * *"), {"kind": "cron", "timezone": "Europe/Paris"}),
        (PARIS, Asked(cron="0 4 * * *", timezone="Asia/Tokyo"), {"kind": "cron", "timezone": "Asia/Tokyo"}),
        (
            {"kind": "cron", "expression": "0 3 * * *", "gap": "skip"},
            Asked(cron="0 4 * * *"),
            {"kind": "cron", "expression": "0 4 * * *", "gap": "skip"},
        ),
        (
            {"kind": "rrule", "rule": "FREQ=DAILY", "dtstart": "2026-01-05T09:00:00"},
            Asked(rrule="FREQ=WEEKLY"),
            {"kind": "rrule", "rule": "FREQ=WEEKLY", "dtstart": "2026-01-05T09:00:00"},
        ),
    ],
)
def test_another_schedule_of_an_entry_keeps_its_zone_and_what_else_goes_with_its_kind(
    before: dict[str, Any], asked: Asked, kept: dict[str, Any]
) -> None:
    found = changed({**TICK, "schedule": before}, asked)["schedule"]
    assert {key: found[key] for key in kept} == kept


@pytest.mark.parametrize("asked", [Asked(every=30), Asked(at="2030-01-01T00:00:00Z")])
def test_a_schedule_that_has_no_zone_takes_none_over(asked: Asked) -> None:
    assert "timezone" not in changed({**TICK, "schedule": PARIS}, asked)["schedule"]


def test_a_schedule_that_is_written_whole_keeps_nothing() -> None:
    found = changed({**TICK, "schedule": PARIS}, Asked(schedule='{"kind": "crontab", "hour": 4}'))
    assert found["schedule"] == {"kind": "crontab", "hour": 4}


def test_what_is_not_asked_for_stays_and_the_original_is_untouched() -> None:
    wanted = changed(TICK, Asked(sets=("options.headers.tenant=8", "dispatch.description=For all")))
    assert wanted == {
        **TICK,
        "options": {"queue": "q", "headers": {"tenant": 8}},
        "dispatch": {"description": "For all"},
    }
    assert TICK["options"] == {"queue": "q", "headers": {"tenant": 7}}


def test_a_field_can_be_taken_away_and_what_is_empty_goes_with_it() -> None:
    assert changed({**TICK, "options": {"queue": "q"}}, Asked(unsets=("options.queue",))) == {
        "task": "proj.tick",
        "schedule": {"kind": "interval", "every": 10},
    }


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (Asked(every=1, cron="* * * * *"), "More than one schedule"),
        (Asked(crontab="* * *"), "has 3 fields"),
        (Asked(args='{"a": 1}'), "is not an array"),
        (Asked(kwargs="[1"), "is no JSON"),
        (Asked(sets=("queue",)), "is no KEY=VALUE"),
        (Asked(sets=("task.deeper=1",)), "task holds 'proj.tick', and nothing below it"),
        (Asked(unsets=("options.priority",)), "it has no such field"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_cure(asked: Asked, what: str) -> None:
    with pytest.raises(ControlError) as caught:
        changed(TICK, asked)
    assert what in str(caught.value)
    assert caught.value.cure


class Previewing:
    """Schedules that preview one occurrence of whatever is asked for."""

    def preview(self, definition: Any, **_: object) -> tuple[Coming, ...]:
        due = datetime(2026, 11, 21, 3, tzinfo=timezone.utc)
        return (Coming(due, due),)


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [
        ('{"kind": "cron", "expression": "0 4 * * *", "timezone": "Europe/Paris"}', ZoneInfo("Europe/Paris")),
        ('{"kind": "cron", "expression": "0 4 * * *"}', None),
        ('{"kind": "lunar", "timezone": "Mare Imbrium"}', None),
    ],
)
def test_a_preview_is_in_the_zone_of_the_schedule(schedule: str, zone: ZoneInfo | None) -> None:
    schedules: Any = Previewing()
    assert previewed(schedules, None, Asked(schedule=schedule), count=1).zone == zone


def test_labels_are_json_or_text() -> None:
    assert labels_of(["team=billing", "tier=1", "on=true"]) == {"team": "billing", "tier": 1, "on": True}
