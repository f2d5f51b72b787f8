"""Entries that people change while nodes fire them, in virtual time."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from celery_dispatch.core.clock import whole_ms
from celery_dispatch.core.entry import Catalog, Cursor
from celery_dispatch.core.ports import Change, ChangeResult, ChangeStatus, Damaged, MemberState, News, Stored
from celery_dispatch.core.report import Skip
from celery_dispatch.core.rows import ALL, Pause, Row
from celery_dispatch.core.sweep import GRACE
from celery_dispatch.errors import FencedError, StoreUnavailable
from celery_dispatch.testing import MemoryRows, MemoryStore
from tests.unit.world import HANDOVER, LEASE, START, Beat, World, catalog, entry

ONE = json.dumps({"every": 1.0})
FAST = json.dumps({"every": 0.5})
SLOW = json.dumps({"every": 3600.0})


class People:
    """Who changes rows, from somewhere outside of the pool."""

    def __init__(self, store: MemoryStore) -> None:
        self.rows = MemoryRows(store)
        self._store = store
        self._tokens = 0

    def row(self, name: str) -> Row | Damaged | None:
        return self.rows.read([name])[0]

    def say(self, name: str, **said: Any) -> ChangeResult:
        self._tokens += 1
        before, now = self.row(name), whole_ms(self._store.now())
        kept: dict[str, Any] = (
            {"definition": before.definition, "pause": before.pause} if isinstance(before, Row) else {}
        )
        change = Change(name, before, f"{self._tokens:08x}", now, now, **{**kept, **said})
        return self.rows.change([change])[0]

    def define(self, name: str, definition: str = ONE) -> Row:
        result = self.say(name, definition=definition)
        assert result.status is ChangeStatus.DONE and isinstance(result.row, Row)
        return result.row

    def delete(self, name: str) -> None:
        assert self.say(name, definition="", pause=None, drops_intents=True).status is ChangeStatus.DONE

    def pause(self, name: str) -> None:
        pause = Pause(whole_ms(self._store.now()), note="incident", author="me")
        assert self.say(name, pause=pause, drops_intents=True).status is ChangeStatus.DONE

    def resume(self, name: str) -> None:
        row = self.row(name)
        assert isinstance(row, Row) and row.pause is not None
        over = replace(row.pause, until=whole_ms(self._store.now()))
        assert self.say(name, pause=over).status is ChangeStatus.DONE


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def people(world: World) -> People:
    return People(world.store)


def three(world: World) -> list[Beat]:
    beats = [world.start(name, catalog(entry("config"))) for name in "abc"]
    world.run(1)
    assert all(beat.membership.state is MemberState.STEADY for beat in beats)
    return beats


def dues(world: World, name: str) -> list[float]:
    return sorted(due for fired, due in world.fired().elements() if fired == name)


def last(world: World, name: str) -> float:
    return max(dues(world, name), default=0.0)


def seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()


def cursor_of(world: World, name: str) -> Cursor:
    cursor = world.store.cursors[name]
    assert isinstance(cursor, Cursor)
    return cursor


def every(begin: float, end: float, step: float) -> list[float]:
    return [round(begin + step * k, 3) for k in range(1, int((end - begin) / step + 1e-6) + 1)]


# --- all is well --------------------------------------------------------------------------------------------


def test_an_entry_that_is_created_is_fired_from_then_on_by_nodes_that_were_told(
    world: World, people: People
) -> None:
    three(world)
    world.run(0.37)
    begin = world.seconds()
    people.define("new")
    world.run(3.1)
    assert dues(world, "new") == every(begin, world.seconds(), 1.0)
    assert (
        max(beat.report.snapshot()["lag"]["max"] for beat in world.beats.values() if beat.report.fired) < 20
    )
    assert world.doubled() == []


def test_a_node_that_missed_the_notification_follows_within_a_second(world: World, people: People) -> None:
    beats = three(world)
    world.store.followers.clear()
    people.define("new", FAST)
    world.run(0.6)
    assert {beat.report.run_time for beat in beats} == {1}
    assert len(dues(world, "new")) == 1


def test_an_entry_of_which_a_node_learns_by_its_sweep_is_fired_like_any_other(
    world: World, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is created between the last look of the node that sweeps and the page that shows its cursor."""
    beat = world.start("a", catalog(entry("config")))
    scan, created = beat.ledger.scan, list[float]()

    def create_and_scan(position: int, count: int) -> tuple[int, list[tuple[str, Stored]]]:
        if not created:
            created.append(world.seconds())
            people.define("new")
        return scan(position, count)

    monkeypatch.setattr(beat.ledger, "scan", create_and_scan)
    world.run(LEASE + 3)
    assert dues(world, "new") == every(created[0], world.seconds(), 1.0)


def test_an_update_continues_after_what_was_fired_and_brings_nothing_of_the_past(
    world: World, people: People
) -> None:
    three(world)
    people.define("job", SLOW)
    world.run(10.25)
    changed = world.seconds()
    people.define("job", ONE)
    world.run(3)
    fired = dues(world, "job")
    assert fired == every(round(changed - 10.25, 3) + 10, world.seconds(), 1.0)
    assert fired[0] > changed


def test_what_was_due_before_its_description_was_changed_is_fired(world: World, people: People) -> None:
    beats = three(world)
    people.define("job", ONE)
    begin = world.seconds()
    for beat in beats:
        beat.paused = True
    world.run(3.2)
    assert people.say("job", definition='{"every":1.0}', keeps_since=True).status is ChangeStatus.DONE
    for beat in beats:
        beat.paused = False
    world.run(2)
    assert dues(world, "job") == every(begin, world.seconds(), 1.0)


def test_a_deleted_entry_is_never_fired_again_and_one_that_is_created_again_begins_anew(
    world: World, people: People
) -> None:
    three(world)
    people.define("job", FAST)
    world.run(1.3)
    people.delete("job")
    gone = world.seconds()
    world.run(3)
    assert last(world, "job") <= gone
    again = world.seconds()
    people.define("job", ONE)
    world.run(2.1)
    assert [due for due in dues(world, "job") if due > gone] == every(again, world.seconds(), 1.0)
    assert cursor_of(world, "job").fired == 2


def test_a_paused_entry_of_the_config_passes_over_what_it_is_due_for(world: World, people: People) -> None:
    beats = three(world)
    people.pause("config")
    paused, before = world.seconds(), cursor_of(world, "config")
    world.run(5)
    assert last(world, "config") <= paused
    cursor = cursor_of(world, "config")
    assert cursor.skipped - before.skipped == 5
    assert sum(beat.report.skips[Skip.PAUSED] for beat in beats) == 5
    people.resume("config")
    resumed = world.seconds()
    world.run(2.05)
    assert [due for due in dues(world, "config") if due > paused] == every(
        seconds(cursor.due), world.seconds(), 1.0
    )
    assert min(due for due in dues(world, "config") if due > paused) > resumed
    assert world.doubled() == []


def test_what_nobody_looked_at_in_a_pause_is_not_made_up_for_after_it(world: World, people: People) -> None:
    three(world)
    for name in "abc":
        world.beats[name].paused = True
    people.pause("config")
    world.run(3)
    people.resume("config")
    resumed = world.seconds()
    world.run(0.3)
    for name in "abc":
        world.beats[name].paused = False
    world.run(4)
    fired = [due for due in dues(world, "config") if due > 1.5]
    assert fired and min(fired) > resumed


def test_a_pause_of_all_entries_lets_nothing_go_out_until_it_is_over(world: World, people: People) -> None:
    beats = three(world)
    people.define("job", FAST)
    world.run(1)
    people.pause(ALL)
    paused, sent = world.seconds(), len(world.store.messages())
    world.run(4)
    assert len(world.store.messages()) == sent
    assert all(beat.report.outage is None for beat in beats)
    people.resume(ALL)
    world.run(2)
    later = [due for name, due in world.fired() if due > paused]
    assert later and min(later) > paused + 4
    assert world.doubled() == []


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_a_node_that_was_paused_for_an_hour_fires_nothing_of_what_was_changed_meanwhile(
    world: World, people: People
) -> None:
    beats = three(world)
    for name in ("gone", "slower", "config"):
        if name != "config":
            people.define(name, FAST)
    world.run(1)
    for beat in beats:
        beat.paused = True
    people.delete("gone")
    people.define("slower", SLOW)
    people.pause("config")
    changed = world.seconds()
    world.clock.advance(3600.0 - 1)
    for beat in beats:
        beat.paused = False
    world.run(3)
    assert last(world, "gone") <= changed
    assert last(world, "slower") <= changed or len(dues(world, "slower")) <= 4
    assert last(world, "config") <= changed
    assert cursor_of(world, "config").skipped >= 3600


def test_a_node_cut_off_from_the_news_is_fenced_by_its_claim(world: World, people: People) -> None:
    """It cannot read rows, and nobody tells it: what it claims by its old row is refused."""
    (beat,) = [world.start("a", catalog(entry("config")))]
    people.define("job", FAST)
    world.run(1.2)
    beat.rows.available = False
    world.store.followers.clear()
    people.delete("job")
    gone = world.seconds()
    world.run(3)
    assert last(world, "job") <= gone
    beat.rows.available = True
    world.run(2)
    assert dues(world, "config")[-1] > gone + 3


def test_no_claim_and_change_of_one_instant_lose_or_double_anything(world: World, people: People) -> None:
    """Changed every 10 ms in turn, exactly when it is due among others: each due comes once or is skipped."""
    three(world)
    people.define("job", FAST)
    begin = cursor_of(world, "job").due
    for _ in range(60):
        world.run(0.05)
        people.pause("job")
        people.resume("job")
    world.run(1)
    cursor = cursor_of(world, "job")
    assert cursor.fired + cursor.skipped == (cursor.due - begin) // timedelta(seconds=0.5)
    assert cursor.fired == len(dues(world, "job"))
    assert world.doubled() == []


def test_a_change_whose_answer_was_lost_is_done_once(world: World, people: People) -> None:
    three(world)
    change = Change("job", None, "0123abcd", START, START, definition=ONE)
    world.store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        people.rows.change([change])
    (result,) = people.rows.change([change])
    assert result.status is ChangeStatus.DONE
    world.run(1.1)
    assert len(dues(world, "job")) == 1


def test_an_intent_of_a_deleted_entry_is_sent_by_nobody(world: World, people: People) -> None:
    beats = three(world)
    people.define("job", ONE)
    world.run(0.5)
    for beat in beats:
        beat.outbox.user_code.add("job")
        beat.outbox.connect()
    world.run(0.4)
    settle = [beat.intents for beat in beats]
    for intents in settle:
        intents.available = False
    world.run(0.3)
    claimed = list(world.store.intents)
    people.delete("job")
    for intents in settle:
        intents.available = True
    world.run(LEASE + 5)
    assert claimed and not world.store.intents
    assert dues(world, "job") == []


def test_an_entry_that_cannot_be_scheduled_is_reported_and_stops_no_other(
    world: World, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    beats = three(world)
    people.define("bad", "{}")
    people.define("good", ONE)
    world.store.rows["config"] = Damaged("nonsense", "a test")
    world.run(2.1)
    assert len(dues(world, "good")) == 2
    assert sum("bad" in beat.report.snapshot()["errors"] for beat in beats) == 2
    assert "Entry 'bad' is not fired: KeyError('every')" in caplog.text
    people.define("bad", ONE)
    world.run(1.1)
    assert len(dues(world, "bad")) == 1
    assert not any("bad" in beat.report.snapshot()["errors"] for beat in beats)


def test_what_the_config_has_wrong_is_not_brought_into_force_by_a_row_of_its_name(
    world: World, people: People
) -> None:
    people.define("config", FAST)
    wrong = Catalog("v1", {"other": entry("other")}, {"config": "no such schedule"})
    beat = world.start("a", wrong)
    world.run(2.1)
    assert (dues(world, "config"), len(dues(world, "other"))) == ([], 2)
    assert beat.report.snapshot()["errors"]["config"] == "no such schedule"


def test_an_entry_whose_row_cannot_be_read_is_not_fired_until_it_can(world: World, people: People) -> None:
    beat = world.start("a", catalog(entry("config")))
    row = people.define("job", FAST)
    world.run(1.2)
    cursor = cursor_of(world, "job")
    later = replace(row, version=row.version + 1)
    world.store.rows["job"] = Damaged("nonsense", "a test")
    world.store.cursors["job"] = replace(cursor, change=later.version, revision=cursor.revision + 1)
    broken = world.seconds()
    world.run(2)
    assert last(world, "job") <= broken
    assert "cannot be read" in beat.report.snapshot()["errors"]["job"]
    assert last(world, "config") > broken
    assert cursor_of(world, "job").change == later.version
    world.store.rows["job"] = later
    world.run(11)
    assert last(world, "job") > world.seconds() - 0.6
    assert beat.report.snapshot()["errors"] == {}


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_node_that_cannot_know_whether_all_are_paused_says_so_and_fires_nothing_until_it_can(
    world: World, people: People, caplog: pytest.LogCaptureFixture, is_damaged: bool
) -> None:
    people.pause(ALL)
    people.resume(ALL)
    if is_damaged:
        world.store.rows[ALL] = Damaged("nonsense", "a test")
    else:
        del world.store.rows[ALL]
    beat = world.start("a", catalog(entry("config")))
    news, looks = beat.rows.news, list[float]()

    def counted(since: int, limit: int) -> News:
        looks.append(world.seconds())
        return news(since, limit)

    beat.rows.news = counted  # type: ignore[method-assign]
    world.run(5)
    assert world.store.messages() == []
    assert len(looks) < 15
    assert beat.node.turn() > 0
    assert caplog.text.count("whether all entries are paused cannot be read") == 1
    assert "cannot be read" in beat.report.snapshot()["errors"][ALL]
    people.pause(ALL)
    people.resume(ALL)
    world.run(3)
    assert world.store.messages()
    assert beat.report.snapshot()["errors"] == {}


# --- losses -------------------------------------------------------------------------------------------------


def test_rows_that_redis_lost_are_put_back_with_the_pause_of_all(world: World, people: People) -> None:
    beats = three(world)
    saved = world.save()
    people.define("job", FAST)
    people.define("gone", FAST)
    people.pause("config")
    world.run(1.2)
    people.delete("gone")
    world.run(0.1)
    known = dict(world.store.rows)
    world.load(saved)
    world.run(LEASE)
    assert world.store.rows == known
    assert all(beat.report.recoveries == 1 for beat in beats)
    lost = world.seconds() - LEASE
    assert not [due for due in dues(world, "gone") if due > lost]
    assert not [due for due in dues(world, "config") if due > lost]
    assert [due for due in dues(world, "job") if due > world.seconds() - 1]
    assert world.doubled() == []


def test_an_emptied_redis_gets_all_of_it_back(world: World, people: People) -> None:
    three(world)
    people.define("job", FAST)
    people.pause(ALL)
    world.run(0.5)
    known, sent = dict(world.store.rows), len(world.store.messages())
    world.store.flush()
    world.run(LEASE)
    assert world.store.rows == known
    assert len(world.store.messages()) == sent
    people.resume(ALL)
    world.run(2)
    assert len(world.store.messages()) > sent
    assert world.doubled() == []


def test_a_node_that_read_the_older_rows_reads_anew_before_it_claims(world: World, people: People) -> None:
    """It comes while Redis is back older and nobody has put back that the entry is deleted."""
    beats = three(world)
    people.define("job", FAST)
    world.run(1.2)
    saved = world.save()
    people.delete("job")
    gone = world.seconds()
    world.run(0.2)
    for beat in beats:
        beat.paused = True
    world.load(saved)
    world.start("late", catalog(entry("config")))
    world.run(0.05)
    for beat in beats:
        beat.paused = False
    world.run(LEASE + 3)
    assert last(world, "job") <= gone
    assert cursor_of(world, "job").is_tombstone
    assert [due for due in dues(world, "config") if due > world.seconds() - 1.5]


def test_nothing_can_be_changed_while_the_pool_recovers(world: World, people: People) -> None:
    three(world)
    world.store.restart()
    with pytest.raises(FencedError):
        people.define("job")


def test_a_cursor_that_has_gone_apart_from_its_row_is_put_under_it(world: World, people: People) -> None:
    three(world)
    row = people.define("job", FAST)
    world.run(0.7)
    cursor = cursor_of(world, "job")
    world.store.cursors["job"] = replace(cursor, change=row.version - 1, revision=cursor.revision + 1)
    world.run(2)
    cursor = cursor_of(world, "job")
    assert cursor.change == row.version
    assert [due for due in dues(world, "job") if due > world.seconds() - 0.6]
    assert world.doubled() == []


def test_an_emptied_redis_gets_back_what_is_older_than_what_was_once_removed(
    world: World, people: People
) -> None:
    """Somebody writes a row before anybody found out, so that the versions go on."""
    beats = three(world)
    live = people.define("live", SLOW)
    world.run(0.1)
    people.define("dead", SLOW)
    world.store.gate = "123."  # rows were put back once
    world.store.rows_changed()
    world.run(0.6)
    people.delete("dead")
    row = people.row("dead")
    assert isinstance(row, Row)
    beats[0].rows.retire({"dead": (row, cursor_of(world, "dead"))})
    world.run(0.6)
    assert world.store.catalog_floor > live.version
    world.store.flush()
    people.define("other", SLOW)
    world.run(LEASE)
    assert world.store.rows["live"] == live
    assert {beat.report.run_time for beat in beats} == {2}


@pytest.mark.parametrize("told", [True, False])
def test_a_cursor_that_is_put_back_under_the_row_before_is_not_fired_by_it(
    world: World, people: People, told: bool
) -> None:
    """The change is made after the loss, and before anybody found out."""
    three(world)
    people.define("job")
    world.run(5.3)
    if not told:
        world.store.followers.clear()
    world.store.flush()
    people.pause("config")
    paused = world.seconds()
    world.run(LEASE)
    assert last(world, "config") <= paused
    assert cursor_of(world, "config").skipped
    assert all(beat.report.recoveries == 1 for beat in world.beats.values())


# --- deploys ------------------------------------------------------------------------------------------------


def test_a_paused_entry_of_the_config_stays_paused_through_a_deploy(world: World, people: People) -> None:
    three(world)
    people.pause("config")
    paused = world.seconds()
    new = catalog(entry("config", 0.5, definition="two"), fingerprint="v2")
    for leaves, joins in zip("abc", "def"):
        world.start(joins, new)
        world.run(LEASE + 1)
        world.stop(leaves)
        world.run(3)
    assert world.store.fence is not None and world.store.fence.config == "v2"
    assert last(world, "config") <= paused
    people.resume("config")
    resumed = world.seconds()
    world.run(1.2)
    later = [due for due in dues(world, "config") if due > paused]
    assert len(later) >= 2
    assert min(later) > resumed


def test_a_config_that_brings_the_name_shadows_the_row_until_it_is_gone(
    world: World, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    world.start("a", catalog(entry("config")))
    people.define("job", FAST)
    world.run(LEASE + 1)
    world.stop("a")
    world.start("b", catalog(entry("config"), entry("job", 1.0, definition="of-config"), fingerprint="v2"))
    world.run(3)
    taken = cursor_of(world, "job")
    assert taken.definition == "of-config"
    row = people.define("job", SLOW)
    assert cursor_of(world, "job") == replace(
        cursor_of(world, "job"), definition="of-config", change=row.version
    )
    world.run(3.1)
    assert [due for due in dues(world, "job") if due > world.seconds() - 1.2]
    world.stop("b")
    world.start("c", catalog(entry("config"), fingerprint="v3"))
    world.run(3)
    people.define("job", FAST)
    world.run(1.6)
    assert cursor_of(world, "job").definition == people.define("job", FAST).hash
    assert len([due for due in dues(world, "job") if due > world.seconds() - 1.55]) == 3
    assert world.doubled() == []
    assert "fired" not in caplog.text


def test_a_change_right_after_a_switch_to_a_config_that_brings_the_name_is_no_conflict(
    world: World, people: People
) -> None:
    world.start("a", catalog(entry("config")))
    people.define("job", SLOW)
    world.run(LEASE + 1)
    world.stop("a")
    beat = world.start("b", catalog(entry("job", 2.0, definition="of-config"), fingerprint="v2"))
    world.run(0.3)
    assert cursor_of(world, "job").definition != "of-config"
    people.define("job", FAST)
    world.run(5)
    assert cursor_of(world, "job").definition == "of-config"
    assert beat.report.snapshot()["errors"] == {}


# --- leftovers ----------------------------------------------------------------------------------------------


def test_what_says_nothing_is_removed_a_day_later_and_a_node_that_slept_through_it_forgets_it_too(
    world: World, people: People
) -> None:
    beat = world.start("a", catalog(entry("config", 3600.0)))
    sleeper = world.start("b", catalog(entry("config", 3600.0)))
    people.define("job", SLOW)
    people.pause("other-config")
    world.run(1)
    assert sleeper.report.run_time == 1
    sleeper.paused = True
    people.delete("job")
    world.run(LEASE + 1)
    world.clock.advance(GRACE.total_seconds() + 3700)
    world.run(LEASE + 1)
    assert "job" not in world.store.rows
    assert "job" not in world.store.cursors
    assert "other-config" in world.store.rows
    sleeper.paused = False
    world.run(2)
    assert sleeper.report.run_time == 0
    assert "job" not in world.store.rows
    assert beat.report.recoveries == sleeper.report.recoveries == 0
    assert world.seconds() > HANDOVER


def test_what_was_removed_is_forgotten_and_does_not_come_back_with_a_recovery(
    world: World, people: People
) -> None:
    beats = three(world)
    people.pause("other-config")
    people.define("job", SLOW)
    people.delete("job")
    world.run(0.1)
    row = people.row("job")
    assert isinstance(row, Row)
    beats[0].rows.retire({"job": (row, cursor_of(world, "job"))})
    world.run(0.6)
    world.store.flush()
    world.run(LEASE)
    assert all(beat.report.recoveries == 1 for beat in beats)
    assert set(world.store.rows) == {"other-config"}


def test_what_a_config_has_is_not_removed_however_long_its_row_says_nothing(
    world: World, people: People
) -> None:
    """It was paused and resumed before any node had taken it up, and was never due since."""
    people.pause("rare")
    people.resume("rare")
    beat = world.start("a", catalog(entry("config", 3600.0), entry("rare", 10 * 86400.0)))
    world.run(LEASE + 1)
    world.clock.advance(GRACE.total_seconds() + 7300)
    world.run(LEASE + 1)
    assert "rare" in world.store.cursors
    assert beat.report.recoveries == 0


def test_an_entry_that_is_to_be_removed_when_completed_is_deleted_once_its_last_message_is_sent(
    world: World, people: People
) -> None:
    world.start("a", catalog(entry("config", 3600.0)))
    for name, removed in (("once", True), ("kept", False)):
        people.define(name, json.dumps({"every": 1.0, "count": 1, "remove_when_completed": removed}))
    world.run(LEASE + 3)
    assert len(dues(world, "once")) == len(dues(world, "kept")) == 1
    row = people.row("once")
    assert isinstance(row, Row) and row.definition
    world.clock.advance(3700)
    world.run(LEASE + 1)
    row = people.row("once")
    assert isinstance(row, Row) and not row.definition
    assert cursor_of(world, "once").is_tombstone
    row = people.row("kept")
    assert isinstance(row, Row) and row.definition
