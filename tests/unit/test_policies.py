"""What an entry asks of this package: accepted, refused, and held to."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule

from celery_dispatch import EntryError, at, cron
from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.facets import facets_of
from celery_dispatch.config import Config
from celery_dispatch.core.entry import Entry
from celery_dispatch.core.recurrence import Between

UTC = timezone.utc
START = datetime(2026, 1, 1, tzinfo=UTC)
APP = Celery("t", broker="redis://", set_as_current=False)
OF = Definitions(APP, Config.from_app(APP))


class Asks(BaseSchedule):
    """A class that only knows whether it is due."""

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        return False, 5.0


def entry(schedule: Any = 10, **asked: Any) -> Entry:
    return OF.entry("e", {"task": "t.a", "schedule": schedule, "dispatch": asked})


def refusal(schedule: Any = 10, **asked: Any) -> str:
    with pytest.raises(EntryError) as refused:
        entry(schedule, **asked)
    return str(refused.value)


def test_an_entry_is_held_to_what_it_asks() -> None:
    found = entry(
        start=START, end="2026-02-01T01:00:00+01:00", count=5, jitter=2.5, remove_when_completed=True,
        description="words", labels={"team": "a"},
    )  # fmt: skip
    assert isinstance(found.recurrence, Between)
    assert (found.recurrence.start, found.recurrence.end) == (START, datetime(2026, 2, 1, tzinfo=UTC))
    assert (found.count, found.jitter, found.remove_when_completed) == (5, timedelta(seconds=2.5), True)
    assert found.asked == {
        "start": "2026-01-01T00:00:00.000Z", "end": "2026-02-01T00:00:00.000Z", "count": 5, "jitter": 2.5,
        "remove_when_completed": True, "description": "words", "labels": {"team": "a"},
    }  # fmt: skip
    assert entry(**found.asked) is not found and entry(**found.asked).definition == found.definition


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"count": 0}, "dispatch option count = 0: must be a whole number of at least 1"),
        ({"count": True}, "dispatch option count = True: must be"),
        ({"count": 2.0}, "dispatch option count = 2.0: must be"),
        ({"jitter": -1}, "dispatch option jitter = -1: must be at least"),
        ({"jitter": "5"}, "dispatch option jitter = '5': must be a number of seconds or a timedelta"),
        ({"start": datetime(2026, 1, 1)}, "dispatch option start = .* lacks a time zone; use"),  # noqa: DTZ001
        ({"end": "soon"}, "dispatch option end = 'soon': is no instant; use"),
        (
            {"start": "2026-01-02T00:00:00Z", "end": START},
            "dispatch option end = .* is before its start; use",
        ),
        ({"description": 5}, "dispatch option description = 5: must be text"),
        ({"description": "x" * 10_001}, "at most 10,000 characters"),
        ({"labels": ["a"]}, "dispatch option labels = .*: must be a dict"),
        ({"labels": {"a": {1}}}, r"dispatch option labels\['a'\] = \{1\}: JSON cannot carry a set"),
        ({"labels": {1: 2}}, "dispatch option labels: the key 1 is a int; use text"),
        ({"remove_when_completed": 1}, "must be true or false"),
        ({"jiter": 5}, "dispatch option 'jiter' does not exist; did you mean 'jitter'"),
    ],
)
def test_what_cannot_be_is_refused_by_option_value_and_cure(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(EntryError, match=said):
        entry(**asked)


@pytest.mark.parametrize(
    ("when", "longest"),
    [(10, 10), (schedule(60, relative=True), 60), (crontab(minute="*/5"), 300), (cron("0 9,10 * * *"), 3600)],
)
def test_a_jitter_longer_than_the_period_is_refused(when: Any, longest: float) -> None:
    assert entry(when, jitter=longest).jitter == timedelta(seconds=longest)
    assert f"is longer than the {longest:g} s from one due to the next" in refusal(when, jitter=longest + 1)


def test_what_is_due_once_may_have_any_jitter() -> None:
    assert entry(at("2030-01-01T00:00:00Z"), jitter=3600).jitter == timedelta(hours=1)


@pytest.mark.parametrize("asked", [{"start": START}, {"end": START}, {"jitter": 1}])
def test_a_schedule_that_cannot_tell_its_dues_cannot_be_held_to_them(asked: dict[str, Any]) -> None:
    assert "give it a remaining_estimate() instead" in refusal(Asks(), **asked)
    assert entry(Asks(), count=2).count == 2


def test_an_interval_counts_from_its_start_and_a_cron_does_not() -> None:
    start = START + timedelta(seconds=3.2)
    for one in (entry(10, start=start), entry(schedule(10, relative=True), start=start)):
        recurrence: Any = one.recurrence
        assert recurrence.following(START, START) == start
    recurrence = entry(cron("*/10 * * * * *"), start=start).recurrence
    assert recurrence.following(START, START) == START + timedelta(seconds=10)


def test_words_for_people_are_not_part_of_the_definition() -> None:
    bare = entry()
    assert entry(description="x", labels={"a": 1}, remove_when_completed=True).definition == bare.definition
    changing: list[dict[str, Any]] = [{"count": 5}, {"jitter": 1}, {"start": START}, {"end": START}]
    assert len({bare.definition, *(entry(**asked).definition for asked in changing)}) == 5


def test_words_for_people_do_not_make_two_configs() -> None:
    def config(**asked: Any) -> tuple[str, dict[str, str]]:
        app = Celery("t", broker="redis://", set_as_current=False)
        app.conf.beat_schedule = {"e": {"task": "t.a", "schedule": 5, "dispatch": {"count": 3, **asked}}}
        catalog = catalog_of(app, Config.from_app(app))
        return catalog.fingerprint, facets_of(app, catalog, Config.from_app(app))

    assert config() == config(labels={"a": 1}, description="x")
    assert config() != config(jitter=1)


def test_an_entry_of_the_config_cannot_ask_to_be_removed() -> None:
    app = Celery("t", broker="redis://", set_as_current=False)
    asks = {"remove_when_completed": True}
    app.conf.beat_schedule = {"e": {"task": "t.a", "schedule": 5, "dispatch": asks}}
    assert "only entries made at run time" in catalog_of(app, Config.from_app(app)).broken["e"]


@pytest.mark.parametrize(
    "changed",
    [
        {"schedule": at("2025-12-31T23:59:59Z")},
        {"schedule": 10, "dispatch": {"end": "2025-12-31T23:59:59Z"}},
        {"schedule": {"kind": "rrule", "rule": "FREQ=DAILY;COUNT=2", "dtstart": "2025-01-01T00:00:00"}},
    ],
)
def test_a_new_entry_that_is_never_due_is_refused_and_an_old_one_is_not(changed: dict[str, Any]) -> None:
    item = {"task": "t.a", **changed}
    assert OF.document("e", item)["task"] == "t.a"
    with pytest.raises(
        EntryError, match=r"nothing would ever be fired: .* later than 2026-01-01T00:00:00.000Z; use"
    ):
        OF.document("e", item, after=START)
