"""What RedBeat's own JSON says, in this package's documents."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celery_dispatch.manage.moving.redbeat import found_in

UTC = timezone.utc
EVERY_MINUTE = {"__type__": "interval", "every": 60.0, "relative": False}


def _definition(**changes: Any) -> str:
    plain = {"name": "tick", "task": "proj.tick", "args": None, "kwargs": {}, "options": {}, "enabled": True}
    return json.dumps({**plain, "schedule": EVERY_MINUTE, **changes})


def _moment(**zone: Any) -> dict[str, Any]:
    fields = {"year": 2026, "month": 11, "day": 21, "hour": 3, "minute": 0, "second": 5, "microsecond": 700}
    return {"__type__": "datetime", **fields, **zone}


def test_an_interval_with_its_last_run() -> None:
    meta = json.dumps({"last_run_at": _moment(timezone="UTC"), "total_run_count": 7})
    found = found_in("tick", _definition(), meta)
    assert found.definition == {
        "task": "proj.tick",
        "schedule": {"kind": "interval", "every": 60, "relative": False},
    }
    assert found.last_run == datetime(2026, 11, 21, 3, 0, 5, 700, tzinfo=UTC)
    assert (found.runs, found.paused, found.notes, found.refusal) == (7, False, (), "")


@pytest.mark.parametrize(("zone", "hour"), [("Europe/Paris", 2), (3600.0, 2), ("UTC", 3)])
def test_the_zone_of_a_last_run_is_a_name_or_an_offset(zone: Any, hour: int) -> None:
    found = found_in("tick", _definition(), json.dumps({"last_run_at": _moment(timezone=zone)}))
    assert found.last_run == datetime(2026, 11, 21, hour, 0, 5, 700, tzinfo=UTC)


def test_an_entry_that_never_ran_has_no_last_run() -> None:
    assert found_in("tick", _definition(), json.dumps({"last_run_at": None})).last_run is None
    assert found_in("tick", _definition(), None).last_run is None


def test_a_disabled_entry_is_paused() -> None:
    assert found_in("tick", _definition(enabled=False), None).paused


def test_a_crontab_keeps_its_fields_as_they_were_written() -> None:
    stored = {"__type__": "crontab", "minute": "*/5", "hour": "8,20", "day_of_week": "mon-fri",
              "day_of_month": "*", "month_of_year": 1}  # fmt: skip
    found = found_in("tick", _definition(schedule=stored), None)
    assert found.definition is not None
    assert found.definition["schedule"] == {
        "kind": "crontab", "minute": "*/5", "hour": "8,20", "day_of_week": "mon-fri",
        "day_of_month": "*", "month_of_year": 1,
    }  # fmt: skip


def test_dates_among_the_arguments_are_sent_as_kombu_writes_them() -> None:
    found = found_in("tick", _definition(kwargs={"since": [_moment(timezone="UTC")]}), None)
    assert found.definition is not None
    assert found.definition["kwargs"] == {
        "since": [{"__type__": "datetime", "__value__": "2026-11-21T03:00:05.000700+00:00"}]
    }
    assert found.notes == ("kwargs.since[0] is a date and time; it is sent as kombu writes one in JSON",)


def test_an_expiry_among_the_options_is_text() -> None:
    found = found_in("tick", _definition(options={"expires": _moment(timezone="UTC"), "queue": "q"}), None)
    assert found.definition is not None
    assert found.definition["options"] == {"expires": "2026-11-21T03:00:05.000700+00:00", "queue": "q"}


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        (None, "its key is gone"),
        ("{", "its definition is no JSON"),
        ("[]", "no JSON object"),
        (_definition(schedule={"__type__": "moon"}), "known are interval, crontab, rrule"),
        (_definition(schedule={"__type__": "rrule", "freq": 9}), "no frequency"),
        (_definition(kwargs={"when": EVERY_MINUTE}), "kwargs.when is a interval, which JSON cannot carry"),
    ],
)
def test_what_cannot_be_carried_says_why(definition: str | None, why: str) -> None:
    found = found_in("tick", definition, None)
    assert found.definition is None
    assert why in found.refusal


def test_a_damaged_last_run_refuses_the_entry_rather_than_to_begin_anew() -> None:
    broken = json.dumps({"last_run_at": {**_moment(), "month": 13}})
    assert "no date and time" in found_in("tick", _definition(), broken).refusal


def test_control_characters_in_a_name_are_made_visible() -> None:
    assert found_in("a\x1b[2Jb", None, None).name == "a�[2Jb"


def test_a_rule_is_written_as_rfc_5545_has_it() -> None:
    start = datetime(2026, 11, 1, 8, tzinfo=timezone(timedelta(hours=1)))
    stored = {
        "__type__": "rrule", "freq": 2, "interval": 2, "wkst": 6, "count": 10, "bysetpos": None,
        "bymonth": [1, 6], "byweekday": [{"__type__": "weekday", "wkday": 0}, 4], "byhour": 8,
        "byminute": [0, 30], "bymonthday": None, "byyearday": None, "byeaster": None, "byweekno": None,
        "bysecond": None, "dtstart": int(start.timestamp()), "dtstart_tz": 60,
        "until": int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()), "until_tz": 0,
    }  # fmt: skip
    found = found_in("tick", _definition(schedule=stored), None)
    assert found.definition is not None
    assert found.definition["schedule"] == {
        "kind": "rrule",
        "rule": "FREQ=WEEKLY;INTERVAL=2;WKST=SU;COUNT=10;BYMONTH=1,6;BYHOUR=8;BYMINUTE=0,30;BYDAY=MO,FR;"
        "UNTIL=20270101T000000Z",
        "dtstart": "2026-11-01T08:00:00+01:00",
    }


@pytest.mark.parametrize(
    "definition",
    [
        _definition(options=[1, 2]),
        _definition(schedule={"__type__": "rrule", "freq": 3, "until": 1e30}),
        _definition(schedule={"__type__": "rrule", "freq": 3, "dtstart": "soon"}),
        _definition(schedule={"__type__": ["crontab"]}),
        "[" * 100_000,
    ],
)
def test_what_redbeat_never_wrote_is_refused_by_itself(definition: str) -> None:
    found = found_in("odd", definition, None)
    assert found.refusal and found.definition is None
