"""The catalog that is read from ``beat_schedule``."""

from __future__ import annotations

import copy
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, ScheduleEntry
from celery.schedules import crontab, schedule, solar

from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.payload import payload_of
from celery_dispatch.celery_bridge.recurrences import Interval
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Catalog, CatchUp, Entry
from celery_dispatch.errors import ConfigError

LAST = datetime(2025, 1, 1, tzinfo=timezone.utc)


def make_app(beat_schedule: Any = None, **conf: Any) -> Celery:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.update(result_expires=None, beat_schedule=beat_schedule or {}, **conf)
    return app


def catalog(beat_schedule: Any = None, **conf: Any) -> Catalog:
    app = make_app(beat_schedule, **conf)
    return catalog_of(app, Config.from_app(app))


def item(**changed: Any) -> dict[str, Any]:
    return {"task": "t.a", "schedule": 5, **changed}


def test_every_kind_of_schedule_becomes_an_entry() -> None:
    kinds = {
        "number": 5,
        "float": 0.5,
        "timedelta": timedelta(minutes=1),
        "schedule": schedule(3, relative=True),
        "crontab": crontab(),
        "solar": solar("sunset", 1, 2),
    }
    found = catalog({name: item(schedule=kind) for name, kind in kinds.items()})
    assert dict(found.broken) == {}
    assert set(found.entries) == set(kinds)
    assert all(name == entry.name for name, entry in found.entries.items())
    assert found.entries["float"].recurrence == Interval(500)


def stock_entry(entry: Entry, app: Celery) -> ScheduleEntry:
    return payload_of(entry).entry(entry.name, app, last_run_at=LAST)


def test_payload_makes_the_entry_that_stock_beat_would_have_made() -> None:
    given = item(args=(1, 2), kwargs={"a": 1}, options={"queue": "q", "headers": {"x": 1}})
    app = make_app()
    made: Any = stock_entry(catalog({"a": given}).entries["a"], app)
    assert type(made) is ScheduleEntry
    assert (made.name, made.task, made.args, made.kwargs) == ("a", "t.a", (1, 2), {"a": 1})
    assert made.options == {"queue": "q", "headers": {"x": 1}}
    assert (made.app, made.last_run_at, made.total_run_count) == (app, LAST, 0)


def test_users_dicts_are_not_changed() -> None:
    given = {"a": item(options={"headers": {}}, dispatch={"catch_up": "all"}), "b": item(relative=True)}
    before = copy.deepcopy(given)
    catalog(given)
    assert given == before


def test_relative_key_makes_a_relative_interval() -> None:
    found = catalog({"a": item(schedule=86_400, relative=True)}, timezone="Europe/Paris")
    recurrence: Any = found.entries["a"].recurrence
    assert recurrence.following(LAST, LAST) == datetime(2025, 1, 1, 23, tzinfo=timezone.utc)


def test_schedule_entry_objects_are_taken_as_stock_beat_takes_them() -> None:
    app = make_app()
    own = ScheduleEntry("other", "t.a", schedule=crontab("5"), args=(1,), app=app)
    app.conf.beat_schedule = {"a": own}
    found = catalog_of(app, Config.from_app(app))
    made: Any = stock_entry(found.entries["a"], app)
    assert (made.name, made.task, made.args) == ("a", "t.a", (1,))
    assert own.name == "other"


def test_periodic_tasks_added_in_code_are_entries() -> None:
    app = make_app()

    @app.task(name="t.b")
    def work(number: int) -> None: ...

    @app.on_after_configure.connect
    def add(sender: Celery, **_: Any) -> None:
        sender.add_periodic_task(10, work.s(1), name="added", expires=5)

    payload: Any = catalog_of(app, Config.from_app(app)).entries["added"].payload
    assert (payload.task, payload.args, payload.options["expires"]) == ("t.b", (1,), 5)


# --- the backend's clean-up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("expires", [None, 0, 3600])
@pytest.mark.parametrize("backend", [None, "cache+memory://", "file:///tmp"])
@pytest.mark.parametrize("own", [False, True])
def test_clean_up_is_installed_exactly_when_stock_beat_does(
    expires: int | None, backend: str | None, own: bool, tmp_path: Path
) -> None:
    app = Celery("t", broker="redis://", backend=backend, set_as_current=False)
    app.conf.update(result_expires=expires)
    if own:
        app.conf.beat_schedule = {"celery.backend_cleanup": item()}
    stock = PersistentScheduler(app, schedule_filename=str(tmp_path / "beat"))
    expected = dict(stock.schedule)
    stock.close()
    found = catalog_of(app, Config.from_app(app))
    assert set(found.entries) == set(expected)
    for name, entry in found.entries.items():
        assert stock_entry(entry, app) == expected[name]


def test_backend_that_cannot_be_loaded_breaks_the_clean_up_only() -> None:
    app = Celery("t", broker="redis://", backend="nothing://", set_as_current=False)
    app.conf.beat_schedule = {"a": item()}
    found = catalog_of(app, Config.from_app(app))
    assert set(found.entries) == {"a"} and set(found.broken) == {"celery.backend_cleanup"}


# --- one bad entry ------------------------------------------------------------------------------------------


class Unreadable:
    app = None

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("unreadable")


BAD = {
    "no task": ({"schedule": 5}, "task = None"),
    "task object": (item(task=len), "must be the name of a task"),
    "no schedule": ({"task": "t"}, "there is no schedule"),
    "text schedule": (item(schedule="* * * * *"), "cannot be used"),
    "zero": (item(schedule=0), "not positive"),
    "unknown key": (item(kwarg={}), "did you mean 'kwargs'?"),
    "not a dict": (["t", 5], "the entry is a list"),
    "number as args": (item(args=5), "args = 5"),
    "list as kwargs": (item(kwargs=[1]), "kwargs = [1]"),
    "text as options": (item(options="q"), "options = 'q'"),
    "unreadable": (item(schedule=Unreadable()), "unreadable"),
    "dispatch text": (item(dispatch="all"), "must be a dict"),
    "dispatch key": (item(dispatch={"catchup": "all"}), "did you mean 'catch_up'?"),
    "dispatch policy": (item(dispatch={"catch_up": "some"}), "must be 'latest', 'all' or 'none'"),
    "dispatch window": (item(dispatch={"catch_up_window": "1h"}), "number of seconds"),
    "x" * 501: (item(), "501 bytes"),
    "é" * 251: (item(), "502 bytes"),
    "": (item(), "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_entry_is_named_with_its_reason_and_the_others_go_on(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    given, reason = BAD[name]
    with caplog.at_level(logging.WARNING):
        found = catalog({name: given, "good": item()})
    assert set(found.entries) == {"good"}
    assert list(found.broken) == [name] and reason in found.broken[name]
    assert name in found and "good" in found and "other" not in found
    [record] = [record for record in caplog.records if record.name.endswith("entries")]
    assert reason in record.getMessage() and name in record.getMessage()


@pytest.mark.parametrize("name", [5, None, "two\nlines", "half \ud800", "tab\t"])
def test_bad_name_is_refused_and_shown_on_one_line(name: Any) -> None:
    found = catalog({name: item(), "good": item()})
    assert set(found.entries) == {"good"} and list(found.broken) == [repr(name)]


def test_broken_entry_changes_the_fingerprint() -> None:
    assert catalog({"a": item()}).fingerprint != catalog({"a": item(), "b": {}}).fingerprint


def test_schedule_that_is_no_mapping_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="beat_schedule is a list"):
        catalog([item()])


# --- options of one entry -----------------------------------------------------------------------------------


def test_entry_takes_the_apps_policy_unless_it_has_its_own() -> None:
    found = catalog(
        {
            "plain": item(),
            "own": item(dispatch={"catch_up": "none", "catch_up_window": 30}),
            "unlimited": item(dispatch={"catch_up_window": None}),
        },
        dispatch_catch_up="all",
        dispatch_catch_up_window=timedelta(hours=1),
    ).entries
    minute = timedelta(seconds=60)
    assert (found["plain"].catch_up, found["plain"].catch_up_window) == (CatchUp.ALL, 60 * minute)
    assert (found["own"].catch_up, found["own"].catch_up_window) == (CatchUp.NONE, minute / 2)
    assert (found["unlimited"].catch_up, found["unlimited"].catch_up_window) == (CatchUp.ALL, None)
    assert len({entry.definition for entry in found.values()}) == 3


@pytest.mark.parametrize(("window", "expected"), [(None, 100), (30, 30), (500, 100)])
def test_cron_starting_deadline_limits_crontabs_only(window: int | None, expected: int) -> None:
    found = catalog(
        {"cron": item(schedule=crontab()), "interval": item()},
        beat_cron_starting_deadline=100,
        dispatch_catch_up_window=window,
    ).entries
    assert found["cron"].catch_up_window == timedelta(seconds=expected)
    assert found["interval"].catch_up_window == (None if window is None else timedelta(seconds=window))


def test_equal_schedules_share_one_recurrence() -> None:
    found = catalog({str(n): item(schedule=crontab("5")) for n in range(3)}).entries
    assert len({id(entry.recurrence) for entry in found.values()}) == 1


def test_catalog_is_equal_when_read_again() -> None:
    given = {"a": item(), "b": item(schedule=crontab("5"), args=(1,))}
    first, again = catalog(given), catalog(given)
    assert first.fingerprint == again.fingerprint
    assert [e.definition for e in first.entries.values()] == [e.definition for e in again.entries.values()]
