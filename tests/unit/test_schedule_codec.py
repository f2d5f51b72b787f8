"""Schedules as JSON: what comes back is equal and due at the same instants; the rest is refused."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule, solar
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_dispatch.celery_bridge.fingerprint import schedule_facet
from celery_dispatch.celery_bridge.recurrences import recurrence_of
from celery_dispatch.celery_bridge.schedule_codec import ZoneClock, from_json, to_json
from celery_dispatch.errors import EntryError

UTC = timezone.utc
LAST = datetime(2025, 1, 1, 10, 30, tzinfo=UTC)
ZONES = ("Europe/Paris", "America/New_York", "Asia/Tokyo")
quick = settings(max_examples=60, deadline=None)

instants = st.integers(1_672_531_200_000, 1_798_761_600_000).map(
    lambda milliseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)
intervals = st.timedeltas(timedelta(milliseconds=1), timedelta(days=36_500))


def numbers(least: int, most: int) -> st.SearchStrategy[Any]:
    within = st.integers(least, most)
    several = st.sets(within, min_size=1)
    return st.one_of(
        st.just("*"),
        within,
        within.map(str),
        several,
        several.map(list),
        several.map(tuple),
        several.map(commas),
    )


def commas(several: set[int]) -> str:
    return ",".join(map(str, several))


crontabs = st.builds(
    crontab,
    minute=st.one_of(numbers(0, 59), st.sampled_from(["*/7", "5-20/5,40"])),
    hour=st.one_of(numbers(0, 23), st.sampled_from(["*/6", "8-17"])),
    day_of_week=st.one_of(numbers(0, 6), st.sampled_from(["mon-fri", "sun"])),
    day_of_month=st.one_of(st.just("*"), st.sampled_from([1, "1-7", {1, 15}, [28]])),
    month_of_year=st.one_of(numbers(1, 12), st.sampled_from(["*/3", "jan,jun"])),
)


def make_app(zone: str) -> Celery:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.timezone = zone
    return app


APPS = {zone: make_app(zone) for zone in ZONES}


def returned(value: Any, app: Celery | None = None) -> Any:
    """``value`` after a way through text."""
    return from_json(json.loads(json.dumps(to_json(value), allow_nan=False)), app=app)


def dues(value: BaseSchedule, app: Celery, start: datetime) -> list[datetime]:
    recurrence: Any = recurrence_of(value, app)
    found = [start]
    for _ in range(3):
        found.append(recurrence.following(found[-1], found[-1]))
    return found[1:]


@quick
@given(intervals, st.booleans(), st.sampled_from(ZONES), instants)
def test_interval_comes_back_equal_and_due_at_the_same_instants(
    every: timedelta, relative: bool, zone: str, start: datetime
) -> None:
    one = schedule(max(every, timedelta(seconds=1)) if relative else every, relative, app=APPS[zone])
    other = returned(one, APPS[zone])
    assert (other, other.run_every, other.relative) == (one, one.run_every, one.relative)
    assert dues(other, APPS[zone], start) == dues(one, APPS[zone], start)


@quick
@given(crontabs, st.sampled_from(ZONES), instants)
def test_crontab_comes_back_equal_and_due_at_the_same_instants(
    one: crontab, zone: str, start: datetime
) -> None:
    other = returned(one, APPS[zone])
    assert other == one
    assert dues(other, APPS[zone], start) == dues(one, APPS[zone], start)
    assert to_json(other) == to_json(one)
    assert schedule_facet(other, UTC) == schedule_facet(one, UTC)


@quick
@given(
    st.sampled_from(["sunrise", "sunset", "solar_noon", "dusk_civil"]),
    st.one_of(st.integers(-50, 50), st.floats(-50, 50)),
    st.one_of(st.integers(-180, 180), st.floats(-180, 180)),
    instants,
)
def test_solar_event_comes_back_equal_and_due_at_the_same_instants(
    event: str, lat: float, lon: float, start: datetime
) -> None:
    app = APPS["Asia/Tokyo"]
    one = solar(event, lat, lon, app=app)  # type: ignore[arg-type]
    other = returned(one, app)
    assert other == one
    assert dues(other, app, start) == dues(one, app, start)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (schedule(10), {"kind": "interval", "every": 10, "relative": False}),
        (
            schedule(timedelta(milliseconds=1500), relative=True),
            {"kind": "interval", "every": 1.5, "relative": True},
        ),
        (
            crontab("*/5", {20, 8}, "mon-fri", day_of_month=3),
            {
                "kind": "crontab",
                "minute": "*/5",
                "hour": [8, 20],
                "day_of_week": "mon-fri",
                "day_of_month": 3,
                "month_of_year": "*",
            },
        ),
        (
            crontab(iter([5, 1])),
            {
                "kind": "crontab",
                "minute": [1, 5],
                "hour": "*",
                "day_of_week": "*",
                "day_of_month": "*",
                "month_of_year": "*",
            },
        ),
        (solar("sunset", 48.85, 2), {"kind": "solar", "event": "sunset", "lat": 48.85, "lon": 2}),
        (
            solar("sunset", Decimal("48.85"), Decimal(2)),
            {"kind": "solar", "event": "sunset", "lat": 48.85, "lon": 2.0},
        ),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else "",
)
def test_documents_read_as_people_write_schedules(value: Any, document: dict[str, Any]) -> None:
    assert to_json(value) == document


def test_what_is_left_out_of_a_document_is_as_in_celery() -> None:
    assert from_json({"kind": "crontab", "minute": 30}) == crontab(minute=30)
    assert from_json({"kind": "interval", "every": 2.5}) == schedule(2.5)


@pytest.mark.parametrize("zone", ZONES)
def test_schedule_without_a_zone_is_of_the_app_that_asks_it(zone: str) -> None:
    nine: Any = from_json({"kind": "crontab", "minute": 0, "hour": 9}, app=APPS[zone])
    assert nine.app is APPS[zone]
    assert dues(nine, APPS[zone], LAST)[0].astimezone(ZoneInfo(zone)).hour == 9


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "document",
    [
        {"kind": "crontab", "minute": 0, "hour": 0},
        {"kind": "interval", "every": 86400, "relative": True},
    ],
    ids=lambda document: document["kind"],
)
def test_schedule_with_a_zone_is_due_in_it_whatever_the_apps_zone(
    document: dict[str, Any], zone: str
) -> None:
    app = APPS["Asia/Tokyo" if zone != "Asia/Tokyo" else "Europe/Paris"]
    one: Any = from_json({**document, "timezone": zone}, app=app)
    midnights = [due.astimezone(ZoneInfo(zone)) for due in dues(one, app, LAST)]
    assert {(due.hour, due.minute) for due in midnights} == {(0, 0)}
    again = returned(one, app)
    assert (again, to_json(again)) == (one, to_json(one))
    assert dues(again, app, LAST) == dues(one, app, LAST)


def test_schedule_with_a_zone_is_due_in_it_for_stock_beat_as_well() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    one: Any = from_json(
        {"kind": "crontab", "minute": 0, "hour": 9, "timezone": tokyo.key}, app=APPS[ZONES[0]]
    )
    one.nowfun = lambda: datetime(2025, 1, 2, 9, 0, 1, tzinfo=tokyo)
    assert one.is_due(datetime(2025, 1, 1, 9, tzinfo=tokyo)).is_due


def test_zone_of_its_own_tells_two_schedules_apart() -> None:
    documents = [
        {"kind": "crontab", "hour": 9},
        *({"kind": "crontab", "hour": 9, "timezone": z} for z in ZONES),
    ]
    assert len({schedule_facet(from_json(document), UTC) for document in documents}) == len(documents)
    assert schedule_facet(from_json(documents[1]), UTC) == schedule_facet(from_json(documents[1]), UTC)


def test_the_clock_of_a_zone_tells_the_time_now() -> None:
    now = ZoneClock(ZoneInfo("Asia/Tokyo"))()
    assert now.utcoffset() == timedelta(hours=9)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


class Renamed(crontab):
    pass


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (schedule(5, nowfun=datetime.now), "clock of its own"),
        (crontab(nowfun=datetime.now), "clock of its own"),
        (solar("sunset", 1, 2, nowfun=ZoneClock(ZoneInfo("UTC"))), "clock of its own"),
        (Renamed(), "cannot be written as JSON"),
        (10, "cannot be written as JSON"),
        (schedule(None), "interval every = None"),
        (schedule(timedelta.max), "too long for its microseconds"),
        (crontab({5.5}), "crontab minute"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_json_cannot_carry_is_refused(value: Any, why: str) -> None:
    with pytest.raises(EntryError, match=why):
        to_json(value)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (None, "an object with a kind"),
        ([], "an object with a kind"),
        ({}, "kind = None: use interval, crontab, solar"),
        ({"kind": ["crontab"]}, "kind = "),
        ({"kind": "crontabs"}, "did you mean 'crontab'"),
        ({"kind": "celery.schedules:crontab"}, "use interval, crontab, solar"),
        ({"kind": "interval"}, "interval every = None: use a number"),
        ({"kind": "interval", "every": "10"}, "interval every = '10'"),
        ({"kind": "interval", "every": True}, "interval every = True"),
        ({"kind": "interval", "every": float("nan")}, "interval every = nan"),
        ({"kind": "interval", "every": float("inf")}, "interval every = inf"),
        ({"kind": "interval", "every": 10**400}, "use fewer"),
        ({"kind": "interval", "every": 10, "relative": 1}, "relative = 1: use true or false"),
        ({"kind": "interval", "evry": 10}, "did you mean 'every'"),
        ({"kind": "crontab", "minute": "77"}, "crontab minute = '77'.*59"),
        ({"kind": "crontab", "hour": [1, 24]}, "crontab hour = .*24"),
        ({"kind": "crontab", "hour": 1.0}, "crontab hour = 1.0: use a pattern"),
        ({"kind": "crontab", "hour": ["1"]}, "crontab hour = .*: use a pattern"),
        ({"kind": "crontab", "hour": None}, "crontab hour = None: use a pattern"),
        ({"kind": "crontab", "day_of_week": "someday"}, "crontab day_of_week = 'someday'"),
        ({"kind": "crontab", "minutes": "0"}, "did you mean 'minute'"),
        ({"kind": "crontab", "timezone": "Europe/Pris"}, "Europe/Pris.*no such time zone"),
        ({"kind": "crontab", "timezone": "Europe"}, "no such time zone"),
        ({"kind": "crontab", "timezone": "../../etc/passwd"}, "no such time zone"),
        ({"kind": "crontab", "timezone": None}, "no such time zone"),
        ({"kind": "crontab", "nowfun": "os:abort"}, "no field 'nowfun'"),
        ({"kind": "solar", "event": "sunrise", "lat": 91, "lon": 2}, "lat = 91.*-90 and 90"),
        ({"kind": "solar", "event": "sunrise", "lat": 1}, "solar lon = None: use a number"),
        ({"kind": "solar", "event": "sunup", "lat": 1, "lon": 2}, "event = 'sunup'.*sunrise"),
        ({"kind": "solar", "lat": 1, "lon": 2}, "event = None"),
        ({"kind": "solar", "event": "sunrise", "lat": 1, "lon": 2, "timezone": "UTC"}, "no field 'timezone'"),
    ],
    ids=str,
)
def test_document_that_describes_no_schedule_is_refused_with_the_field(document: Any, why: str) -> None:
    with pytest.raises(EntryError, match=why):
        from_json(document)
