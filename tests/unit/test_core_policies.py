"""Count, jitter, start and end, pauses: nodes in virtual time, through faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_dispatch.core.catchup import Patience, plan
from celery_dispatch.core.entry import CatchUp, Cursor, Entry, Fence
from celery_dispatch.core.ports import Claim, ClaimReply
from celery_dispatch.core.recurrence import Between
from celery_dispatch.core.report import ErrorKind, Skip
from celery_dispatch.core.rows import Pause
from celery_dispatch.errors import StoreUnavailable
from tests.unit.world import START, Every, World, catalog, entry

PATIENCE = Patience(timedelta(seconds=0.5), timedelta(seconds=10.5))
NEVER = Fence("v1", START)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def jittered(every: float, jitter: float, *, catch_up: CatchUp = CatchUp.ALL, definition: str = "d") -> Entry:
    return replace(
        entry("e", every, catch_up=catch_up, definition=definition), jitter=timedelta(seconds=jitter)
    )


# --- count --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user_code", [False, True])
def test_five_are_fired_and_no_more_although_nodes_die(user_code: bool) -> None:
    world = World()
    five = replace(entry("e"), count=5)
    for name in "abc":
        world.start(name, catalog(five)).outbox.user_code.update({"e"} if user_code else ())
    world.run(3.3)
    world.kill("a")
    world.run(1.2)
    world.kill("b")
    world.start("d", catalog(five))
    world.run(30)
    assert world.doubled() == []
    assert sum(world.fired().values()) == 5
    assert world.store.cursors["e"].fired == 5  # type: ignore[union-attr]


def test_a_count_holds_through_replies_that_were_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for name in "ab":
        ledger, calls = world.start(name, catalog(replace(entry("e"), count=5))).ledger, [0]
        claim = ledger.claim

        def unheard(
            fence: Fence, claims: Sequence[Claim], claim=claim, calls=calls, **options: Any
        ) -> ClaimReply:
            reply: ClaimReply = claim(fence, claims, **options)
            calls[0] += 1
            if calls[0] % 2:
                raise StoreUnavailable("the answer was lost")
            return reply

        monkeypatch.setattr(ledger, "claim", unheard)
    world.run(40)
    assert sum(world.fired().values()) == 5 and world.doubled() == []


def test_a_message_that_cannot_be_made_does_not_use_the_count_up() -> None:
    world = World()
    beat = world.start("a", catalog(replace(entry("e"), count=3)))
    beat.outbox.user_code.add("e")
    beat.outbox.failing["e"] = "no"
    world.run(5)
    assert world.fired() == {}
    del beat.outbox.failing["e"]
    world.run(30)
    assert sum(world.fired().values()) == 3


def test_skipped_occurrences_do_not_count() -> None:
    world = World()
    world.start("a", catalog(replace(entry("e", catch_up=CatchUp.LATEST), count=4)))
    world.run(2.5)
    world.kill("a")
    world.run(20)
    world.start("b", catalog(replace(entry("e", catch_up=CatchUp.LATEST), count=4)))
    world.run(20)
    assert sum(world.fired().values()) == 4


def test_what_is_completed_has_no_alarm() -> None:
    world = World()
    beat = world.start("a", catalog(replace(entry("e"), count=1)))
    world.run(5)
    reads = []
    beat.ledger.read = lambda names: reads.append(names) or [world.store.cursors[n] for n in names]  # type: ignore[method-assign, func-returns-value]
    world.run(HOUR := 20)
    assert len(reads) <= HOUR / 2 + 1  # the comparison once a heartbeat, and no more
    assert beat.node.turn() == pytest.approx(0.5)  # until it looks for rows


def test_a_higher_count_lets_an_entry_go_on() -> None:
    world = World()
    world.start("a", catalog(replace(entry("e"), count=2)))
    world.run(10)
    world.stop("a")
    world.start("b", catalog(replace(entry("e", definition="more"), count=3), fingerprint="v2"))
    world.run(20)
    assert sum(world.fired().values()) == 3


# --- jitter -------------------------------------------------------------------------------------------------


@given(
    every=st.integers(1, 100_000), jitter=st.integers(1, 100_000), number=st.integers(0, 1000), name=st.text()
)
def test_a_jittered_occurrence_is_fired_before_the_next_due(
    every: int, jitter: int, number: int, name: str
) -> None:
    one = Entry(name, Every(every / 1000), "d", jitter=timedelta(milliseconds=jitter))
    due = START + number * timedelta(milliseconds=every)
    fires_at = one.fires_at(due)
    assert due <= fires_at < due + timedelta(milliseconds=every)
    assert fires_at - due <= timedelta(milliseconds=jitter)
    assert fires_at.microsecond % 1000 == 0
    assert fires_at == one.fires_at(due)


def test_jitter_spreads_entries_and_occurrences_evenly() -> None:
    spread = [
        (replace(jittered(60, 60), name=f"e{n}").fires_at(at(60 * k)) - at(60 * k)).total_seconds()
        for n in range(50)
        for k in range(20)
    ]
    tenths = [sum(6 * n <= s < 6 * n + 6 for s in spread) for n in range(10)]
    assert min(tenths) > 60 and max(tenths) < 140


def test_jittered_occurrences_are_fired_when_they_should_be_and_their_lag_counts_from_then() -> None:
    world = World()
    one = jittered(10, 8)
    beats = [world.start(name, catalog(one)) for name in "ab"]
    sent: dict[datetime, datetime] = {}
    for _ in range(5000):
        world.run(0.01)
        for _, due in world.store.messages():
            sent.setdefault(due, world.store.now())
    assert len(sent) >= 4 and world.doubled() == []
    assert all(
        timedelta(0) <= when - one.fires_at(due) < timedelta(seconds=0.1) for due, when in sent.items()
    )
    assert sum(beat.report.lags.total for beat in beats) < 1


def test_a_standby_helps_a_jittered_entry_after_the_handover_delay() -> None:
    world = World()
    one = jittered(10, 8)
    for name in "ab":
        world.start(name, catalog(one))
    world.run(3)
    owner = max(world.beats.values(), key=lambda beat: beat.report.owned)
    owner.paused = True
    world.run(20)
    for _, due in world.store.messages():
        assert one.fires_at(due) <= world.store.now()
    assert len(world.fired()) == 2 and world.doubled() == []


def test_the_server_refuses_an_occurrence_before_its_jitter_is_over() -> None:
    world = World()
    one = jittered(10, 9)
    beat = world.start("a", catalog(one))
    world.run(1)
    cursor = world.store.cursors["e"]
    assert isinstance(cursor, Cursor) and world.store.fence is not None
    due = one.next_due(cursor, world.store.fence)
    assert due is not None
    world.run((due - world.store.now()).total_seconds())
    wanted = cursor.advance(due, definition="d", fence=world.store.fence, node="a", fired=1, skipped=0)
    claim = Claim("e", cursor, wanted, not_before=one.fires_at(due))
    reply = beat.ledger.claim(world.store.fence, [claim])
    assert reply.results[0].status.value == "early"


@pytest.mark.parametrize("seconds", range(0, 20, 2))
def test_a_switch_between_due_and_jitter_neither_loses_nor_doubles(seconds: float) -> None:
    world = World()
    old = jittered(4, 3.9)
    world.start("a", catalog(old))
    world.run(2 + seconds)
    world.start("b", catalog(jittered(4, 3.9, definition="new"), fingerprint="v2"))
    world.run(1)
    world.stop("a")
    world.run(25)
    assert world.doubled() == []
    assert world.missing(["e"], world.seconds() - 5, every=4) == []


def test_an_outgoing_node_leaves_what_is_fired_after_the_switch_to_the_next_config() -> None:
    world = World()
    old = world.start("a", catalog(*(replace(jittered(4, 3.9), name=f"e{n}") for n in range(10))))
    world.run(1)
    for name in "bc":
        new = (replace(jittered(4, 3.9, definition="new"), name=f"e{n}") for n in range(10))
        world.start(name, catalog(*new, fingerprint="v2"))
    world.run(25)
    assert world.store.fence is not None and world.store.fence.config == "v2"
    assert old.report.failures[ErrorKind.FENCED] == 0
    assert world.doubled() == []
    assert world.missing([f"e{n}" for n in range(10)], world.seconds() - 5, every=4) == []


@pytest.mark.parametrize("catch_up", CatchUp)
def test_catch_up_counts_from_when_an_occurrence_is_to_be_fired(catch_up: CatchUp) -> None:
    one = jittered(100, 90, catch_up=catch_up)
    due = at(100)
    on_time = one.fires_at(due) + PATIENCE.handover
    planned = plan(one, due, on_time, PATIENCE)
    assert planned.due == due and planned.fires_at == one.fires_at(due) and planned.fire
    late = plan(one, due, one.fires_at(due) + timedelta(seconds=11), PATIENCE)
    assert (late.due, late.fire) == (due, catch_up is not CatchUp.NONE)


def test_latest_does_not_take_an_occurrence_whose_jitter_is_not_over() -> None:
    one = jittered(100, 90, catch_up=CatchUp.LATEST)
    now = one.fires_at(at(1000)) - timedelta(milliseconds=1)
    assert now > at(1000)
    planned = plan(one, at(100), now, PATIENCE)
    assert (planned.due, planned.skipped) == (at(900), 8)
    planned = plan(one, at(100), one.fires_at(at(1000)), PATIENCE)
    assert (planned.due, planned.skipped) == (at(1000), 9)


# --- start and end ------------------------------------------------------------------------------------------


def test_an_entry_fires_from_its_start_to_its_end_both_included() -> None:
    world = World()
    one = replace(entry("e"), recurrence=Between(Every(1), at(5), at(9), from_start=True))
    world.start("a", catalog(one))
    world.run(30)
    assert sorted(seconds for _, seconds in world.fired()) == [5, 6, 7, 8, 9]


def test_what_was_due_before_the_end_is_still_caught_up_after_it() -> None:
    world = World()
    one = replace(entry("e"), recurrence=Between(Every(1), None, at(9)))
    world.start("a", catalog(one))
    world.run(6)
    world.kill("a")
    world.run(30)
    world.start("b", catalog(one))
    world.run(5)
    assert max(seconds for _, seconds in world.fired()) > 8
    assert world.missing(["e"], 9) == []


def test_an_interval_with_a_start_counts_from_it_wherever_its_cursor_is() -> None:
    between = Between(Every(10), at(3), None, from_start=True)
    assert between.following(at(0), at(0)) == at(3)
    assert between.following(at(5), at(5)) == at(13)
    assert between.following(at(13), at(13)) == at(23)
    assert between.latest(at(0), at(45)) == (at(43), 4)
    assert between.latest(at(5), at(45)) == (at(43), 3)
    assert between.latest(at(5), at(12)) is None


def test_other_grids_are_not_moved_by_a_start() -> None:
    between = Between(Every(10), at(3), at(35))
    assert between.following(at(0), at(0)) == at(10)
    assert between.following(at(30), at(30)) is None
    assert between.latest(at(0), at(99)) == (at(30), 2)


# --- pauses -------------------------------------------------------------------------------------------------


def test_a_long_pause_is_one_step_for_a_node_that_comes_late() -> None:
    planned = plan(entry("e"), at(1), at(1000), PATIENCE, pauses=[None, Pause(at(3))])
    assert (planned.due, planned.fire, planned.skipped, planned.reason) == (
        at(1000), False, 1000, Skip.PAUSED,
    )  # fmt: skip


def test_a_pause_that_is_over_covers_what_was_due_in_it_and_nothing_else() -> None:
    over = [Pause(at(3), at(6))]
    planned = plan(entry("e"), at(3), at(1000), PATIENCE, pauses=over)
    assert (planned.due, planned.fire, planned.skipped) == (at(5), False, 3)
    assert plan(entry("e"), at(6), at(6.1), PATIENCE, pauses=over).fire
    assert plan(entry("e"), at(2), at(1000), PATIENCE, pauses=over).fire


# --- what is to come ----------------------------------------------------------------------------------------


def test_preview_shows_when_each_is_fired_and_stops_at_the_count() -> None:
    one = replace(jittered(10, 5), count=3)
    cursor = replace(Cursor.anchor("d", START, "a"), fired=1)
    coming = list(one.coming(cursor, NEVER))
    assert [occurrence.due for occurrence in coming] == [at(10), at(20)]
    assert [occurrence.fires_at for occurrence in coming] == [one.fires_at(at(10)), one.fires_at(at(20))]
    assert list(one.coming(replace(cursor, fired=3), NEVER)) == []
