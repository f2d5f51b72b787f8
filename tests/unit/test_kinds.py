"""``cron``, ``at`` and ``rrule``: what they accept, refuse and mean."""

from __future__ import annotations

import doctest
import importlib
import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.rrule
import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import BaseSchedule
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_dispatch import EntryError, ScheduleCodec, at, cron, rrule
from celery_dispatch.celery_bridge.codecs import BUILT_IN
from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.fingerprint import schedule_facet
from celery_dispatch.celery_bridge.kinds.own import OwnSchedule
from celery_dispatch.celery_bridge.kinds.rule import Rule, parts_of
from celery_dispatch.celery_bridge.recurrences import Recurrences, recurrence_of
from celery_dispatch.celery_bridge.schedule_codec import from_json, to_json
from celery_dispatch.config import Config
from celery_dispatch.errors import ConfigError
from celery_dispatch.manage.connect import sketch_of

UTC = timezone.utc
START = datetime(2026, 1, 1, tzinfo=UTC)
APP = Celery("t", broker="redis://", set_as_current=False)
DTSTART = "2026-01-05T09:00:00"
quick = settings(max_examples=60, deadline=None)


def dues(schedule: BaseSchedule, count: int = 3, *, start: datetime = START, name: str = "e") -> list[str]:
    recurrence: Any = Recurrences(APP).of(schedule, name)
    found, due = [], start
    for _ in range(count):
        due = recurrence.following(due, due)
        if due is None:
            break
        found.append(due.strftime("%Y-%m-%d %H:%M:%S"))
    return found


# --- cron ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0/10 * * * * *", ["2026-01-01 00:00:10", "2026-01-01 00:00:20"]),
        ("30 0 9 * * mon-fri", ["2026-01-01 09:00:30", "2026-01-02 09:00:30", "2026-01-05 09:00:30"]),
        ("0 12 * feb,MAR sun", ["2026-02-01 12:00:00", "2026-02-08 12:00:00"]),
        ("0 9 L * *", ["2026-01-31 09:00:00", "2026-02-28 09:00:00"]),
        ("0 9 * * 5L", ["2026-01-30 09:00:00", "2026-02-27 09:00:00"]),
        ("0 9 * * friL", ["2026-01-30 09:00:00", "2026-02-27 09:00:00"]),
        ("0 9 * * 5#3", ["2026-01-16 09:00:00", "2026-02-20 09:00:00"]),
        ("0 9 15W * *", ["2026-01-15 09:00:00", "2026-02-16 09:00:00"]),
        ("0 9 13 * 5", ["2026-01-02 09:00:00", "2026-01-09 09:00:00", "2026-01-13 09:00:00"]),
        ("0 22-1 * * *", ["2026-01-01 01:00:00", "2026-01-01 22:00:00", "2026-01-01 23:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("@hourly", ["2026-01-01 01:00:00"]),
        ("@daily", ["2026-01-02 00:00:00"]),
        ("@weekly", ["2026-01-04 00:00:00"]),
        ("@monthly", ["2026-02-01 00:00:00"]),
        ("@yearly", ["2027-01-01 00:00:00"]),
    ],
)  # fmt: skip
def test_cron_is_due_when_its_expression_says(expression: str, first: list[str]) -> None:
    assert dues(cron(expression), len(first)) == first


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * *", "has 4 fields; use five .* or six with seconds first"),
        ("* * * * * * *", "for a year use the dispatch options start and end"),
        ("@reboot", "there is no such alias; use @yearly"),
        ("@dayly", "did you mean '@daily'"),
        ("R * * * *", "R is another number in every process; use H"),
        ("R(0-5)/2 * * * *", "use H"),
        ("0 0 30 2 *", "can never occur"),
        ("0 0 31 4,6 *", "can never occur"),
        ("5-5 * * * *", "a range from a value to itself; use 5"),
        ("*/90 * * * *", "a step must be from 1 to 59"),
        ("*/0 * * * *", "a step must be from 1 to 59"),
        ("0,,5 * * * *", "an empty part; leave it out"),
        ("0 0 15W * 1", "ambiguous; use one of them, or rrule"),
        ("0 0 1 * 5#3", "ambiguous"),
        ("0 0 1 * 5L", "ambiguous"),
        ("61 * * * *", "cannot be read .*; use numbers"),
        ("0 0 * * L", "cannot be read"),
        ("0 0 L-3 * *", "cannot be read"),
        ("H(5-3) * * * *", "a range of H must rise"),
        ("H(0-99) * * * *", "within 0-59"),
        ("H,5 * * * *", "must stand alone"),
        ("", "has 0 fields"),
        ("* " * 200, "use text"),
        (5, "use text such as"),
    ],
)
def test_cron_refuses_by_value_and_cure(expression: Any, said: str) -> None:
    with pytest.raises(EntryError, match=f"cron expression = .*{said}"):
        cron(expression)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"timezone": "Europe/Pariss"}, "timezone = 'Europe/Pariss': no such time zone"),
        ({"gap": "jump"}, "cron gap = 'jump': use 'shift' or 'skip'"),
        ({"fold": 2}, "cron fold = 2: use 'first' or 'both'"),
    ],
)
def test_cron_refuses_options_that_are_none(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(EntryError, match=said):
        cron("* * * * *", **given_)


def test_cron_is_due_in_its_own_zone_or_else_in_the_apps() -> None:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.timezone = "Asia/Tokyo"
    recurrence: Any = recurrence_of(cron("0 9 * * *"), app)
    assert recurrence.following(START, START) == datetime(2026, 1, 2, 0, tzinfo=UTC)
    recurrence = recurrence_of(cron("0 9 * * *", timezone="Europe/Paris"), app)
    assert recurrence.following(START, START) == datetime(2026, 1, 1, 8, tzinfo=UTC)


def test_h_spreads_entries_evenly_and_each_field_by_itself() -> None:
    times = Counter(dues(cron("H H * * *"), 1, name=f"entry-{n}")[0][11:16] for n in range(400))
    assert len(times) > 330
    hours = Counter(time[:2] for time in times.elements())
    assert len(hours) == 24 and max(hours.values()) < 40


def test_h_keeps_to_its_range_and_step() -> None:
    for n in range(30):
        minute = int(dues(cron("H(10-19) * * * *"), 1, name=f"e{n}")[0][14:16])
        assert 10 <= minute <= 19
        several = [int(due[14:16]) for due in dues(cron("H/15 * * * *"), 4, name=f"e{n}")]
        assert len({each % 15 for each in several}) == 1 and sorted(set(several)) == sorted(several)


def test_h_is_the_same_in_every_process() -> None:
    code = (
        "from celery_dispatch import cron; from datetime import *; "
        "t = datetime(2026, 1, 1, tzinfo=timezone.utc); "
        "r = cron('H H H * *').recurrence(timezone.utc, 'nightly'); "
        "print(r.following(t, t).strftime('%Y-%m-%d %H:%M:%S'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == dues(cron("H H H * *"), 1, name="nightly")[0]


def test_equal_schedules_share_a_recurrence_unless_the_name_decides() -> None:
    known = Recurrences(APP)
    assert known.of(cron("* * * * *"), "a") is known.of(cron("* * * * *"), "b")
    assert known.of(cron("H * * * *"), "a") is not known.of(cron("H * * * *"), "b")
    assert known.of(cron("H * * * *"), "a") is known.of(cron("H * * * *"), "a")


# --- at -----------------------------------------------------------------------------------------------------


def test_at_is_due_once() -> None:
    moment = datetime(2026, 3, 1, 9, tzinfo=ZoneInfo("Europe/Paris"))
    assert dues(at(moment)) == ["2026-03-01 08:00:00"]
    assert dues(at("2026-03-01T09:00:00+01:00")) == dues(at("2026-03-01T08:00:00Z")) == dues(at(moment))
    recurrence: Any = recurrence_of(at(moment), APP)
    assert recurrence.latest(START, moment) == (moment, 0)
    assert recurrence.latest(START, moment - timedelta(milliseconds=1)) is None
    assert recurrence.latest(moment, moment + timedelta(days=9)) is None


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime(2026, 1, 1), "lacks a time zone; use"),  # noqa: DTZ001
        ("2026-01-01T00:00:00", "lacks a time zone"),
        ("tomorrow", "is no instant"),
        (5, "is no instant"),
        ("9999-01-01T00:00:00Z", "not between 1970 and 9000"),
        ("0001-01-01T00:00:00+10:00", "not between 1970 and 9000"),
        (None, "is no instant"),
    ],
)
def test_at_refuses_what_is_no_instant(moment: Any, said: str) -> None:
    with pytest.raises(EntryError, match=f"at moment = .*{said}"):
        at(moment)


# --- rrule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        ("FREQ=MONTHLY;BYDAY=-1FR", ["2026-01-30 09:00:00", "2026-02-27 09:00:00"]),
        ("FREQ=MONTHLY;BYDAY=+2TU,-1MO", ["2026-01-13 09:00:00", "2026-01-26 09:00:00"]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", ["2026-01-05 09:00:00", "2026-01-19 09:00:00"]),
        ("FREQ=DAILY;COUNT=2", ["2026-01-05 09:00:00", "2026-01-06 09:00:00"]),
        ("FREQ=DAILY;UNTIL=20260106T090000", ["2026-01-05 09:00:00", "2026-01-06 09:00:00"]),
        ("FREQ=DAILY;UNTIL=20260106T090000Z", ["2026-01-05 09:00:00", "2026-01-06 09:00:00"]),
        ("rrule:freq=monthly;bymonthday=31", ["2026-01-31 09:00:00", "2026-03-31 09:00:00"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", ["2026-01-30 09:00:00", "2026-02-27 09:00:00"]),
        ("FREQ=YEARLY;BYEASTER=0", ["2026-04-05 09:00:00", "2027-03-28 09:00:00"]),
    ],
)  # fmt: skip
def test_rrule_is_due_when_its_rule_says(rule: str, first: list[str]) -> None:
    schedule = rrule(rule, dtstart=DTSTART)
    assert dues(schedule, len(first)) == first
    if "COUNT" in rule or "UNTIL" in rule:
        assert dues(schedule, 9) == first


def test_rrule_reads_what_dateutil_writes() -> None:
    written = str(
        dateutil.rrule.rrule(
            dateutil.rrule.MONTHLY,
            dtstart=datetime(2026, 1, 5, 9),  # noqa: DTZ001
            byweekday=[dateutil.rrule.FR(-1), dateutil.rrule.MO(2)],
            bysecond=0,
        )
    )
    assert rrule(written) == rrule("FREQ=MONTHLY;BYDAY=+2MO,-1FR;BYSECOND=0", dtstart=DTSTART)
    zoned = rrule("DTSTART;TZID=America/New_York:20260105T090000\nRRULE:FREQ=DAILY")
    assert dues(zoned, 1) == ["2026-01-05 14:00:00"]


def test_an_aware_beginning_and_until_are_taken_by_the_wall_clock_of_the_zone() -> None:
    schedule = rrule(
        "FREQ=DAILY;UNTIL=20260106T140000Z", dtstart="2026-01-05T14:00:00Z", timezone="America/New_York"
    )
    assert dues(schedule, 5) == ["2026-01-05 14:00:00", "2026-01-06 14:00:00"]
    assert from_json(to_json(schedule)) == schedule


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("FREQ=FOO", "cannot be read"),
        ("", "use text such as"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL = 0: use 1 to"),
        ("FREQ=DAILY;COUNT=99999", "COUNT = 99999: .* or the dispatch option count"),
        ("FREQ=DAILY;COUNT=-1", "COUNT = -1"),
        ("FREQ=DAILY;FREQ=WEEKLY", "is said twice"),
        ("FREQ=DAILY;BYHOUR=25", "cannot be read"),
        ("FREQ=DAILY;UNTIL=soon", "UNTIL = 'SOON'"),
        ("FREQ=MONTHLY;BYDAY=6MO", "is never due"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "is never due"),
        ("FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=30;COUNT=4", "is never due"),
        ("FREQ=DAILY;BYSETPOS=5", "is never due"),
        (f"FREQ=HOURLY;BYMINUTE=0,30;BYSECOND={','.join(map(str, range(60)))}", "up to 120 times in one"),
        ("FREQ=SECONDLY;BYMONTHDAY=30;BYHOUR=3;BYWEEKNO=20", "each second .* use FREQ=DAILY with BYHOUR"),
        ("FREQ=SECONDLY;BYSETPOS=2", "counts further than the 1 times of one period"),
        ("FREQ=MINUTELY;BYSECOND=5,5,05;BYSETPOS=2", "counts further than the 1 times of one period"),
        ("FREQ=MINUTELY;BYSECOND=0,30;BYSETPOS=-3", "use 1 to 2, or a FREQ such as DAILY"),
        ("FREQ=HOURLY;BYMINUTE=0,30;BYSECOND=0,30;BYSETPOS=1,5", "use 1 to 4, or a FREQ such as DAILY"),
        (f"FREQ=YEARLY;BYMINUTE={','.join(map(str, range(60)))}", "up to 21,960 times in one period"),
        ("RRULE:FREQ=DAILY\nRRULE:FREQ=WEEKLY", "use one rule"),
        (None, "use text such as"),
    ],
)  # fmt: skip
def test_rrule_refuses_by_value_and_cure(rule: Any, said: str) -> None:
    with pytest.raises(EntryError, match=f"rrule rule.*{said}"):
        rrule(rule, dtstart=DTSTART)


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        ("FREQ=MINUTELY;BYSECOND=0,30;BYSETPOS=-1", "2026-01-05 09:00:30"),
        ("FREQ=HOURLY;BYMINUTE=0,30;BYSECOND=10,20;BYSETPOS=4", "2026-01-05 09:30:20"),
        ("FREQ=SECONDLY;BYHOUR=10;BYSETPOS=1", "2026-01-05 10:00:00"),
    ],
)
def test_rrule_chooses_among_the_times_of_a_short_period(rule: str, first: str) -> None:
    assert dues(rrule(rule, dtstart=DTSTART), 1) == [first]


def test_rrule_needs_a_beginning_that_is_one() -> None:
    with pytest.raises(EntryError, match="has no beginning to count from; give dtstart"):
        rrule("FREQ=DAILY")
    with pytest.raises(EntryError, match="rrule dtstart = 'soon': use a datetime"):
        rrule("FREQ=DAILY", dtstart="soon")


rules = st.builds(
    lambda freq, interval, parts: ";".join([f"FREQ={freq}", f"INTERVAL={interval}", *parts]),
    st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]),
    st.integers(1, 5),
    st.lists(
        st.sampled_from(
            ["BYMONTH=1,6", "BYMONTHDAY=1,15,-1", "BYDAY=MO,TH", "BYHOUR=3,9", "BYMINUTE=0,30", "WKST=SU"]
        ),
        unique_by=lambda part: part.split("=")[0],
        max_size=3,
    ),
)


@quick
@given(rules, st.datetimes(datetime(2020, 1, 1), datetime(2021, 1, 1)), st.integers(0, 3 * 366 * 24 * 3600))  # noqa: DTZ001
def test_a_rule_asked_from_nearby_gives_what_it_gives_from_its_beginning(
    rule: str, dtstart: datetime, seconds: int
) -> None:
    dtstart = dtstart.replace(microsecond=0)
    local = dtstart + timedelta(seconds=seconds)
    if "MINUTELY" in rule and seconds > 40 * 86_400:
        local = dtstart + timedelta(seconds=seconds % (40 * 86_400))
    try:
        found = Rule(parts_of(rule), dtstart, None).following(local)
    except EntryError:
        return
    straight: Any = dateutil.rrule.rrulestr(f"RRULE:{rule}", dtstart=dtstart)
    assert found == straight.after(local)


# --- as data ------------------------------------------------------------------------------------------------

zones = st.sampled_from([None, "Europe/Paris", "America/New_York", "Antarctica/Troll"])
gaps, folds = st.sampled_from(["shift", "skip"]), st.sampled_from(["first", "both"])
crons = st.builds(
    lambda fields, **given_: cron(" ".join(fields), **given_),
    st.tuples(
        st.sampled_from(["*", "*/10", "0", "H"]),
        st.sampled_from(["*", "5", "H(3-9)", "1,59"]),
        st.sampled_from(["*", "8-18/2", "2"]),
        st.just("*"),
        st.sampled_from(["*", "jan-mar", "6"]),
        st.sampled_from(["*", "MON-fri", "5#2", "1L"]),
    ),
    timezone=zones, gap=gaps, fold=folds,
)  # fmt: skip
moments = st.datetimes(datetime(1971, 1, 1), datetime(8000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
kinds = st.one_of(
    crons,
    st.builds(at, moments),
    st.builds(
        rrule,
        st.sampled_from(["FREQ=DAILY", "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=HOURLY;UNTIL=20300101T000000Z"]),
        dtstart=st.one_of(st.just(DTSTART), st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1))),  # noqa: DTZ001
        timezone=zones, gap=gaps, fold=folds,
    ),
)  # fmt: skip


@quick
@given(kinds)
def test_a_kind_comes_back_equal_and_due_at_the_same_instants(one: OwnSchedule) -> None:
    written = json.dumps(to_json(one), allow_nan=False)
    other = from_json(json.loads(written), app=APP)
    assert type(other) is type(one) and other == one and hash(other) == hash(one)
    assert json.dumps(to_json(other)) == written
    assert schedule_facet(other, UTC) == schedule_facet(one, UTC)
    assert dues(other) == dues(one)
    assert pickle.loads(pickle.dumps(one)) == one


def test_kinds_have_names_of_their_own() -> None:
    assert {cron.kind, at.kind, rrule.kind} < set(BUILT_IN)


def test_an_unknown_field_or_a_missing_one_is_refused() -> None:
    with pytest.raises(EntryError, match="a schedule of kind cron has no field 'zone'; use"):
        from_json({"kind": "cron", "expression": "* * * * *", "zone": "Asia/Tokyo"})
    with pytest.raises(EntryError, match="cron expression = None"):
        from_json({"kind": "cron"})
    with pytest.raises(EntryError, match="at moment = None"):
        from_json({"kind": "at"})


def test_stock_beat_can_run_them() -> None:
    app = Celery("t", broker="redis://", set_as_current=False)
    minutely = ScheduleEntry("a", "t.a", schedule=cron("* * * * *"), app=app)
    minutely.last_run_at = app.now() - timedelta(minutes=2)
    is_due, wait = minutely.is_due()
    assert is_due and 0 <= wait <= 60
    later = ScheduleEntry("b", "t.b", schedule=at(app.now() + timedelta(seconds=90)), app=app)
    is_due, wait = later.is_due()
    assert not is_due and 80 < wait <= 90


# --- codecs -------------------------------------------------------------------------------------------------


class Odd(BaseSchedule):
    """Due in each odd second of a minute."""

    def __init__(self, offset: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.offset = offset

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return timedelta(seconds=2 - (last_run_at.second + self.offset) % 2)


CODEC = ScheduleCodec(Odd, lambda odd: {"offset": odd.offset}, lambda said: Odd(**said))


def test_a_class_with_a_codec_is_data() -> None:
    codecs = {"odd": CODEC}
    document = to_json(Odd(3), codecs=codecs)
    assert document == {"kind": "odd", "offset": 3}
    made: Any = from_json(document, codecs=codecs)
    assert type(made) is Odd and made.offset == 3
    with pytest.raises(EntryError, match="give the class a codec in dispatch_schedule_codecs"):
        to_json(Odd(3))
    with pytest.raises(EntryError, match="schedule kind = 'odd': "):
        from_json(document)


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        (
            ScheduleCodec(Odd, lambda odd: odd.no, lambda said: Odd()),
            "the codec of 'odd' failed: AttributeError",
        ),
        (ScheduleCodec(Odd, lambda odd: [], lambda said: Odd()), "let it write a dict without a kind"),  # type: ignore[arg-type, return-value]
        (ScheduleCodec(Odd, lambda odd: {"a": {1}}, lambda said: Odd()), "JSON cannot carry a set"),
    ],
)
def test_a_codec_that_fails_is_the_entrys_error(codec: ScheduleCodec, said: str) -> None:
    with pytest.raises(EntryError, match=said):
        to_json(Odd(), codecs={"odd": codec})
    with pytest.raises(EntryError, match=r"failed: TypeError|made a cron, not a Odd"):
        from_json({"kind": "odd", "x": 1}, codecs={"odd": CODEC})


def test_every_kind_is_shown_as_its_document_and_as_a_person_would_write_it() -> None:
    def shown(schedule: Any) -> tuple[str | None, object]:
        item = {"task": "t", "schedule": schedule}
        app = Celery("t", broker="redis://", set_as_current=False)
        entry = Definitions(app, Config.from_app(app)).entry("e", item)
        sketch = sketch_of(entry, {"odd": CODEC})
        return sketch.schedule, sketch.recurrence

    assert shown(cron("0/10 * * * * *", timezone="Europe/Paris")) == (
        "cron 0/10 * * * * * in Europe/Paris",
        {"kind": "cron", "expression": "0/10 * * * * *", "timezone": "Europe/Paris"},
    )
    assert shown(Odd(3)) == ('{"kind": "odd", "offset": 3}', {"kind": "odd", "offset": 3})
    assert shown(Undescribed())[1] is None


class Undescribed(Odd):
    """Has no codec."""


def test_two_apps_in_one_process_have_codecs_of_their_own() -> None:
    one, other = (Celery(name, broker="redis://", set_as_current=False) for name in "ab")
    one.conf.dispatch_schedule_codecs = {"odd": CODEC}
    assert Config.from_app(one).schedule_codecs == {"odd": CODEC}
    assert Config.from_app(other).schedule_codecs == {}


@pytest.mark.parametrize(
    ("codecs", "said"),
    [
        ([], "must be a dict"),
        ({"cron": CODEC}, "'cron' is a kind already"),
        ({"Odd One": CODEC}, "is no name for a kind"),
        ({"odd": Odd}, "give it a ScheduleCodec"),
        ({"odd": ScheduleCodec(dict, dict, dict)}, "which is no schedule class"),  # type: ignore[arg-type]
        ({"odd": ScheduleCodec(Odd, None, None)}, "cannot be called"),  # type: ignore[arg-type]
    ],
)
def test_wrong_codecs_are_refused_at_start(codecs: Any, said: str) -> None:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.dispatch_schedule_codecs = codecs
    with pytest.raises(ConfigError, match=f"dispatch_schedule_codecs.*{said}"):
        Config.from_app(app)


# --- what the docs say --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cron", "at", "rrule"])
def test_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(f"celery_dispatch.celery_bridge.kinds.{name}")
    tried = doctest.testmod(module)
    assert tried.attempted and not tried.failed


def test_the_schedule_and_the_documents_of_the_reference_can_be_used() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/schedules.md").read_text()
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.result_expires = None
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], {"app": app})  # noqa: S102 — our own page
    catalog = catalog_of(app, Config.from_app(app))
    assert len(catalog.entries) == 3 and not catalog.broken
    documents = [json.loads(each) for each in re.findall(r'`(\{"kind": [^`…]*\})`', page)]
    assert {document["kind"] for document in documents} == set(BUILT_IN)
    for document in documents:
        assert to_json(from_json(document, app=app))["kind"] == document["kind"]


def test_the_table_of_clock_changes_is_true() -> None:
    for expression, spring, autumn in (
        ("30 2 * * *", ["03:00"], ["02:30"]),
        ("30 1 * * *", ["01:30"], ["01:30"]),
        ("*/30 * * * *", ["01:00", "01:30", "03:00", "03:30"], ["01:00", "01:30", "01:00", "01:30", "02:00"]),
    ):
        for begin, times in (("2026-03-08T00:59:00-05:00", spring), ("2026-11-01T00:59:00-04:00", autumn)):
            recurrence: Any = cron(expression, timezone="America/New_York").recurrence(UTC, "e")
            due, found = datetime.fromisoformat(begin), []
            for _ in times:
                due = recurrence.following(due, due)
                found.append(due.astimezone(ZoneInfo("America/New_York")).strftime("%H:%M"))
            assert found == times
