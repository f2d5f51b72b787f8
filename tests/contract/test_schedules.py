"""``Schedules`` on real servers, with no beat at hand; what beats make of it is shown in ``integration``."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from celery import Celery

from celery_dispatch import (
    Bulk,
    BulkRefused,
    DispatchScheduler,
    EntryError,
    NameTaken,
    ScheduleError,
    Schedules,
    StaleVersion,
    State,
    Step,
    StoreUnavailable,
    UnknownSchedule,
)
from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Change, ChangeResult
from celery_dispatch.errors import FencedError
from celery_dispatch.redis_store.codec import decode_cursor, encode_cursor
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.rows import RedisRows
from celery_dispatch.schedules import editing
from tests.servers import Server

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(params=["redis"])
def server(request: pytest.FixtureRequest, server_of: Any) -> Any:
    return server_of(request.param)


@pytest.fixture
def app(server: Server, client: redis.Redis) -> Iterator[Celery]:
    app = Celery("tested", broker=server.url, set_as_current=False)
    app.conf.result_expires = None
    app.conf.beat_schedule = {"of-config": {"task": "proj.add", "schedule": 5.0, "args": (1,)}}

    @app.task(name="proj.add", shared=False)
    def add(*args: int) -> None:
        """Never runs."""

    yield app
    app.close()


@pytest.fixture
def schedules(app: Celery) -> Iterator[Schedules]:
    with Schedules(app) as schedules:
        yield schedules


def cursor_of(client: redis.Redis, keys: Keys, name: str) -> Cursor:
    cursor = decode_cursor(str(client.hget(keys.cursor, name)))
    assert isinstance(cursor, Cursor)
    return cursor


def test_what_is_created_is_read_back(schedules: Schedules) -> None:
    made = schedules.create("job", task="proj.add", schedule=10, args=(1, 2), options={"queue": "reports"})
    assert made == schedules.get("job")
    assert (made.origin, made.state, made.fired, made.skipped, made.last_due) == (
        "run-time", State.SCHEDULED, 0, 0, None
    )  # fmt: skip
    assert made.definition is not None
    assert made.definition["task"] == "proj.add"
    assert made.definition["args"] == [1, 2]
    assert made.definition["options"] == {"queue": "reports"}
    assert made.next_due is not None
    assert timedelta(seconds=9) < made.next_due - datetime.now(timezone.utc) <= timedelta(seconds=10)


def test_an_entry_of_the_config_is_shown_and_can_be_paused_only(schedules: Schedules) -> None:
    assert schedules.get("of-config").origin == "config"
    with pytest.raises(NameTaken, match="entry of beat_schedule"):
        schedules.create("of-config", task="proj.add", schedule=1)
    with pytest.raises(ScheduleError, match="change it in beat_schedule"):
        schedules.update("of-config", args=[2])
    with pytest.raises(ScheduleError, match="change it in beat_schedule"):
        schedules.delete("of-config")
    paused = schedules.pause("of-config", note="broken since noon", author="ann")
    assert paused.state is State.PAUSED
    assert paused.paused is not None
    assert (paused.paused.note, paused.paused.author) == ("broken since noon", "ann")
    again = schedules.pause("of-config", note="still")
    assert again.paused == replace(paused.paused, note="still", author="")
    resumed = schedules.resume("of-config")
    assert (resumed.state, resumed.paused) == (State.SCHEDULED, None)
    assert schedules.resume("of-config").version == resumed.version


def test_a_name_that_another_apps_config_has_in_force_is_taken(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    client.hset(keys.cursor, "elsewhere", encode_cursor(Cursor(LONG_AGO, "of-config", LONG_AGO)))
    assert schedules.get("elsewhere").definition is None
    with pytest.raises(NameTaken):
        schedules.create("elsewhere", task="proj.add", schedule=1)
    assert schedules.pause("elsewhere").state is State.PAUSED


def test_an_unknown_name_is_said_to_be_unknown(schedules: Schedules) -> None:
    for act in (schedules.get, schedules.delete, schedules.pause, schedules.resume):
        with pytest.raises(UnknownSchedule, match="no schedule 'none'; list shows those that there are"):
            act("none")
    with pytest.raises(UnknownSchedule):
        schedules.update("none", args=[])


def test_an_update_changes_what_is_given_and_continues(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    made = schedules.create("job", task="proj.add", schedule=10, args=(1, 2), last_due=LONG_AGO)
    new = schedules.update("job", schedule=20)
    assert new.definition == {**(made.definition or {}), "schedule": new.definition["schedule"]}  # type: ignore[index]
    assert new.definition != made.definition
    assert new.version > made.version
    assert cursor_of(client, keys, "job").due == LONG_AGO
    assert new.next_due is not None and new.next_due > datetime.now(timezone.utc)
    assert schedules.update("job", schedule=20) == new
    with pytest.raises(TypeError, match="not nothing"):
        schedules.update("job")
    with pytest.raises(TypeError, match="not tsak"):
        schedules.update("job", tsak="x")


def test_a_stale_version_is_refused_and_the_error_shows_both(schedules: Schedules) -> None:
    made = schedules.create("job", task="proj.add", schedule=10)
    new = schedules.update("job", args=[1], version=made.version)
    with pytest.raises(
        StaleVersion, match=re.escape(f"{new.version} by now, and not at {made.version}")
    ) as refused:
        schedules.update("job", args=[2], version=made.version)
    assert (refused.value.given, refused.value.stored) == (made.version, new.version)
    with pytest.raises(StaleVersion):
        schedules.delete("job", version=made.version)
    assert schedules.get("job").definition == new.definition
    schedules.delete("job", version=new.version)


def test_what_is_deleted_is_gone_and_can_be_created_again(schedules: Schedules) -> None:
    made = schedules.create("job", task="proj.add", schedule=10)
    schedules.delete("job")
    with pytest.raises(UnknownSchedule):
        schedules.get("job")
    again = schedules.create("job", task="proj.add", schedule=30)
    assert again.version > made.version
    with pytest.raises(NameTaken, match="already"):
        schedules.create("job", task="proj.add", schedule=10)


def test_a_definition_that_cannot_be_used_is_refused_before_anything_is_written(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    refused: list[dict[str, Any]] = [
        {"task": "proj.ad", "schedule": 1},
        {"task": "proj.add", "schedule": "every day"},
        {"task": "proj.add", "schedule": 1, "args": [object()]},
        {"task": "proj.add", "schedule": 1, "dispatch": {"catch_up": "never"}},
    ]
    for given in refused:
        with pytest.raises(EntryError):
            schedules.create("job", **given)
    with pytest.raises(EntryError, match=r"did you mean 'proj\.add'"):
        schedules.create("job", task="proj.ad", schedule=1)
    with pytest.raises(EntryError, match="control characters"):
        schedules.create("a\nb", task="proj.add", schedule=1)
    assert not client.exists(keys.entries, keys.cursor)
    schedules.create("job", task="elsewhere.add", schedule=1, allow_unknown_task=True)
    assert schedules.update("job", args=[1]).definition["args"] == [1]
    with pytest.raises(EntryError, match="no such task"):
        schedules.update("job", task="elsewhere.sub")


def test_all_can_be_paused_and_resumed(schedules: Schedules) -> None:
    assert schedules.paused_all is None
    schedules.pause_all(note="incident", author="ann")
    assert schedules.paused_all is not None
    assert (schedules.paused_all.note, schedules.paused_all.author) == ("incident", "ann")
    schedules.resume_all()
    schedules.resume_all()
    assert schedules.paused_all is None
    assert [one.name for one in schedules.list().items] == ["of-config"]


def test_what_is_due_stays_due_where_only_what_is_for_people_is_changed(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    schedules.create("job", task="proj.add", schedule=10)
    begin = decode_cursor(client.hget(keys.cursor, "job"))
    time.sleep(0.01)
    schedules.update("job", dispatch={"description": "for people", "labels": {"team": "a"}})
    alike = decode_cursor(client.hget(keys.cursor, "job"))
    schedules.update("job", dispatch={"count": 3})
    other = decode_cursor(client.hget(keys.cursor, "job"))
    assert isinstance(begin, Cursor) and isinstance(alike, Cursor) and isinstance(other, Cursor)
    assert begin.definition != alike.definition
    assert begin.effective_from == alike.effective_from < other.effective_from


def test_a_pause_of_all_that_cannot_be_read_is_not_resumed_in_silence(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    schedules.pause_all()
    client.hset(keys.entries, "", "nonsense")
    with pytest.raises(ScheduleError, match="everything is paused cannot be read"):
        schedules.resume_all()
    schedules.pause_all()
    schedules.resume_all()
    assert schedules.paused_all is None


def test_pages_go_through_all_by_name_and_filters_leave_out(schedules: Schedules) -> None:
    for number in range(7):
        schedules.create(f"job-{number}", task="proj.add", schedule=10)
    schedules.pause("job-3")
    first = schedules.list(limit=3)
    assert ([one.name for one in first.items], first.next) == (["job-0", "job-1", "job-2"], "job-2")
    second = schedules.list(limit=3, after=first.next)
    last = schedules.list(limit=3, after=second.next)
    assert ([one.name for one in last.items], last.next) == (["job-6", "of-config"], None)
    assert [one.name for one in schedules.list(state="paused").items] == ["job-3"]
    assert [one.name for one in schedules.list(pattern="*-[12]", state=State.SCHEDULED).items] == [
        "job-1", "job-2"
    ]  # fmt: skip


def test_a_row_that_cannot_be_read_is_shown_as_broken_and_can_be_deleted(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    client.hset(keys.entries, "job", "nonsense")
    shown = schedules.get("job")
    assert (shown.origin, shown.state, "damaged" in shown.error) == ("run-time", State.BROKEN, True)
    client.hset(keys.entries, "of-config", "nonsense")
    assert schedules.get("of-config").origin == "config"
    for act in (schedules.pause, schedules.resume, schedules.run_now):
        with pytest.raises(ScheduleError, match="Delete it"):
            act("job")
    schedules.delete("job")
    with pytest.raises(UnknownSchedule):
        schedules.get("job")


@pytest.mark.parametrize("raw", ["nonsense", b'{"v":1,"\xff"'])
def test_what_cannot_be_read_can_be_created_again_as_soon_as_it_is_deleted(
    schedules: Schedules, client: redis.Redis, keys: Keys, raw: str | bytes
) -> None:
    schedules.create("job", task="proj.add", schedule=10)
    before = cursor_of(client, keys, "job")
    client.hset(keys.entries, "job", raw)
    with pytest.raises(ScheduleError, match="Delete it and create it again"):
        schedules.create("job", task="proj.add", schedule=10)
    schedules.delete("job")
    assert cursor_of(client, keys, "job").is_tombstone
    schedules.create("job", task="proj.add", schedule=20)
    assert cursor_of(client, keys, "job").revision > before.revision


def test_a_row_that_cannot_be_read_takes_no_cursor_from_the_config(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    client.hset(keys.cursor, "of-config", encode_cursor(Cursor(LONG_AGO, "of-config", LONG_AGO)))
    client.hset(keys.entries, "of-config", "nonsense")
    schedules.delete("of-config")
    assert cursor_of(client, keys, "of-config").definition == "of-config"


def test_where_a_schedule_was_last_due_is_rounded_up_as_dues_are(
    schedules: Schedules, client: redis.Redis, keys: Keys
) -> None:
    given = LONG_AGO + timedelta(microseconds=1)
    schedules.create("job", task="proj.add", schedule=3600, last_due=given)
    assert cursor_of(client, keys, "job").due == LONG_AGO + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("last_due", "said"),
    [
        (LONG_AGO.replace(tzinfo=None), "lacks a time zone; use an aware datetime"),
        (datetime(9000, 6, 1, tzinfo=timezone.utc), "is not between 1970 and 9000"),
        (datetime(2999, 1, 1, tzinfo=timezone.utc), "lies in the future, .* leave it out"),
        ("tomorrow", "is no instant"),
    ],
)
def test_a_last_due_that_none_can_be_is_refused(schedules: Schedules, last_due: Any, said: str) -> None:
    with pytest.raises(EntryError, match=f"last_due = .*{said}"):
        schedules.create("job", task="proj.add", schedule=10, last_due=last_due)
    with pytest.raises(BulkRefused, match=f"last_due = .*{said}"):
        schedules.create_many({"job": item()}, last_due={"job": last_due})
    with pytest.raises(UnknownSchedule):
        schedules.get("job")


def test_a_change_whose_answer_is_lost_is_sent_again_and_done_once(
    schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, lost = RedisRows.change, []

    def losing(self: RedisRows, changes: list[Change]) -> list[ChangeResult]:
        results = change(self, changes)
        if not lost:
            lost.append(results[0].row)
            raise StoreUnavailable("no answer.")
        return results

    monkeypatch.setattr(RedisRows, "change", losing)
    made = schedules.create("job", task="proj.add", schedule=10)
    assert lost and lost[0] is not None
    assert made.version == lost[0].version  # type: ignore[union-attr]


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the steps end in the errors given, one after the other and the last for good; ``None``: in none.

    What is not fenced is carried out all the same, and then ``meanwhile`` is called.
    """
    change = RedisRows.change
    monkeypatch.setattr(editing, "_PATIENCE", 0.2)

    def troubled(*errors: Exception | None, meanwhile: Callable[[], None] = lambda: None) -> None:
        left = list(errors)

        def failing(self: RedisRows, changes: list[Change]) -> list[ChangeResult]:
            error = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(error, FencedError):
                raise error
            results = change(self, changes)
            if error is not None:
                monkeypatch.setattr(RedisRows, "change", change)
                meanwhile()
                monkeypatch.setattr(RedisRows, "change", failing)
                raise error
            return results

        monkeypatch.setattr(RedisRows, "change", failing)

    return troubled


UNHEARD = StoreUnavailable("no answer.")
FENCED = FencedError("The pool recovers.")


def test_nothing_is_said_to_be_written_only_where_nothing_is(
    schedules: Schedules, troubled: Callable[..., None]
) -> None:
    troubled(FENCED)
    with pytest.raises(StoreUnavailable, match=r"recovers\. Nothing was written; try again later"):
        schedules.create("none", task="proj.add", schedule=10)
    with pytest.raises(StoreUnavailable, match=r"recovers\. Nothing was written; try again later"):
        schedules.create_many({f"none-{number}": item() for number in range(150)})
    troubled(UNHEARD, FENCED)
    with pytest.raises(StoreUnavailable, match=r"recovers\. Whether the change was written is not known"):
        schedules.create("job", task="proj.add", schedule=10)
    assert [one.name for one in schedules.list().items] == ["job", "of-config"]


@pytest.mark.parametrize("errors", [(None, FENCED), (UNHEARD, FENCED)])
def test_many_of_which_some_were_written_are_said_to_be_so_and_again_does_the_rest(
    schedules: Schedules, troubled: Callable[..., None], errors: tuple[Exception | None, ...]
) -> None:
    many = {f"job-{number:03}": item() for number in range(150)}
    troubled(*errors)
    with pytest.raises(StoreUnavailable, match="Some of the changes may be written; the same again does the"):
        schedules.create_many(many)
    troubled(None)
    done = schedules.create_many(many)
    assert (len(done.unchanged), len(done.created)) == (100, 50)


def test_what_others_overtook_in_a_call_for_many_is_not_said_to_be_all_of_it(
    schedules: Schedules, troubled: Callable[..., None]
) -> None:
    for name in ("a", "b"):
        schedules.create(name, **item(args=[1]))
    plan = schedules.plan({"a": item(), "b": item()})
    schedules.pause("b")
    troubled(None, FENCED)
    with pytest.raises(StoreUnavailable, match="Some of the changes may be written"):
        plan.run()


def test_what_was_created_unheard_and_deleted_by_another_is_not_brought_back(
    schedules: Schedules, app: Celery, troubled: Callable[..., None]
) -> None:
    with Schedules(app) as others:
        troubled(UNHEARD, None, meanwhile=lambda: others.delete("job"))
        with pytest.raises(StoreUnavailable, match=r"'job' meanwhile\. Whether it was created is not"):
            schedules.create("job", task="proj.add", schedule=10)
        troubled(UNHEARD, None, meanwhile=lambda: others.delete("a"))
        with pytest.raises(StoreUnavailable, match="changed 'a' meanwhile"):
            schedules.create_many({"a": item(), "b": item()})
        plan = schedules.plan({"c": item()})
        plan.run()
        others.delete("c")
        with pytest.raises(BulkRefused, match="'c' is at version"):
            plan.run()
    assert [one.name for one in schedules.list().items] == ["b", "of-config"]


def test_an_update_that_was_not_heard_and_overtaken_is_decided_anew(
    schedules: Schedules, app: Celery, troubled: Callable[..., None]
) -> None:
    schedules.create("job", **item())
    with Schedules(app) as others:
        troubled(UNHEARD, None, meanwhile=lambda: others.update("job", args=[2]) and None)
        made = schedules.update("job", kwargs={"a": 1}).definition
    assert made is not None and (made["args"], made["kwargs"]) == ([2], {"a": 1})


def test_a_writer_that_was_overtaken_decides_anew(
    schedules: Schedules, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules.create("job", task="proj.add", schedule=10, args=[1])
    change, overtaken = RedisRows.change, []

    def overtaking(self: RedisRows, changes: list[Change]) -> list[ChangeResult]:
        if not overtaken:
            overtaken.append(True)
            with Schedules(app) as others:
                others.update("job", kwargs={"b": 2})
        return change(self, changes)

    monkeypatch.setattr(RedisRows, "change", overtaking)
    both = schedules.update("job", args=[3])
    assert both.definition is not None
    assert (both.definition["args"], both.definition["kwargs"]) == ([3], {"b": 2})


def test_nothing_is_opened_before_the_first_call_and_a_closed_one_opens_again(app: Celery) -> None:
    schedules = Schedules(app)
    schedules.close()
    with schedules:
        schedules.get("of-config")
    assert schedules.get("of-config").origin == "config"
    schedules.close()


# --- many at once -------------------------------------------------------------------------------------------


def item(**changes: Any) -> dict[str, Any]:
    return {"task": "proj.add", "schedule": 3600, **changes}


def test_many_are_created_in_one_call_or_none_is(schedules: Schedules) -> None:
    many = {f"job-{number:04}": item(args=[number]) for number in range(1_100)}
    assert schedules.create_many(many).created == tuple(many)
    made = schedules.get("job-1099").definition
    assert made is not None and made["args"] == [1099]
    with pytest.raises(BulkRefused) as refused:
        schedules.create_many({"new": item(), "bad": item(task="proj.ad"), "job-0001": item()})
    assert set(refused.value.errors) == {"bad"}
    with pytest.raises(BulkRefused) as refused:
        schedules.create_many({"new": item(), "job-0001": item(), "of-config": item()})
    assert {name: type(error) for name, error in refused.value.errors.items()} == {
        "job-0001": NameTaken, "of-config": NameTaken
    }  # fmt: skip
    with pytest.raises(UnknownSchedule):
        schedules.get("new")


def test_what_is_never_due_is_refused_where_it_is_new_and_only_there(schedules: Schedules) -> None:
    past = {"kind": "at", "moment": "2020-01-01T00:00:00Z"}
    with pytest.raises(EntryError, match=r"nothing would ever be fired: .* use a later instant"):
        schedules.create("late", task="proj.add", schedule=past)
    with pytest.raises(BulkRefused) as refused:
        schedules.create_many({"late": item(schedule=past), "ended": item(dispatch={"end": past["moment"]})})
    assert set(refused.value.errors) == {"late", "ended"}
    when = datetime(2020, 1, 1, tzinfo=timezone.utc)
    assert schedules.create("moved", task="proj.add", schedule=past, last_due=when).state is State.COMPLETED
    schedules.create("job", **item())
    assert schedules.update("job", schedule=past).state is State.COMPLETED


def test_those_of_a_label_are_replaced_and_no_others(schedules: Schedules) -> None:
    schedules.create("by-hand", **item())
    team = {"team": "blue"}
    first = schedules.replace({"a": item(), "b": item(), "c": item()}, labels=team)
    assert first == Bulk(created=("a", "b", "c"))
    second = schedules.replace({"b": item(), "c": item(schedule=60), "d": item()}, labels=team)
    assert second == Bulk(created=("d",), updated=("c",), deleted=("a",), unchanged=("b",))
    assert [one.name for one in schedules.list(labels=team).items] == ["b", "c", "d"]
    assert schedules.get("by-hand").state is State.SCHEDULED
    with pytest.raises(ValueError, match="without any"):
        schedules.replace({}, labels={})


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Lets the writer die after so many steps; how many changes each step had."""
    change = RedisRows.change

    def dying(steps: int) -> list[int]:
        sizes: list[int] = []

        def once(self: RedisRows, changes: list[Change]) -> list[ChangeResult]:
            if len(sizes) == steps:
                raise KeyboardInterrupt
            sizes.append(len(changes))
            return change(self, changes)

        monkeypatch.setattr(RedisRows, "change", once)
        return sizes

    return dying


def test_who_dies_half_way_calls_again_and_the_rest_is_done(
    schedules: Schedules, dying: Callable[[int], list[int]]
) -> None:
    many = {f"job-{number:04}": item(args=[number]) for number in range(500)}
    dying(2)
    with pytest.raises(KeyboardInterrupt):
        schedules.create_many(many)
    sizes = dying(100)
    done = schedules.create_many(many)
    assert (done.unchanged, done.created) == (tuple(many)[:200], tuple(many)[200:])
    assert sizes == [100, 100, 100]

    other = {f"job-{number:04}": item(args=[-number]) for number in range(300, 800)}
    plan = schedules.plan(other, labels={"team": "blue"})
    dying(2)
    with pytest.raises(KeyboardInterrupt):
        plan.run()
    sizes = dying(100)
    done = schedules.plan(other, labels={"team": "blue"}).run()
    assert list(map(len, (done.unchanged, done.updated, done.created))) == [200, 0, 300]
    assert sizes == [100, 100, 100]
    assert schedules.plan(other, labels={"team": "blue"}, prune=True).run() == Bulk(unchanged=tuple(other))


def test_a_plan_writes_nothing_until_it_is_run_and_nothing_over_a_definition_that_it_did_not_see(
    schedules: Schedules,
) -> None:
    for name in ("a", "b", "c", "gone"):
        schedules.create(name, **item(dispatch={"labels": {"team": "blue"}}))
    wanted = {name: item(args=[1]) for name in ("a", "b", "new")}
    plan = schedules.plan(wanted, labels={"team": "blue"}, prune=True)
    assert [(one.name, one.step) for one in plan.steps] == [
        ("a", Step.UPDATE), ("b", Step.UPDATE), ("new", Step.CREATE), ("c", Step.DELETE),
        ("gone", Step.DELETE),
    ]  # fmt: skip
    assert schedules.get("a").definition == plan.steps[0].before
    schedules.pause("a")
    schedules.update("b", args=[2])
    schedules.delete("gone")
    with pytest.raises(BulkRefused) as refused:
        plan.run()
    assert {name: type(error) for name, error in refused.value.errors.items()} == {"b": StaleVersion}
    assert (schedules.get("a").state, schedules.get("a").definition) == (State.PAUSED, plan.steps[0].after)
    assert [one.name for one in schedules.list(labels={"team": "blue"}).items] == ["a", "b", "new"]


def test_what_was_completed_and_removed_is_over_and_not_made_again(schedules: Schedules) -> None:
    once = item(schedule={"kind": "at", "moment": "2020-01-01T00:00:00Z"})
    removed = {**once, "dispatch": {"remove_when_completed": True}}
    plan = schedules.plan({"once": removed, "job": item()})
    assert [(one.name, one.step) for one in plan.steps] == [("once", Step.OVER), ("job", Step.CREATE)]
    assert plan.run() == Bulk(created=("job",), unchanged=("once",))
    with pytest.raises(UnknownSchedule):
        schedules.get("once")
    with pytest.raises(BulkRefused, match="nothing would ever be fired"):
        schedules.plan({"once": once})
    counted = item(dispatch={"count": 3, "remove_when_completed": True})
    with pytest.raises(BulkRefused, match="would begin it anew; leave one of them out"):
        schedules.replace({"counted": counted}, labels={"team": "blue"})


# --- by hand ------------------------------------------------------------------------------------------------


def headers(client: redis.Redis) -> list[dict[str, Any]]:
    """Those of the messages on the queue, the oldest first."""
    messages: Any = client.lrange("celery", 0, -1)
    return [json.loads(message)["headers"] for message in reversed(messages)]


def test_one_can_be_run_now_while_it_is_paused_and_its_cursor_stays(
    schedules: Schedules, client: redis.Redis, keys: Keys, queues: set[str]
) -> None:
    queues.update(("celery", "_kombu.*"))
    schedules.create("job", **item(args=[1, 2], options={"headers": {"mine": 1}}))
    schedules.pause("job")
    cursor = cursor_of(client, keys, "job")
    one, two = schedules.run_now("job"), schedules.run_now("job")
    sent = headers(client)
    assert [each["id"] for each in sent] == [one.task_id, two.task_id]
    assert one.task_id != two.task_id
    assert (sent[0]["dispatch_entry"], sent[0]["dispatch_run_now"], sent[0]["mine"]) == ("job", True, 1)
    assert cursor_of(client, keys, "job") == cursor
    schedules.run_now("of-config")
    with pytest.raises(UnknownSchedule):
        schedules.run_now("none")


def test_a_backfill_says_how_many_it_will_send_and_repeats_its_ids(
    schedules: Schedules, client: redis.Redis, queues: set[str]
) -> None:
    queues.update(("celery", "_kombu.*"))
    schedules.create("job", **item())
    backfill = schedules.backfill("job", start=LONG_AGO, end=LONG_AGO + timedelta(hours=3))
    assert backfill.count == 3
    assert headers(client) == []
    told: list[tuple[int, int]] = []
    assert backfill.run(rate=1000, progress=lambda *step: told.append(step)) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    first = headers(client)
    assert [each["dispatch_due"] for each in first] == [
        "2020-01-01T01:00:00.000Z", "2020-01-01T02:00:00.000Z", "2020-01-01T03:00:00.000Z"
    ]  # fmt: skip
    assert all(each["dispatch_backfill"] for each in first)
    backfill.run(rate=1000)
    assert [each["id"] for each in headers(client)[3:]] == [each["id"] for each in first]
    slept: list[float] = []
    backfill.run(rate=0.5, sleep=slept.append)
    assert sum(slept) > 3
    with pytest.raises(ScheduleError, match="future"):
        schedules.backfill("job", start=LONG_AGO, end=datetime.now(timezone.utc) + timedelta(days=1))
    with pytest.raises(ScheduleError, match="time zone"):
        schedules.backfill("job", start=datetime(2020, 1, 1), end=LONG_AGO)  # noqa: DTZ001


def test_a_preview_shows_what_is_to_come_also_of_what_does_not_exist_yet(schedules: Schedules) -> None:
    schedules.create("job", **item(), last_due=LONG_AGO)
    hours = [LONG_AGO + timedelta(hours=hour) for hour in (1, 2, 3)]
    assert [one.due for one in schedules.preview("job", count=3)] == hours
    assert [one.due for one in schedules.preview(item(), count=3, since=LONG_AGO)] == hours
    assert [one.fires_at for one in schedules.preview("job", count=1, since=hours[0])] == hours[1:2]
    assert schedules.preview(item())[0].due > datetime.now(timezone.utc)
    with pytest.raises(EntryError):
        schedules.preview(item(schedule="often"))


# --- with a beat --------------------------------------------------------------------------------------------


def fired(client: redis.Redis) -> list[str]:
    """The entries of the messages on the queue."""
    messages: Any = client.lrange("celery", 0, -1)
    return [json.loads(message)["headers"]["dispatch_entry"] for message in messages]


def tick_until(beat: DispatchScheduler, true: Callable[[], object], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "ticked in vain"
        beat.tick()


def tick_for(beat: DispatchScheduler, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        beat.tick()


def test_a_beat_does_as_it_is_told_while_it_runs(
    app: Celery, schedules: Schedules, client: redis.Redis, queues: set[str]
) -> None:
    queues.update(("celery", "_kombu.*"))
    app.conf.update(dispatch_heartbeat_interval=0.5, dispatch_lease_ttl=2)
    schedules.create("early", task="proj.add", schedule=0.1, args=(1, 2))
    beat = DispatchScheduler(app=app, schedule_filename="unused")
    try:
        tick_until(beat, lambda: "early" in fired(client))
        schedules.create("job", task="proj.add", schedule=0.1)
        tick_until(beat, lambda: fired(client).count("job") > 2)
        schedules.pause("job")
        before = fired(client).count("job")
        tick_for(beat, 0.5)
        assert fired(client).count("job") == before
        assert schedules.get("job").skipped >= 3
        schedules.resume("job")
        tick_until(beat, lambda: fired(client).count("job") > before)
        schedules.pause_all()
        before = len(fired(client))
        tick_for(beat, 0.5)
        assert len(fired(client)) == before
        schedules.resume_all()
        tick_until(beat, lambda: len(fired(client)) > before)
        schedules.delete("job")
        before = fired(client).count("job")
        tick_for(beat, 0.5)
        assert fired(client).count("job") == before
        counted = schedules.get("early")
        assert counted.last_due is not None and counted.fired > 0
    finally:
        beat.close()
