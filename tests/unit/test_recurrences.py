"""Celery's schedules as recurrences, against brute force, celery's own answers and another cron library."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule, solar
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celery_dispatch.celery_bridge.recurrences import Interval, Recurrences, recurrence_of
from celery_dispatch.core.recurrence import Nominal, Polled, is_polled
from celery_dispatch.errors import EntryError

UTC = timezone.utc
MS = timedelta(milliseconds=1)
ZONES = ("Europe/Paris", "America/New_York", "UTC", "Australia/Lord_Howe")
quick = settings(max_examples=60, deadline=None)


def make_app(zone: str = "UTC", **conf: Any) -> Celery:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.update(timezone=zone, **conf)
    return app


APPS = {zone: make_app(zone) for zone in ZONES}
instants = st.integers(1_672_531_200_000, 1_798_761_600_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + ms * MS
)
near_changes = st.builds(
    lambda change, minutes: change + timedelta(minutes=minutes),
    st.sampled_from(
        [
            datetime(2025, 3, 30, 1, tzinfo=UTC),
            datetime(2025, 10, 26, 1, tzinfo=UTC),
            datetime(2025, 3, 9, 7, tzinfo=UTC),
            datetime(2025, 11, 2, 6, tzinfo=UTC),
            datetime(2025, 4, 5, 15, tzinfo=UTC),
            datetime(2025, 10, 4, 15, 30, tzinfo=UTC),
        ]
    ),
    st.integers(-300, 300),
)
cron_fields = st.tuples(
    st.sampled_from(["*", "0", "*/15", "30", "15,45", "7,8,59"]),
    st.sampled_from(["*", "2", "1-3", "*/6", "0,23"]),
    st.sampled_from(["*", "*", "1", "28-31", "29"]),
    st.sampled_from(["*", "*", "2", "3,10"]),
    st.sampled_from(["*", "*", "mon-fri", "0"]),
)


def cron(fields: tuple[str, ...]) -> crontab:
    minute, hour, day, month, weekday = fields
    return crontab(minute, hour, weekday, day, month)


def steps(recurrence: Any, last: datetime, now: datetime, most: int = 20_000) -> list[datetime]:
    """Every due in (last, now], one by one."""
    dues: list[datetime] = []
    due = recurrence.following(last, last)
    while due <= now:
        assert due > last and due.tzinfo is UTC and due.microsecond % 1000 == 0
        dues.append(due)
        assert len(dues) < most
        last, due = due, recurrence.following(due, due)
    return dues


def agrees(recurrence: Any, last: datetime, now: datetime) -> None:
    """``latest`` is the last element of stepping, with its count."""
    dues = steps(recurrence, last, now)
    expected = (dues[-1], min(len(dues) - 1, 1000)) if dues else None
    assert recurrence.latest(last, now) == expected


# --- intervals ----------------------------------------------------------------------------------------------


@quick
@given(instants, st.integers(1, 5_000_000_000), st.integers(0, 50_000))
def test_interval_following_is_the_first_grid_point_after(
    last: datetime, every_us: int, later_ms: int
) -> None:
    recurrence: Any = recurrence_of(timedelta_schedule(every_us), APPS["UTC"])
    after = last + later_ms * MS
    due = recurrence.following(last, after)
    step = recurrence.following(last, last) - last
    assert due > after and due - step <= after
    assert (due - last) % step == timedelta(0)
    assert timedelta(0) <= step - timedelta(microseconds=every_us) < MS


def timedelta_schedule(microseconds: int) -> schedule:
    return schedule(timedelta(microseconds=microseconds))


@quick
@given(instants, st.integers(1, 3000), st.integers(0, 20_000))
def test_interval_latest_counts_what_stepping_finds(last: datetime, every_ms: int, gap_ms: int) -> None:
    recurrence: Any = recurrence_of(schedule(every_ms / 1000), APPS["UTC"])
    now = last + gap_ms * MS
    dues = list(takewhile(lambda due: due <= now, (last + k * every_ms * MS for k in range(1, 20_002))))
    assert recurrence.latest(last, now) == ((dues[-1], len(dues) - 1) if dues else None)


@pytest.mark.parametrize("every", [0, -3, timedelta(0), timedelta(seconds=-1)])
def test_interval_that_is_not_positive_is_refused(every: Any) -> None:
    with pytest.raises(EntryError, match="not positive"):
        recurrence_of(schedule(every), APPS["UTC"])


@pytest.mark.parametrize("bad", ["hourly", object(), 5, None])
def test_what_is_no_schedule_is_refused(bad: Any) -> None:
    with pytest.raises(EntryError, match="no schedule"):
        recurrence_of(bad, APPS["UTC"])


def test_interval_without_a_value_is_refused() -> None:
    with pytest.raises(EntryError, match="neither a number"):
        recurrence_of(schedule(None), APPS["UTC"])


def test_interval_that_never_ends_is_an_error_of_the_entry() -> None:
    recurrence: Any = recurrence_of(schedule(timedelta.max), APPS["UTC"])
    now = datetime(2025, 1, 1, tzinfo=UTC)
    assert recurrence.latest(now, now + timedelta(days=1)) is None
    with pytest.raises(EntryError):
        recurrence.following(now, now)


def test_interval_subclass_keeps_the_grid_of_its_last_due() -> None:
    class Named(schedule):
        pass

    recurrence: Any = recurrence_of(Named(10), APPS["Europe/Paris"])
    last = datetime(2025, 3, 30, tzinfo=UTC)
    assert isinstance(recurrence, Interval)
    assert recurrence.following(last, last + timedelta(seconds=15)) == last + timedelta(seconds=20)


# --- crontab ------------------------------------------------------------------------------------------------


@quick
@given(cron_fields, st.sampled_from(ZONES), st.one_of(instants, near_changes))
def test_crontab_dues_are_celerys_own_steps(fields: tuple[str, ...], zone: str, start: datetime) -> None:
    app = APPS[zone]
    recurrence: Any = recurrence_of(cron(fields), app)
    own = cron(fields)
    due = recurrence.following(start, start)
    for _ in range(12):
        local = due.astimezone(app.timezone)
        own.app, own.nowfun = app, lambda local=local: local
        expected = due + own.remaining_estimate(local)
        following = recurrence.following(due, due)
        assert following > due
        assert following == expected
        due = following


@quick
@given(cron_fields, st.sampled_from(ZONES), near_changes, st.integers(0, 2000), st.integers(0, 2000))
def test_crontab_dues_do_not_depend_on_where_they_are_looked_for_from(
    fields: tuple[str, ...], zone: str, start: datetime, early: int, late: int
) -> None:
    recurrence: Any = recurrence_of(cron(fields), APPS[zone])
    far_before = start - timedelta(days=3)
    after = start + timedelta(minutes=early)
    until = after + timedelta(minutes=late)
    expected = [due for due in steps(recurrence, far_before, until) if due > after]
    assert steps(recurrence, after, until) == expected
    if expected:
        assert recurrence.following(far_before, after) == expected[0]


@quick
@given(cron_fields, instants)
def test_crontab_dues_are_those_of_another_cron_library(fields: tuple[str, ...], start: datetime) -> None:
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        weekday = "*"  # cron means "or" here, celery "and"
    recurrence: Any = recurrence_of(crontab(minute, hour, weekday, day, month), APPS["UTC"])
    other = CronSim(f"{minute} {hour} {day} {month} {weekday}", start)
    due = start
    for _ in range(10):
        due = recurrence.following(due, due)
        assert due == next(other)


def test_a_crontab_that_is_seconds_late_is_not_asked_whether_it_was_due_since() -> None:
    recurrence = recurrence_of(crontab("*"), APPS["UTC"])
    assert isinstance(recurrence, Nominal)
    recurrence._ask = None  # type: ignore[union-attr,attr-defined]
    due = datetime(2025, 1, 1, 12, tzinfo=UTC)
    assert recurrence.latest(due, due + timedelta(seconds=59.999)) is None


def test_a_crontab_is_due_within_the_minute_of_an_anchor() -> None:
    recurrence = recurrence_of(crontab("*"), APPS["UTC"])
    assert isinstance(recurrence, Nominal)
    anchor = datetime(2025, 1, 1, 12, 0, 40, tzinfo=UTC)
    assert recurrence.latest(anchor, anchor + timedelta(seconds=30)) == (anchor + timedelta(seconds=20), 0)


@quick
@given(cron_fields, st.sampled_from(ZONES), st.one_of(instants, near_changes), st.integers(0, 6 * 86_400))
def test_crontab_latest_is_the_last_step(
    fields: tuple[str, ...], zone: str, last: datetime, gap: int
) -> None:
    agrees(recurrence_of(cron(fields), APPS[zone]), last, last + timedelta(seconds=gap))


def test_crontab_runs_a_fixed_time_once_in_the_repeated_hour() -> None:
    recurrence: Any = recurrence_of(crontab("30", "2"), APPS["Europe/Paris"])
    night = datetime(2025, 10, 25, 12, tzinfo=UTC)
    assert steps(recurrence, night, night + timedelta(days=1)) == [datetime(2025, 10, 26, 0, 30, tzinfo=UTC)]
    within = datetime(2025, 10, 26, 1, 5, tzinfo=UTC)  # 02:05 for the second time
    assert recurrence.following(within, within) == datetime(2025, 10, 27, 1, 30, tzinfo=UTC)


def test_crontab_in_the_gap_is_due_after_it_even_when_asked_from_after_it() -> None:
    recurrence: Any = recurrence_of(crontab("30", "2"), APPS["Europe/Paris"])
    after_gap = datetime(2025, 3, 30, 1, 10, tzinfo=UTC)  # 03:10
    assert recurrence.following(after_gap, after_gap) == datetime(2025, 3, 30, 1, 30, tzinfo=UTC)


def test_crontab_asks_in_the_apps_zone() -> None:
    recurrence: Any = recurrence_of(crontab("0", "8"), APPS["America/New_York"])
    last = datetime(2025, 7, 1, tzinfo=UTC)
    assert recurrence.following(last, last) == datetime(2025, 7, 1, 12, tzinfo=UTC)


def test_crontab_gap_of_a_month_costs_few_questions() -> None:
    asked = 0

    class Counting(crontab):
        def remaining_delta(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            return super().remaining_delta(*args, **kwargs)

    recurrence: Any = recurrence_of(Counting(), APPS["Europe/Paris"])
    last = datetime(2025, 1, 1, tzinfo=UTC)
    now = last + timedelta(days=30, seconds=30)
    assert recurrence.latest(last, now) == (now - timedelta(seconds=30), 1000)
    assert asked <= 1100


def test_equal_crontabs_share_one_recurrence_and_its_arithmetic() -> None:
    known = Recurrences(APPS["UTC"])
    first = known.of(crontab("*/15"))
    assert known.of(crontab([0, 15, 30, 45])) is first
    assert known.of(crontab("*/20")) is not first
    assert known.of(schedule(5)) is known.of(schedule(timedelta(seconds=5)))
    assert known.of(schedule(60)) is not known.of(schedule(60, relative=True))

    class Other(crontab):
        pass

    assert Other("*/15") == crontab("*/15") and known.of(Other("*/15")) is not first


def test_users_schedule_is_not_touched() -> None:
    own = crontab("0", app=make_app("UTC"))
    before = dict(vars(own))
    recurrence: Any = recurrence_of(own, APPS["Europe/Paris"])
    last = datetime(2025, 1, 1, tzinfo=UTC)
    recurrence.following(last, last)
    assert vars(own) == before


def test_cached_zone_of_another_app_is_not_used() -> None:
    own = crontab("0", "8", app=APPS["UTC"])
    assert own.tz == ZoneInfo("UTC")
    recurrence: Any = recurrence_of(own, APPS["America/New_York"])
    last = datetime(2025, 7, 1, tzinfo=UTC)
    assert recurrence.following(last, last) == datetime(2025, 7, 1, 12, tzinfo=UTC)


# --- relative -----------------------------------------------------------------------------------------------


@quick
@given(st.sampled_from(["Europe/Paris", "America/New_York"]), st.one_of(instants, near_changes))
def test_relative_day_falls_on_local_midnight(zone: str, start: datetime) -> None:
    recurrence: Any = recurrence_of(schedule(timedelta(days=1), relative=True), APPS[zone])
    for due in steps(recurrence, start, start + timedelta(days=5)):
        local = due.astimezone(ZoneInfo(zone))
        assert (local.hour, local.minute, local.second) == (0, 0, 0)


@quick
@given(
    st.sampled_from(["1 d", "2 d", "36 h", "1 h", "2 h", "90 m", "1 m", "5 m", "90 s"]),
    st.sampled_from(["Europe/Paris", "UTC"]),
    instants,
    st.integers(0, 10_000),
    st.floats(0, 1),
)
def test_relative_dues_stay_on_the_grid_of_the_last(
    every: str, zone: str, last: datetime, minutes: int, part: float
) -> None:
    number, unit = every.split()
    length = timedelta(seconds=int(number) * {"d": 86_400, "h": 3600, "m": 60, "s": 1}[unit])
    recurrence: Any = recurrence_of(schedule(length, relative=True), APPS[zone])
    now = last + min(timedelta(minutes=minutes), length * 1500)
    if has_clock_change(zone, last, now) and unit == "h":
        return  # celery's own grid of several hours shifts there by version
    dues = steps(recurrence, last, now)
    after = last + (now - last) // MS * part * MS
    assert recurrence.following(last, after) == next(
        (due for due in dues if due > after), recurrence.following(last, now)
    )
    agrees(recurrence, last, now)


def has_clock_change(zone: str, start: datetime, end: datetime) -> bool:
    there = ZoneInfo(zone)
    end += timedelta(days=3)
    return start.astimezone(there).utcoffset() != end.astimezone(there).utcoffset()


@quick
@given(near_changes, st.sampled_from([1, 60, 3600]), st.sampled_from(["Europe/Paris", "America/New_York"]))
@example(datetime(2025, 10, 26, 1, 10, tzinfo=UTC), 60, "Europe/Paris")
def test_relative_intervals_go_on_where_clocks_change(start: datetime, every: int, zone: str) -> None:
    recurrence: Any = recurrence_of(schedule(every, relative=True), APPS[zone])
    due = start
    for _ in range(60):
        following = recurrence.following(due, due)
        assert due < following <= due + timedelta(hours=2)
        due = following


def test_relative_interval_under_a_second_is_refused() -> None:
    with pytest.raises(EntryError, match="under a second"):
        recurrence_of(schedule(0.5, relative=True), APPS["UTC"])


# --- solar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["sunrise", "solar_noon", "sunset", "dusk_civil"])
@pytest.mark.parametrize(("lat", "zone"), [(0, "UTC"), (48.85, "Europe/Paris"), (-33.9, "America/New_York")])
def test_solar_event_of_a_year_never_repeats(event: str, lat: float, zone: str) -> None:
    recurrence: Any = recurrence_of(solar(event, lat, 2.35), APPS[zone])
    start = datetime(2025, 1, 1, tzinfo=UTC)
    dues = steps(recurrence, start, start + timedelta(days=365))
    gaps = [later - earlier for earlier, later in pairwise(dues)]
    assert min(gaps) > timedelta(hours=23) and max(gaps) < timedelta(hours=25)
    assert len(dues) in (364, 365, 366)
    for due in dues[::7]:  # found from elsewhere, the event is still the same one
        other = recurrence.following(start, due - timedelta(hours=5))
        assert recurrence.following(other, other) - due > timedelta(hours=23)


class Wobbling(solar):
    """Noon of each day, found a tenth of a second later when it is looked for from noon itself."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        noon = last_run_at.replace(hour=12, minute=0, second=0, microsecond=0)
        wobble = timedelta(seconds=0.1)
        if noon <= last_run_at < noon + wobble:
            return noon + wobble - self.now()
        return (noon if last_run_at < noon else noon + timedelta(days=1)) - self.now()


def test_solar_event_that_is_found_a_little_later_is_the_same_event() -> None:
    recurrence: Any = recurrence_of(Wobbling("sunset", 1, 2), APPS["UTC"])
    noon = datetime(2025, 1, 1, 12, tzinfo=UTC)
    assert recurrence.following(noon, noon) == noon + timedelta(days=1)


def test_solar_latest_is_the_last_event() -> None:
    recurrence: Any = recurrence_of(solar("sunset", 48.85, 2.35), APPS["Europe/Paris"])
    last = datetime(2025, 1, 1, tzinfo=UTC)
    agrees(recurrence, last, last + timedelta(days=100, hours=3))
    far = last + timedelta(days=1500)
    due, passed = recurrence.latest(last, far)
    assert passed == 1000 and timedelta(0) <= far - due < timedelta(hours=25)


def test_users_solar_observer_is_not_touched() -> None:
    own = solar("sunset", 48.85, 2.35)
    date = own.cal.date
    recurrence: Any = recurrence_of(own, APPS["UTC"])
    last = datetime(2030, 1, 1, tzinfo=UTC)
    recurrence.following(last, last)
    assert own.cal.date == date


# --- users' classes -----------------------------------------------------------------------------------------


class EveryOther(BaseSchedule):
    """Knows only its estimate."""

    is_due = schedule.is_due

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return last_run_at + timedelta(seconds=7, microseconds=100) - self.now()


class Stuck(EveryOther):
    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return timedelta(0)


class Failing(EveryOther):
    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        raise LookupError("no calendar")


LAST = datetime(2025, 1, 1, tzinfo=UTC)


def test_class_with_an_estimate_is_nominal_and_rounded_up() -> None:
    recurrence = recurrence_of(EveryOther(), APPS["UTC"])
    assert isinstance(recurrence, Nominal)
    assert recurrence.following(LAST, LAST) == LAST + timedelta(seconds=7, milliseconds=1)
    agrees(recurrence, LAST, LAST + timedelta(minutes=3))


@pytest.mark.parametrize(("kind", "words"), [(Stuck, "as next after"), (Failing, "no calendar")])
def test_class_that_gives_no_later_instant_is_an_error(kind: type[BaseSchedule], words: str) -> None:
    recurrence: Any = recurrence_of(kind(), APPS["UTC"])
    with pytest.raises(EntryError, match=words):
        recurrence.following(LAST, LAST)


def test_class_that_knows_nothing_is_refused() -> None:
    with pytest.raises(EntryError, match="neither"):
        recurrence_of(BaseSchedule(), APPS["UTC"])


class Window(BaseSchedule):
    """Knows only whether it is due."""

    answer: Any = None

    def is_due(self, last_run_at: datetime) -> Any:
        if self.answer is not None:
            return self.answer
        late = self.now() - last_run_at
        return late >= timedelta(seconds=5), 5 - late.total_seconds()


def test_class_with_its_own_is_due_is_polled_on_the_given_time() -> None:
    recurrence = recurrence_of(Window(), APPS["Europe/Paris"])
    assert isinstance(recurrence, Polled)
    assert recurrence.poll(LAST, LAST + timedelta(seconds=2)) == (False, timedelta(seconds=3))
    assert recurrence.poll(LAST, LAST + timedelta(seconds=6)) == (True, timedelta(milliseconds=10))


@pytest.mark.parametrize("polled", [True, False])
def test_whether_a_recurrence_is_polled_is_told_as_isinstance_tells_it(polled: bool) -> None:
    recurrence = recurrence_of(Window() if polled else crontab("5"), APPS["UTC"])
    assert is_polled(recurrence) is isinstance(recurrence, Polled) is polled
    assert isinstance(recurrence, Nominal) is not polled


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (float("inf"), 300),
        (float("nan"), 300),
        (-1, 0.01),
        (None, 300),
        (1e9, 300),
        (timedelta(seconds=2), 2),
    ],
)
def test_wait_of_a_polled_class_is_kept_within_bounds(wait: Any, seconds: float) -> None:
    own = Window()
    own.answer = (False, wait)
    recurrence: Any = recurrence_of(own, APPS["UTC"])
    assert recurrence.poll(LAST, LAST) == (False, timedelta(seconds=seconds))


def test_longest_poll_is_the_apps_loop_interval() -> None:
    own = Window()
    own.answer = (False, 999)
    recurrence: Any = recurrence_of(own, make_app(beat_max_loop_interval=20))
    assert recurrence.poll(LAST, LAST)[1] == timedelta(seconds=20)


@pytest.mark.parametrize("answer", [(False, "soon"), "x", 3, (True,), (1, 2, 3)])
def test_polled_class_that_answers_nonsense_is_an_error(answer: Any) -> None:
    own = Window()
    own.answer = answer
    recurrence: Any = recurrence_of(own, APPS["UTC"])
    with pytest.raises(EntryError, match="instead of"):
        recurrence.poll(LAST, LAST)


def test_schedule_with_its_own_clock_is_asked_in_that_clocks_zone() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    daily: Any = recurrence_of(
        schedule(timedelta(days=1), relative=True, nowfun=lambda: datetime.now(tokyo)), APPS["UTC"]
    )
    assert daily.following(LAST, LAST) == datetime(2025, 1, 1, 15, tzinfo=UTC)
