from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celery_dispatch.core.entry import CatchUp, Cursor, Fence, Occurrence
from celery_dispatch.core.ports import Claim, ClaimReply, Command, Damaged, MemberState
from celery_dispatch.core.ring import Ring
from celery_dispatch.core.sweep import GRACE
from celery_dispatch.core.timeline import Timeline
from celery_dispatch.errors import EntryError
from tests.unit.world import HANDOVER, LEASE, START, Beat, Every, World, catalog, entry, many

NAMES = [f"e{i}" for i in range(20)]


@pytest.fixture
def world() -> World:
    return World()


def three(world: World, **options: object) -> list[Beat]:
    beats = [world.start(name, many(20, **options)) for name in "abc"]
    world.run(2)
    assert all(beat.membership.state is MemberState.STEADY for beat in beats)
    return beats


def check(world: World, *, lag: float) -> None:
    """Nothing lost, nothing doubled; everything due up to ``lag`` seconds ago has come."""
    assert world.doubled() == []
    assert world.missing(NAMES, world.seconds() - lag) == []


def owner(world: World, name: str) -> str:
    found = Ring().ranks({beat.id: f"host-{beat.id}" for beat in world.beats.values()}).owner(name)
    assert found is not None
    return found


# --- sharing ------------------------------------------------------------------------------------------------


def test_a_lone_node_fires_every_occurrence_once(world: World) -> None:
    world.start("a", many(20))
    world.run(5)
    check(world, lag=0.05)


def test_three_nodes_share_and_fire_every_occurrence_once(world: World) -> None:
    beats = three(world)
    world.run(10)
    check(world, lag=0.05)
    assert all(beat.report.owned > 0 for beat in beats)
    assert sum(beat.report.owned for beat in beats) == 20


def test_a_node_that_joins_takes_its_share_without_a_gap(world: World) -> None:
    three(world)
    world.start("d", many(20))
    world.run(5)
    check(world, lag=0.05)
    assert world.beats["d"].report.fired > 0


def test_a_node_that_leaves_hands_over_at_once(world: World) -> None:
    three(world)
    world.stop("b")
    world.run(5)
    check(world, lag=0.05)


@pytest.mark.parametrize("also", ["", "b"], ids=["one", "two at once"])
def test_standbys_go_before_the_ring_without_those_that_left_is_computed(world: World, also: str) -> None:
    a, *_ = three(world)
    assert world.anchor is not None
    world.run(1 - (world.store.now() - world.anchor).total_seconds() % 1 - 0.01)
    for name in f"c{also}":
        world.stop(name)
    world.run(0.01)
    view = a.membership.view
    assert view is not None
    assert (view.gone, set(view.ranks.nodes)) == ({"c", *also}, {"a", "b", "c"})
    stood_by = [
        name for name in NAMES if view.ranks.owner(name) in view.gone and view.ranks.standby(name) == "a"
    ]
    assert stood_by
    assert world.missing(stood_by, world.seconds() + 0.005) == []
    world.run(0.05)
    view = a.membership.view
    assert view is not None
    assert (view.gone, view.ranks.nodes) == (set(), ("a",) if also else ("a", "b"))
    world.run(3)
    check(world, lag=0.05)


def test_a_node_that_joins_has_loaded_its_share_before_it_says_so(world: World) -> None:
    three(world)
    new = world.start("d", many(20))
    while new.membership.state is not MemberState.STEADY:
        world.run(0.01)
    assert new.report.owned > 0


def test_a_node_says_that_it_is_ready_without_waiting_for_the_next_heartbeat(world: World) -> None:
    world.start("a", many(20))
    world.run(0.2)
    assert world.store.members["a"].state is MemberState.STEADY


def test_a_standby_builds_no_message_for_what_its_owner_fired(world: World) -> None:
    beats = three(world)
    rendered = []
    for beat in beats:
        render = beat.outbox.render
        beat.outbox.render = lambda occurrence, *, now, render=render: (  # type: ignore[method-assign]
            rendered.append(occurrence) or render(occurrence, now=now)  # type: ignore[func-returns-value]
        )
    before = sum(world.fired().values())
    world.run(5)
    assert len(rendered) == sum(world.fired().values()) - before


def batches(beat: Beat) -> list[int]:
    """The sizes of the batches that a node claims from now on."""
    sizes: list[int] = []
    claim = beat.ledger.claim

    def counting(fence: Fence, claims: Sequence[Claim], **options: Any) -> ClaimReply:
        sizes.append(len(claims))
        return claim(fence, claims, **options)

    beat.ledger.claim = counting  # type: ignore[method-assign]
    return sizes


def test_a_batch_goes_out_when_it_holds_as_many_as_it_may(world: World) -> None:
    beat = world.start("a", many(25), batch_size=10)
    world.run(0.5)
    sizes = batches(beat)
    world.run(0.6)
    assert sizes == [10, 10, 5]


def test_a_batch_goes_out_when_it_holds_a_megabyte(world: World) -> None:
    beat = world.start("a", many(5))
    world.run(0.5)
    sizes, large = batches(beat), Command("LPUSH", "celery", json.dumps({"entry": "x" * 400_000, "due": ""}))
    beat.outbox.render = lambda occurrence, *, now: (large,)  # type: ignore[method-assign]
    world.run(0.6)
    assert sizes == [3, 2]


def test_a_batch_goes_out_after_a_tenth_of_a_second(world: World) -> None:
    beat = world.start("a", many(5))
    world.run(0.5)
    sizes, render = batches(beat), beat.outbox.render

    def slowly(occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        world.clock.advance(0.06)
        return render(occurrence, now=now)

    beat.outbox.render = slowly  # type: ignore[method-assign]
    world.run(0.6)
    assert sizes[:3] == [2, 2, 1]


def test_slow_messages_do_not_keep_the_loop_from_turning(world: World) -> None:
    beat = world.start("a", many(400))
    world.run(0.5)
    render = beat.outbox.render

    def slowly(occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        world.clock.advance(0.04)
        return render(occurrence, now=now)

    beat.outbox.render = slowly  # type: ignore[method-assign]
    world.clock.advance(1)
    began = world.clock.monotonic()
    beat.node.turn()
    assert world.clock.monotonic() - began < 1.5


def test_a_turn_in_which_nothing_changes_does_not_go_through_the_timeline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats, walks = three(world), []
    walk = Timeline.__iter__
    monkeypatch.setattr(Timeline, "__iter__", lambda timeline: (walks.append(1), walk(timeline))[1])
    world.run(4)
    assert len(walks) < 20  # the comparison, once a heartbeat
    world.stop(beats[0].id)
    world.run(2)
    assert sum(beat.report.owned for beat in beats[1:]) == 20


@pytest.mark.parametrize("alone", [True, False])
def test_a_due_at_the_end_of_the_calendar_is_that_entrys_error_on_owner_and_standby(
    world: World, alone: bool
) -> None:
    class Last(Every):
        def following(self, last: datetime, after: datetime) -> datetime:
            return datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=timezone.utc)

    entries = catalog(entry("late", Last(1.0)), *many(20).entries.values())
    beats = [world.start(name, entries) for name in ("a" if alone else "ab")]
    world.run(5)
    check(world, lag=HANDOVER + 0.1)
    for beat in beats:
        assert beat.report.snapshot()["errors"] == {"late": "its next due is past the year 9000"}


# --- faults -------------------------------------------------------------------------------------------------


def test_a_standby_fires_when_the_owner_is_killed(world: World) -> None:
    three(world)
    world.kill(owner(world, "e0"))
    world.run(4)
    check(world, lag=HANDOVER + 0.1)


def test_a_standby_fires_when_the_owner_is_paused_and_the_owner_finds_it_done(world: World) -> None:
    three(world)
    paused = world.beats[owner(world, "e0")]
    paused.paused = True
    world.run(8)
    check(world, lag=HANDOVER + 0.1)
    paused.paused = False
    world.run(5)
    check(world, lag=0.1)


def test_owner_and_standby_killed_together_cost_a_lease_and_a_heartbeat(world: World) -> None:
    three(world)
    world.kill("a")
    world.kill("b")
    world.run(LEASE + 3)
    check(world, lag=0.1)


def test_a_node_cut_off_fires_nothing_and_comes_back_under_its_id(world: World) -> None:
    three(world)
    lost = world.beats["b"]
    lost.cut()
    world.run(15)
    check(world, lag=HANDOVER + 0.1)
    assert "b" not in world.store.members
    lost.cut(available=True)
    fired = lost.report.fired
    world.run(5)
    check(world, lag=0.1)
    assert lost.report.fired > fired
    assert sorted(world.store.members) == ["a", "b", "c"]


def test_an_outage_of_the_store_is_caught_up_and_trims_nobody(world: World) -> None:
    three(world)
    world.store.available = False
    world.run(12)
    assert not world.missing(NAMES, world.seconds() - 12.1)
    world.store.available = True
    world.run(2)
    check(world, lag=0.1)
    assert sorted(world.store.members) == ["a", "b", "c"]


def test_a_lost_reply_to_a_claim_neither_loses_nor_doubles(world: World) -> None:
    beat = world.start("a", many(20))
    world.run(2)
    for _ in range(30):
        world.store.lose_next_reply()
        world.run(0.37)
    world.run(2)
    check(world, lag=0.1)
    assert beat.report.fired == sum(world.fired().values()), "a fire whose reply was lost was not counted"


def test_a_server_clock_that_goes_back_fires_nothing_again_and_goes_on(world: World) -> None:
    three(world)
    world.store.step(-5)
    world.run(12)
    check(world, lag=0.1)


def test_cursors_that_redis_lost_are_put_back_by_a_node_that_knows_them(world: World) -> None:
    world.start("a", many(20))
    world.run(4)
    world.store.cursors.clear()
    world.run(4)
    check(world, lag=0.1)


def test_cursors_that_went_back_are_not_taken_over(world: World) -> None:
    three(world)
    old = dict(world.store.cursors)
    world.run(3)
    world.store.cursors.update(old)
    world.run(4)
    check(world, lag=0.1)


def test_a_store_that_was_emptied_is_filled_again_without_a_double(world: World) -> None:
    three(world)
    store = world.store
    store.cursors.clear()
    store.members.clear()
    store.fence = None
    world.run(5)
    assert world.doubled() == []
    assert sorted(store.members) == ["a", "b", "c"]
    world.run(3)
    recent = {name for (name, due) in world.fired() if due > world.seconds() - 1.5}
    assert recent == set(NAMES)


def test_idle_cursors_that_redis_lost_are_back_before_they_are_needed(world: World) -> None:
    world.start("a", many(5, every=3600.0))
    world.run(1)
    known = dict(world.store.cursors)
    assert len(known) == 5
    world.run(100)
    world.store.cursors.clear()
    world.store.members.clear()
    world.store.fence = None
    world.run(3)
    assert world.store.cursors == known


def test_a_fenced_node_reads_the_pool_anew_at_once(world: World) -> None:
    world.start("a", many(20))
    world.run(2)
    store = world.store
    assert store.fence is not None
    store.fence = Fence(store.fence.config, store.now())
    store.epoch = "another"
    world.beats["a"].next_beat = world.clock.monotonic() + 5
    world.run(1.2)
    check(world, lag=0.2)


def test_a_cursor_that_was_removed_begins_now_and_fires_nothing_of_the_past(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start("a", many(1))
    world.run(120)
    world.kill("a")
    world.store.cursors.clear()
    before = world.fired()
    world.start("b", many(1))
    world.run(LEASE + 5)
    assert world.doubled() == []
    assert sum((world.fired() - before).values()) <= LEASE + 5
    assert "no cursor any more" in caplog.text


def test_a_schedule_that_takes_long_to_load_has_one_anchor(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_dispatch.core.loading._SLICE", 1)
    world.start("a", many(100, every=600.0))
    world.run(110, step=1)  # an entry each time
    anchors = {cursor.due for cursor in world.store.cursors.values() if isinstance(cursor, Cursor)}
    assert len(world.store.cursors) == 100
    assert anchors == {world.anchor}
    assert "no cursor any more" not in caplog.text


def test_a_fresh_anchor_does_not_take_the_place_of_a_cursor_that_a_live_node_knows(world: World) -> None:
    entries = many(60, every=30.0)
    for name in "abc":
        world.start(name, entries)
    world.run(40)
    known = {name: cursor for name, cursor in world.store.cursors.items() if isinstance(cursor, Cursor)}
    world.store.cursors.clear()
    world.store.members.clear()
    world.store.fence = None
    world.run(5)
    again = {name: cursor for name, cursor in world.store.cursors.items() if isinstance(cursor, Cursor)}
    assert {name: cursor.due for name, cursor in again.items()} == {
        name: cursor.due for name, cursor in known.items()
    }


def test_joining_a_pool_that_is_well_raises_no_alarm(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.start("a", many(20))
    world.run(70)
    world.start("b", many(20))
    world.run(3)
    assert "no cursor" not in caplog.text


# --- catching up --------------------------------------------------------------------------------------------


def test_latest_fires_one_for_a_gap_and_counts_the_rest(world: World) -> None:
    world.start("a", many(3, catch_up=CatchUp.LATEST))
    world.run(3)
    world.store.available = False
    world.run(20)
    world.store.available = True
    before = sum(world.fired().values())
    world.run(0.5)
    assert sum(world.fired().values()) - before == 3
    for name in ("e0", "e1", "e2"):
        cursor = world.store.cursors[name]
        assert isinstance(cursor, Cursor)
        assert cursor.fired + cursor.skipped == (cursor.due - cursor.effective_from) // timedelta(seconds=1)
        assert cursor.skipped > 15


def test_none_skips_what_is_later_than_lease_and_handover(world: World) -> None:
    world.start("a", many(1, catch_up=CatchUp.NONE))
    world.run(3)
    world.store.available = False
    world.run(30)
    world.store.available = True
    world.run(2)
    cursor = world.store.cursors["e0"]
    assert isinstance(cursor, Cursor)
    assert 15 < cursor.skipped < 25
    assert cursor.fired + cursor.skipped == (cursor.due - cursor.effective_from) // timedelta(seconds=1)


def test_a_long_backlog_does_not_starve_an_entry_that_is_due_now(world: World) -> None:
    beat = world.start(
        "a", catalog(*(entry(f"slow{i}") for i in range(300)), entry("rare", 45.0)), batch_size=50
    )
    world.run(1)
    world.store.available = False
    world.run(40)
    world.store.available = True
    render = beat.outbox.render

    def slowly(occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        world.clock.advance(0.005)  # a pass over all entries takes longer than one may
        return render(occurrence, now=now)

    beat.outbox.render = slowly  # type: ignore[method-assign]
    while not any(name == "rare" for name, _ in world.fired()):
        world.run(0.01)
    assert world.seconds() < 45 + 2.5


# --- definitions --------------------------------------------------------------------------------------------


def test_a_node_with_another_config_stands_by_until_no_live_node_runs_the_one_in_force(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start("a", catalog(entry("e0"), fingerprint="v1"))
    world.run(2)
    world.start("b", catalog(entry("e0"), entry("new"), fingerprint="v2"))
    with caplog.at_level(logging.WARNING):
        world.run(3)
    assert "stands by" in caplog.text
    assert not any(name == "new" for name, _ in world.fired())
    world.stop("a")
    world.run(3)
    assert world.doubled() == []
    assert world.missing(["e0"], world.seconds() - 0.1) == []
    assert any(name == "new" for name, _ in world.fired())


def test_a_changed_definition_takes_effect_at_the_switch_and_brings_no_past(world: World) -> None:
    world.start("a", catalog(entry("e0", 1.0, definition="old"), fingerprint="v1"))
    world.run(2)
    world.kill("a")
    world.run(30)
    world.start("b", catalog(entry("e0", 2.0, definition="new"), fingerprint="v2"))
    world.run(LEASE + 6)
    assert world.store.fence is not None
    assert world.store.fence.config == "v2"
    switched = (world.store.fence.since - START).total_seconds()
    late = [due for _, due in world.fired() if 3 < due <= switched]
    assert late == []
    cursor = world.store.cursors["e0"]
    assert isinstance(cursor, Cursor)
    assert (cursor.definition, cursor.revision) == ("new", 2)
    assert cursor.effective_from == world.store.fence.since


def test_two_definitions_under_one_fingerprint_are_refused_for_that_entry_only(world: World) -> None:
    world.start("a", catalog(entry("e0", definition="one"), entry("e1"), fingerprint="v1"))
    world.run(2)
    other = world.start("b", catalog(entry("e0", definition="two"), entry("e1"), fingerprint="v1"))
    world.run(2)
    world.kill("a")
    world.run(LEASE + 5)
    assert "different definition" in str(other.report.snapshot()["errors"])
    cursor = world.store.cursors["e0"]
    assert isinstance(cursor, Cursor)
    assert cursor.definition == "one"
    assert world.missing(["e1"], world.seconds() - HANDOVER - 0.1) == []


def test_an_entry_that_left_is_buried_and_goes_on_if_it_returns_in_time(world: World) -> None:
    both = catalog(entry("stays"), entry("leaves"), fingerprint="v1")
    world.start("a", both)
    world.run(3.5)
    world.stop("a")
    world.start("b", catalog(entry("stays"), fingerprint="v2"))
    world.run(LEASE + 3)
    buried = world.store.cursors["leaves"]
    assert isinstance(buried, Cursor)
    assert buried.is_tombstone
    world.stop("b")
    world.start("c", both)
    world.run(3)
    again = world.store.cursors["leaves"]
    assert isinstance(again, Cursor)
    assert again.fired > buried.fired > 0
    assert again.revision > buried.revision
    assert not [due for name, due in world.fired() if name == "leaves" and 3.6 < due < LEASE + 6.5]


def test_a_rare_entry_that_returned_in_time_is_swept_so_that_its_grace_begins_anew(world: World) -> None:
    world.start("a", catalog(entry("stays"), entry("rare", 2e6), fingerprint="v1"))
    world.run(LEASE + 3)
    gone = Cursor(START - GRACE / 2, "", START - GRACE / 2, revision=3, fired=7)
    world.store.cursors["rare"] = gone
    world.stop("a")
    world.start("b", catalog(entry("stays"), entry("rare", 2e6), fingerprint="v2"))
    world.run(LEASE + 5)
    back = world.store.cursors["rare"]
    assert isinstance(back, Cursor) and world.store.fence is not None
    assert (back.definition, back.effective_from) == ("d", world.store.fence.since)
    assert (back.due, back.fired) == (gone.due, 7)


def test_an_entry_that_stays_away_is_forgotten(world: World) -> None:
    world.start("a", catalog(entry("stays"), fingerprint="v1"))
    world.run(LEASE + 1)
    assert world.store.fence is not None
    gone = Cursor(START - 2 * GRACE, "", START - 2 * GRACE, revision=3, fired=7)
    world.store.cursors["gone"] = gone
    world.clock.advance(3601)
    world.run(3)
    assert "gone" not in world.store.cursors


# --- bad entries --------------------------------------------------------------------------------------------


def test_an_entry_that_cannot_be_rendered_is_reported_and_the_others_go_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    beat = world.start("a", many(3))
    beat.outbox.failing["e1"] = "not serialisable"
    world.run(4)
    assert world.missing(["e0", "e2"], world.seconds() - 0.1) == []
    assert beat.report.snapshot()["errors"] == {"e1": "not serialisable"}
    assert caplog.text.count("not serialisable") == 1
    del beat.outbox.failing["e1"]
    world.run(6)
    assert world.missing(["e1"], world.seconds() - 0.1) == []
    assert beat.report.snapshot()["errors"] == {}


class Broken:
    """A recurrence whose code fails in a way that nobody foresaw."""

    def following(self, last: datetime, after: datetime) -> datetime:
        raise ZeroDivisionError("of all things")

    def latest(self, last: datetime, now: datetime) -> tuple[datetime, int] | None:
        raise ZeroDivisionError("of all things")


def test_an_unforeseen_error_of_one_entry_stops_neither_the_others_nor_the_loop(world: World) -> None:
    beat = world.start("a", catalog(entry("bad", Broken()), entry("e0"), entry("worse")))
    render = beat.outbox.render

    def failing(occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        if occurrence.entry.name == "worse":
            raise RecursionError("deeper than anybody thought")
        return render(occurrence, now=now)

    beat.outbox.render = failing  # type: ignore[method-assign]
    world.run(4)
    assert world.missing(["e0"], world.seconds() - 0.1) == []
    assert sorted(beat.report.snapshot()["errors"]) == ["bad", "worse"]


class Flaky(Every):
    """A schedule whose calendar is away for a while; asked through its own clock."""

    def __init__(self, world: World) -> None:
        super().__init__(1.0)
        self._world = world

    def following(self, last: datetime, after: datetime) -> datetime:
        if 3 < self._world.seconds() < 7:
            raise EntryError("the calendar is away")
        return super().following(last, after)


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_due_that_cannot_be_reckoned_fires_nothing_again(world: World, catch_up: CatchUp) -> None:
    entries = catalog(entry("flaky", Flaky(world), catch_up=catch_up), entry("e0"))
    for name in "ab":
        world.start(name, entries)
    world.run(15)
    assert world.doubled() == []
    assert world.missing(["e0"], world.seconds() - 0.1) == []
    assert any(name == "flaky" and due > 8 for name, due in world.fired())


def test_an_error_of_a_schedule_is_over_as_soon_as_it_can_be_asked_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    daily = Flaky(world)
    daily.step = timedelta(days=1)
    world.run(4)
    beat = world.start("a", catalog(entry("daily", daily)))
    world.run(1)
    assert "the calendar is away" in str(beat.report.snapshot()["errors"])
    world.run(15)
    assert beat.report.snapshot()["errors"] == {}
    assert "can be fired again" in caplog.text


def test_an_entry_that_could_never_be_reckoned_is_never_fired(world: World) -> None:
    world.start("a", catalog(entry("bad", Broken(), catch_up=CatchUp.ALL)))
    world.run(5)
    world.kill("a")
    world.start("b", catalog(entry("bad", Broken(), catch_up=CatchUp.ALL)))
    world.run(15)
    assert sum(world.fired().values()) == 0


def test_an_error_is_not_reported_any_more_by_a_node_that_let_go_of_the_entry(world: World) -> None:
    beats = three(world)
    for beat in beats:
        beat.outbox.failing["e0"] = "boom"
    world.run(3)
    for name in "de":
        world.start(name, many(20)).outbox.failing["e0"] = "boom"
    world.run(5)
    for beat in world.beats.values():
        beat.outbox.failing.clear()
    world.run(70)
    assert [beat.id for beat in world.beats.values() if beat.report.snapshot()["errors"]] == []


def test_a_queue_that_refuses_the_message_spoils_one_entry(world: World) -> None:
    beat = world.start("a", many(2))
    world.store.refused.add("celery")
    world.run(3)
    assert beat.report.snapshot()["error_count"] == 2
    world.store.refused.clear()
    world.run(6)
    assert world.missing(["e0", "e1"], world.seconds() - 0.1) == []


def test_a_damaged_cursor_is_reported_and_taken_up_when_it_is_mended(world: World) -> None:
    beat = world.start("a", many(2))
    world.store.cursors["e0"] = Damaged("[garbage", "not JSON")
    world.run(3)
    assert world.missing(["e1"], world.seconds() - 0.1) == []
    assert "not JSON" in beat.report.snapshot()["errors"]["e0"]
    del world.store.cursors["e0"]
    world.run(12)
    assert world.missing(["e0"], world.seconds() - 0.1) == []
    assert beat.report.snapshot()["errors"] == {}


class WhenTold:
    """A polled schedule that is due in the first tenth of every third second."""

    def poll(self, last: datetime, now: datetime) -> tuple[bool, timedelta]:
        since = (now - START).total_seconds()
        return (since % 3 < 0.1 and now - last > timedelta(seconds=1)), timedelta(seconds=0.05)


def test_a_polled_schedule_is_fired_once_by_three_nodes(world: World) -> None:
    for name in "abc":
        world.start(name, catalog(entry("polled", WhenTold())))
    world.run(13)
    dues = sorted(due for _, due in world.fired())
    assert [int(due) for due in dues] == [3, 6, 9, 12]


def test_a_node_without_an_entry_is_ready_too(world: World) -> None:
    beat = world.start("a", catalog())
    world.run(0.2)
    assert beat.membership.state is MemberState.STEADY


# --- liveness -----------------------------------------------------------------------------------------------


def test_a_loop_that_hangs_loses_its_place(world: World, caplog: pytest.LogCaptureFixture) -> None:
    beat = world.start("a", many(1))
    world.run(1)
    world.clock.advance(LEASE)
    assert beat.membership.beat() is None
    assert "does not turn" in caplog.text


def test_a_refusal_before_the_first_view_ends_the_loop(world: World) -> None:
    from celery_dispatch.errors import StoreRefused

    beat = world.start("a", many(1))
    beat.membership.refused = StoreRefused("wrong password")
    with pytest.raises(StoreRefused, match="wrong password"):
        beat.node.turn()


def test_turns_stay_short_while_a_large_pool_changes(world: World) -> None:
    import time

    beat = world.start("n0", many(100_000, every=86_400.0))
    read, pages = beat.ledger.read, []
    beat.ledger.read = lambda names: (pages.append(len(names)), read(names))[1]  # type: ignore[method-assign]
    while beat.membership.state is not MemberState.STEADY or beat.report.loading:
        world.run(0.01)
    for i in range(1, 200):
        world.store.members[f"n{i}"] = world.store.members["n0"].__class__(
            id=f"n{i}", host=f"h{i}", config="v1", identity="proj", state=MemberState.STEADY,
            draining=False, joined=START,
            lease_end=START + timedelta(days=1), info={},
        )  # fmt: skip
    world.store.changed()
    beat.membership.beat()
    turns = []
    while not turns or beat.report.loading:
        began = time.process_time()  # the machine may be busy
        beat.node.turn()
        turns.append(time.process_time() - began)
    assert max(turns) < 2.0, "a turn must not work through the whole schedule"
    assert beat.report.owned < 2_000
    assert max(pages) <= 500


def test_a_server_clock_that_goes_back_silences_entries_for_no_longer_than_the_step(world: World) -> None:
    for name in "abc":
        world.start(name, many(3))
    world.run(12.3)  # the next dues come before the next heartbeats
    last = max(due for _, due in world.fired())
    world.store.step(-30)
    world.run(last + 1 + 30 + HANDOVER + 0.2 - 12.3)
    assert max(due for _, due in world.fired()) == pytest.approx(last + 1)


def test_a_node_says_that_it_fires_again_when_claims_are_carried_out_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Not when it can only read: the server was restarted, and the pool has to recover before."""
    beat = world.start("a", catalog(entry("rare", 3600.0)))
    world.run(4)
    world.store.available = False
    world.run(3)
    world.store.restart()
    world.store.available = True
    beat.next_beat = world.clock.monotonic() + 0.5
    world.run(3)
    said = [record.getMessage() for record in caplog.records]
    (again,) = [place for place, line in enumerate(said) if line == "Node a fires again"]
    assert again > next(place for place, line in enumerate(said) if line == "The pool has recovered")
