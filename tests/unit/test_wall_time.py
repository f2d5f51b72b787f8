"""Where clocks change: cron expressions against a stepper of their own, and against cronsim."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_dispatch import cron, rrule
from celery_dispatch.core.recurrence import Nominal

ZONES = ("America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Tokyo")
BEGIN, END = datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2034, 1, 1, tzinfo=timezone.utc)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FIXED = ("30 2 * * *", "15 1 * * *", "0,45 1,2,3 * * *", "59 23 * * *", "5 0 * * 0")
INTERVALS = ("*/20 * * * *", "30 * * * *", "*/30 1,2 * * *", "15 */2 * * *")


# --- the oracle: every minute around every change, by the wall clock ----------------------------------------


@cache
def changes(zone_name: str) -> tuple[datetime, ...]:
    """The hours of ten years after which the zone's offset is another."""
    zone, found, hour = ZoneInfo(zone_name), [], BEGIN
    while hour < END:
        if hour.astimezone(zone).utcoffset() != (hour + HOUR).astimezone(zone).utcoffset():
            found.append(hour)
        hour += HOUR
    return tuple(found)


def windows(zone_name: str) -> list[tuple[datetime, datetime]]:
    """Half a day around each change; a day of each year where there is none."""
    around = changes(zone_name) or tuple(
        datetime(year, 1, 3, tzinfo=timezone.utc) for year in range(2024, 2034)
    )
    return [(change - 6 * HOUR, change + 8 * HOUR) for change in around]


@cache
def minutes(zone_name: str, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute of a window, and what the wall clock shows then."""
    zone, count = ZoneInfo(zone_name), (end - begin) // MINUTE
    instants = [begin + n * MINUTE for n in range(count + 1)]
    return [(instant, instant.astimezone(zone).replace(tzinfo=None, fold=0)) for instant in instants]


def fits(expression: str) -> Callable[[datetime], bool]:
    minute, hour, _, _, weekday = (_values(field) for field in expression.split())
    return lambda t: (
        (minute is None or t.minute in minute)
        and (hour is None or t.hour in hour)
        and (weekday is None or t.isoweekday() % 7 in weekday)
    )


def _values(field: str) -> set[int] | None:
    if field == "*":
        return None
    if field.startswith("*/"):
        return set(range(0, 60, int(field[2:])))
    return set(map(int, field.split(",")))


def stepped(
    expression: str, zone: str, begin: datetime, end: datetime, *, shift: bool = True, both: bool = False
) -> list[datetime]:
    """The dues by going through every minute; nothing is repeated or skipped in the first of them."""
    fitting, seen, dues = fits(expression), set(), []
    before = minutes(zone, begin, end)[0][1]
    for instant, local in minutes(zone, begin, end)[1:]:
        skipped = [before + n * MINUTE for n in range(1, (local - before) // MINUTE)]
        if (shift and any(map(fitting, skipped))) or (fitting(local) and (both or local not in seen)):
            dues.append(instant)
        seen.add(local)
        before = local
    return dues


def walked(recurrence: Nominal, begin: datetime, end: datetime) -> list[datetime]:
    dues, due = [], recurrence.following(begin, begin)
    while due is not None and due <= end:
        dues.append(due)
        due = recurrence.following(due, due)
    return dues


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("gap", "fold"), [("shift", "first"), ("shift", "both"), ("skip", "first")])
def test_dues_around_every_change_are_those_of_the_wall_clock(zone: str, gap: str, fold: str) -> None:
    assert len(changes(zone)) == (0 if zone == "Asia/Tokyo" else 20)
    for expression in FIXED + INTERVALS:
        recurrence = cron(expression, timezone=zone, gap=gap, fold=fold).recurrence(timezone.utc, "e")
        both = fold == "both" or expression in INTERVALS
        for begin, end in windows(zone):
            expected = stepped(expression, zone, begin, end, shift=gap == "shift", both=both)
            assert walked(recurrence, begin, end) == expected


@cache
def known(expression: str, zone: str, number: int) -> tuple[Nominal, datetime, datetime, list[datetime]]:
    begin, end = windows(zone)[number]
    recurrence = cron(expression, timezone=zone).recurrence(timezone.utc, "e")
    return recurrence, begin, end, stepped(expression, zone, begin, end, both=expression in INTERVALS)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(ZONES[:3]),
    st.sampled_from(FIXED + INTERVALS),
    st.integers(0, 9),
    st.integers(0, 14 * 3600_000),
)
def test_the_due_after_any_instant_is_the_first_one_later(
    zone: str, expression: str, number: int, milliseconds: int
) -> None:
    recurrence, begin, end, dues = known(expression, zone, number)
    after = begin + timedelta(milliseconds=milliseconds)
    found, place = recurrence.following(after, after), bisect_right(dues, after)
    assert found is not None
    assert found == dues[place] if place < len(dues) else found > end


# --- cronsim ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "15 1 * * 0", "0 12 * * 5#3"])
def test_fixed_times_of_ten_years_are_those_of_debians_cron(zone: str, expression: str) -> None:
    """cronsim follows Debian's cron, in its own code."""
    begin = BEGIN.astimezone(ZoneInfo(zone))
    theirs = []
    for due in CronSim(expression, begin):
        if due >= END:
            break
        theirs.append(due.astimezone(timezone.utc))
    recurrence = cron(expression, timezone=zone).recurrence(timezone.utc, "e")
    assert [due for due in walked(recurrence, BEGIN, END) if due < END] == theirs


# --- single cases -------------------------------------------------------------------------------------------


def local_dues(schedule: cron | rrule, zone: str, day: datetime, days: int = 1) -> list[str]:
    begin = day.replace(tzinfo=ZoneInfo(zone)) - timedelta(milliseconds=1)
    end = (day + timedelta(days=days)).replace(tzinfo=ZoneInfo(zone)) - timedelta(milliseconds=1)
    recurrence = schedule.recurrence(ZoneInfo(zone), "e")
    dues = walked(recurrence, begin.astimezone(timezone.utc), end.astimezone(timezone.utc))
    return [due.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z") for due in dues]


SPRING, AUTUMN = datetime(2026, 3, 8), datetime(2026, 11, 1)  # noqa: DTZ001 — in New York


def test_a_time_in_the_gap_runs_once_when_the_gap_ends() -> None:
    assert local_dues(cron("0,30 2 * * *"), "America/New_York", SPRING) == ["08 03:00 -0400"]
    assert local_dues(cron("0,30 2 * * *", gap="skip"), "America/New_York", SPRING) == []
    assert local_dues(cron("30 2 * * *"), "Antarctica/Troll", datetime(2026, 3, 29)) == ["29 03:00 +0200"]  # noqa: DTZ001


def test_a_fixed_time_of_the_repeated_hour_runs_the_first_time() -> None:
    assert local_dues(cron("30 1 * * *"), "America/New_York", AUTUMN) == ["01 01:30 -0400"]
    assert local_dues(cron("30 1 * * *", fold="both"), "America/New_York", AUTUMN) == [
        "01 01:30 -0400", "01 01:30 -0500",
    ]  # fmt: skip


def test_an_interval_runs_through_the_repeated_hour() -> None:
    assert local_dues(cron("*/30 0-2 * * *"), "America/New_York", AUTUMN) == [
        "01 00:00 -0400", "01 00:30 -0400", "01 01:00 -0400", "01 01:30 -0400",
        "01 01:00 -0500", "01 01:30 -0500", "01 02:00 -0500", "01 02:30 -0500",
    ]  # fmt: skip


def test_a_rule_keeps_the_wall_clock_where_clocks_change() -> None:
    daily = rrule("FREQ=DAILY", dtstart="2026-01-01T02:30:00")
    assert local_dues(daily, "America/New_York", datetime(2026, 3, 7), 3) == [  # noqa: DTZ001
        "07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400",
    ]  # fmt: skip
    hourly = rrule("FREQ=HOURLY;INTERVAL=1;BYHOUR=1", dtstart="2026-01-01T00:15:00")
    assert local_dues(hourly, "America/New_York", AUTUMN) == ["01 01:15 -0400", "01 01:15 -0500"]


def documented() -> Iterator[tuple[str, datetime, list[str]]]:
    """Expression, day and times of each cell of the table that tells what happens where clocks change."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "schedules.md"
    _, _, table = page.read_text().partition("\n| in New York, 2026 |")
    head, _, *rows = table.partition("\n\n")[0].splitlines()
    for day, row in zip((SPRING, AUTUMN), rows, strict=True):
        cells = row.strip("|").split("|")[1:]
        for expression, cell in zip(re.findall(r"`([^`]+)`", head), cells, strict=True):
            yield expression, day, [f"{time:0>5}" for time in re.findall(r"\d+:\d\d", cell)]


@pytest.mark.parametrize(("expression", "day", "listed"), list(documented()), ids=str)
def test_the_table_of_the_reference_is_right(expression: str, day: datetime, listed: list[str]) -> None:
    dues = [due.split()[1] for due in local_dues(cron(expression), "America/New_York", day)]
    assert [due for due in dues if listed[0] <= due <= max(listed)] == listed


def test_a_day_that_a_zone_skips_runs_when_it_is_over() -> None:
    """Samoa had no 30 December 2011."""
    noon = cron("0 12 * * *")
    assert local_dues(noon, "Pacific/Apia", datetime(2011, 12, 29), 3) == [  # noqa: DTZ001
        "29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400",
    ]  # fmt: skip


def test_a_zone_that_only_knows_its_offset_will_do() -> None:
    class Bare(tzinfo):
        """A zone that knows nothing of folds."""

        def utcoffset(self, moment: datetime | None) -> timedelta:
            raise NotImplementedError

        def dst(self, moment: datetime | None) -> timedelta:
            raise NotImplementedError

        def tzname(self, moment: datetime | None) -> str:
            return "bare"

        def fromutc(self, moment: datetime) -> datetime:
            offset = moment.replace(tzinfo=timezone.utc).astimezone(ZoneInfo("America/New_York")).utcoffset()
            assert offset is not None
            return (moment + offset).replace(tzinfo=timezone(offset))

    for begin, end in windows("America/New_York")[:4]:
        for expression in ("30 2 * * *", "*/20 * * * *", "15 1 * * *"):
            bare, full = (
                cron(expression).recurrence(Bare(), "e"),
                cron(expression, timezone="America/New_York"),
            )
            assert walked(bare, begin, end) == walked(full.recurrence(timezone.utc, "e"), begin, end)


# --- fast ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FIXED + INTERVALS), st.integers(0, 40 * 86_400), st.integers(1, 4 * 86_400))
def test_latest_and_following_agree(expression: str, start: int, span: int) -> None:
    recurrence = cron(expression, timezone="America/New_York").recurrence(timezone.utc, "e")
    last = datetime(2026, 2, 20, tzinfo=timezone.utc) + timedelta(seconds=start)
    now = last + timedelta(seconds=span)
    dues = walked(recurrence, last, now)
    assert recurrence.latest(last, now) == ((dues[-1], len(dues) - 1) if dues else None)


def test_latest_does_not_step_through_a_long_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    recurrence = cron("*/10 * * * * *").recurrence(timezone.utc, "e")
    calls = []
    following = type(recurrence)._following  # type: ignore[attr-defined]
    monkeypatch.setattr(
        type(recurrence), "_following", lambda self, after: (calls.append(1), following(self, after))[1]
    )
    assert recurrence.latest(BEGIN, END + timedelta(seconds=5)) == (END, 1000)
    assert len(calls) < 1100
