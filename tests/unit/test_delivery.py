"""Two steps: an intent between the claim and the broker, and whatever can go wrong there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from celery_dispatch.core.entry import CatchUp, Cursor
from celery_dispatch.core.ports import MemberState
from celery_dispatch.core.report import Skip
from celery_dispatch.errors import StoreUnavailable
from tests.unit.world import HANDOVER, LEASE, START, Beat, World, catalog, entry, many

NAMES = [f"e{i}" for i in range(20)]
#: Whether the broker is the store itself, and whether publishing runs user code.
USER_CODE, OTHER_BROKER, BOTH = (True, True), (False, False), (False, True)
PATHS = pytest.mark.parametrize("path", [USER_CODE, OTHER_BROKER, BOTH], ids=["user code", "other", "both"])


@pytest.fixture
def world() -> World:
    return World()


def on(path: tuple[bool, bool], beat: Beat) -> Beat:
    beat.outbox.same_store, has_user_code = path
    beat.outbox.user_code = set(NAMES) if has_user_code else set()
    return beat


def three(world: World, path: tuple[bool, bool], **options: Any) -> list[Beat]:
    beats = [on(path, world.start(name, many(20), **options)) for name in "abc"]
    world.run(2)
    assert all(beat.membership.state is MemberState.STEADY for beat in beats)
    return beats


def _anchored(world: World) -> float:
    assert world.anchor is not None
    return (world.anchor - START).total_seconds()


def _grid(world: World, names: list[str], every: float) -> list[tuple[str, float]]:
    """All occurrences of entries up to now."""
    anchor = _anchored(world)
    count = int((world.seconds() - anchor) / every)
    return [(name, round(anchor + every * k, 3)) for name in names for k in range(1, count + 1)]


def complete(world: World, *, lag: float) -> None:
    assert world.missing(NAMES, world.seconds() - lag) == []


def at(beat: Beat, point: str, do: Callable[[], None], *, before: bool) -> None:
    """Let ``do`` happen at the first call of ``port.method`` from now on, and the call then fail."""
    port, name = point.split(".")
    target: Any = getattr(beat, port)
    original = getattr(target, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        setattr(target, name, original)
        if not before:
            original(*args, **kwargs)
        do()
        raise StoreUnavailable("as the test wants it")

    setattr(target, name, wrapped)


# --- when all is well ---------------------------------------------------------------------------------------


@PATHS
def test_three_nodes_fire_every_occurrence_once_by_two_steps(world: World, path: tuple[bool, bool]) -> None:
    beats = three(world, path)
    world.run(8)
    complete(world, lag=0.05)
    assert world.doubled() == []
    assert world.store.intents == {}
    assert sum(beat.report.fired for beat in beats) == sum(world.fired().values())


def test_user_code_runs_after_the_claim_and_on_the_winner_only(world: World) -> None:
    beats = three(world, USER_CODE)
    claimed: list[tuple[str, object]] = []
    for beat in beats:
        render = beat.outbox.render

        def spy(occurrence: Any, *, now: Any, render: Any = render) -> Any:
            cursor = world.store.cursors[occurrence.entry.name]
            assert isinstance(cursor, Cursor)
            assert cursor.due == occurrence.due, "rendered before it was claimed"
            claimed.append((occurrence.entry.name, occurrence.due))
            return render(occurrence, now=now)

        beat.outbox.render = spy  # type: ignore[method-assign]
    world.run(5)
    assert len(claimed) == len(set(claimed)) > 80


def test_an_entry_whose_own_code_sends_nothing_is_fired_all_the_same(world: World) -> None:
    beat = on(USER_CODE, world.start("a", many(2)))
    beat.outbox.unsent = {"e0"}
    world.run(5)
    assert world.missing(["e1"], world.seconds() - 0.1) == []
    assert not any(name == "e0" for name, _ in world.fired())
    assert world.store.intents == {}
    assert beat.report.snapshot()["errors"] == {}


# --- dying, pausing, not hearing the answer -----------------------------------------------------------------

POINTS = ["ledger.claim", "intents.keep", "outbox.publish", "intents.settle"]


def reaches(path: tuple[bool, bool], point: str) -> bool:
    same_store, has_user_code = path
    if point == "intents.keep":
        return has_user_code and not same_store
    return point != "outbox.publish" or not same_store


@PATHS
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_node_killed_at_any_point_loses_nothing(
    world: World, path: tuple[bool, bool], point: str, before: bool
) -> None:
    if not reaches(path, point):
        pytest.skip("this path does not pass there")
    beats = three(world, path)
    at(beats[0], point, lambda: world.kill("a"), before=before)
    world.run(LEASE + 6)
    assert "a" not in world.beats, "the point was never reached"
    complete(world, lag=HANDOVER + 0.2)
    assert world.store.intents == {}
    may_double = not path[0] and (point, before) in {("outbox.publish", False), ("intents.settle", True)}
    assert bool(world.doubled()) == may_double


@PATHS
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_call_that_fails_at_any_point_loses_nothing_and_doubles_nothing(
    world: World, path: tuple[bool, bool], point: str, before: bool
) -> None:
    if not reaches(path, point) or point == "outbox.publish":
        pytest.skip("this path does not pass there")
    beats = three(world, path)
    reached = []
    at(beats[0], point, lambda: reached.append(point), before=before)
    world.run(6)
    assert reached
    complete(world, lag=HANDOVER + 0.2)
    assert world.doubled() == []
    assert world.store.intents == {}


def test_a_lost_confirmation_is_answered_by_the_same_message_again(world: World) -> None:
    beat = on(OTHER_BROKER, world.start("a", many(20)))
    world.run(3)
    beat.outbox.lose_confirms(3)
    world.run(4)
    complete(world, lag=0.5)
    assert len(world.doubled()) == 3
    assert world.store.intents == {}


def test_at_most_once_drops_what_may_have_been_sent_loudly(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    beat = on(OTHER_BROKER, world.start("a", many(20), at_most_once=True))
    world.run(3)
    beat.outbox.lose_confirms(3)
    world.run(4)
    assert world.doubled() == []
    assert world.store.intents == {}
    assert beat.report.skips[Skip.DROPPED] == 3
    assert caplog.text.count("is dropped: it may have been sent before") == 3


@PATHS
def test_a_pause_after_the_claim_does_not_send_what_others_took_over(
    world: World, path: tuple[bool, bool]
) -> None:
    beats = three(world, path)
    claim = beats[0].ledger.claim

    def pausing(fence: Any, claims: Any, **options: Any) -> Any:
        reply = claim(fence, claims, **options)
        if any(one.intent for one in claims):
            beats[0].ledger.claim = claim  # type: ignore[method-assign]
            beats[0].paused = True
            world.run(LEASE + 5)
            beats[0].paused = False
        return reply

    beats[0].ledger.claim = pausing  # type: ignore[method-assign]
    world.run(5)
    complete(world, lag=HANDOVER + 0.2)
    assert world.doubled() == []
    assert world.store.intents == {}


# --- the broker ---------------------------------------------------------------------------------------------


def test_without_a_broker_at_most_one_batch_of_a_node_is_open(world: World) -> None:
    beats = three(world, OTHER_BROKER, batch_size=5)
    world.store.broker_available = False
    world.run(30)
    assert len(world.store.intents) <= 5 * len(beats)
    world.store.broker_available = True
    world.run(4)
    complete(world, lag=0.5)
    assert world.doubled() == []
    assert world.store.intents == {}


def test_an_hour_without_a_broker_fills_no_redis_and_is_caught_up_by_policy(world: World) -> None:
    names = {policy: [f"{policy.value}-{i}" for i in range(10)] for policy in CatchUp}
    entries = [entry(name, 60.0, catch_up=policy) for policy, some in names.items() for name in some]
    beats = [on(OTHER_BROKER, world.start(name, catalog(*entries), batch_size=5)) for name in "abc"]
    world.run(90)
    before, began = world.fired(), world.seconds()
    world.store.broker_available = False
    for _ in range(60):
        world.run(60, step=0.1)
        assert len(world.store.intents) <= 5 * len(beats)
        assert set(world.store.members) == {"a", "b", "c"}
    gone = world.seconds() - began
    world.store.broker_available = True
    world.run(20)
    caught_up = world.fired() - before
    missed = {
        (name, due) for name, due in _grid(world, names[CatchUp.ALL], 60.0) if began <= due < began + gone
    }
    assert missed <= set(caught_up), "each of them, where the policy is all"
    for name in names[CatchUp.LATEST]:
        assert sum(fired == name for fired, _ in caught_up) <= 2, "the claimed one, and one for all missed"
    for name in names[CatchUp.NONE]:
        assert sum(fired == name for fired, _ in caught_up) <= 1, "the claimed one"
    assert world.doubled() == []
    assert world.store.intents == {}
    for name in (*names[CatchUp.LATEST], *names[CatchUp.NONE]):
        cursor = world.store.cursors[name]
        assert isinstance(cursor, Cursor)
        assert cursor.fired + cursor.skipped == int((world.seconds() - _anchored(world)) / 60), name


def test_a_node_without_a_broker_leaves_the_ring_and_comes_back(world: World) -> None:
    beats = three(world, OTHER_BROKER)
    beats[0].outbox.available = False
    world.run(8)
    assert beats[0].membership.state is MemberState.CUT_OFF
    complete(world, lag=HANDOVER + 0.2)
    assert beats[1].report.owned + beats[2].report.owned == 20
    beats[0].outbox.available = True
    world.run(6)
    assert beats[0].membership.state is MemberState.STEADY
    complete(world, lag=0.1)
    assert world.doubled() == []
    assert beats[0].report.owned > 0


# --- what cannot be sent ------------------------------------------------------------------------------------


@PATHS
def test_a_message_that_cannot_be_made_gives_its_occurrence_back(
    world: World, path: tuple[bool, bool]
) -> None:
    beats = three(world, path)
    for beat in beats:
        beat.outbox.failing["e1"] = "the lock is taken"
    world.run(4)
    others = [name for name in NAMES if name != "e1"]
    assert world.missing(others, world.seconds() - HANDOVER - 0.2) == []
    assert any(beat.report.snapshot()["errors"] == {"e1": "the lock is taken"} for beat in beats)
    for beat in beats:
        beat.outbox.failing.clear()
    world.run(20)
    complete(world, lag=HANDOVER + 0.2)
    assert world.doubled() == []
    assert world.store.intents == {}


def test_a_message_that_the_broker_refuses_gives_its_occurrence_back(world: World) -> None:
    beat = on(OTHER_BROKER, world.start("a", many(2)))
    world.store.refused.add("celery")
    world.run(4)
    assert beat.report.snapshot()["error_count"] == 2
    world.store.refused.clear()
    world.run(10)
    assert world.missing(["e0", "e1"], world.seconds() - 0.1) == []
    assert world.doubled() == []


def test_a_full_queue_gives_its_occurrences_back_and_stops_nobody(world: World) -> None:
    beats = three(world, OTHER_BROKER)
    for beat in beats:
        beat.outbox.full = True
    world.run(5)
    assert world.store.intents == {}
    assert all(beat.membership.state is MemberState.STEADY for beat in beats)
    assert all(beat.report.outage is None for beat in beats)
    for beat in beats:
        beat.outbox.full = False
    world.run(20)
    complete(world, lag=HANDOVER + 0.2)
    assert world.doubled() == []


def test_an_entry_whose_queue_stays_full_is_tried_with_backoff_and_reported_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    beat = on(OTHER_BROKER, world.start("a", many(1)))
    beat.outbox.full = True
    with caplog.at_level(logging.WARNING):
        world.run(40)
    assert caplog.text.count("cannot be fired") == 1
    assert "can be fired again" not in caplog.text
    assert len(beat.outbox.rendered) < 8
    beat.outbox.full = False
    with caplog.at_level(logging.WARNING):
        world.run(70)
    assert caplog.text.count("can be fired again") == 1
    assert world.missing(["e0"], world.seconds() - 0.1) == []


@PATHS
def test_owner_and_standby_of_a_message_that_cannot_be_made_both_try_with_growing_pauses(
    world: World, path: tuple[bool, bool], caplog: pytest.LogCaptureFixture
) -> None:
    beats = three(world, path)
    tries = []
    for beat in beats:
        beat.outbox.failing["e1"] = "the lock is taken"
        render = beat.outbox.render

        def spy(occurrence: Any, *, now: Any, render: Any = render) -> Any:
            tries.extend([now] if occurrence.entry.name == "e1" else [])
            return render(occurrence, now=now)

        beat.outbox.render = spy  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        world.run(40)
    assert caplog.text.count("'e1' cannot be fired") == 2
    assert "can be fired again" not in caplog.text
    assert len(tries) < 30


def test_what_was_taken_over_waits_for_a_full_queue(world: World) -> None:
    beats = three(world, OTHER_BROKER)
    at(beats[0], "ledger.claim", lambda: world.kill("a"), before=False)
    while "a" in world.beats:
        world.run(0.1)
    for beat in beats[1:]:
        beat.outbox.full = True
    world.run(LEASE + 4)
    assert world.store.intents
    for beat in beats[1:]:
        beat.outbox.full = False
    world.run(LEASE + 20)
    complete(world, lag=HANDOVER + 0.2)
    assert world.doubled() == []
    assert world.store.intents == {}


@pytest.mark.parametrize("path", [USER_CODE, OTHER_BROKER], ids=["not rendered", "rendered"])
def test_an_intent_outlives_its_entry_only_if_it_was_rendered(
    world: World, path: tuple[bool, bool], caplog: pytest.LogCaptureFixture
) -> None:
    beat = on(path, world.start("a", catalog(entry("e0"), fingerprint="v1")))
    world.run(3)
    at(beat, "ledger.claim", lambda: world.kill("a"), before=False)
    world.run(2)
    (left,) = world.store.intents.values()
    successor = on(path, world.start("b", catalog(entry("new"), fingerprint="v2")))
    with caplog.at_level(logging.ERROR):
        world.run(2 * LEASE + 5)
    sent = any(name == "e0" and due == left.due for name, due in world.store.messages())
    if path == OTHER_BROKER:
        assert sent
    else:
        assert not sent
        assert "left the catalog" in caplog.text
        assert successor.report.skips[Skip.LEFT] == 1
    assert world.store.intents == {}


# --- slow code ----------------------------------------------------------------------------------------------


def test_slow_user_code_neither_stops_the_loop_nor_is_taken_over(world: World) -> None:
    beats = three(world, USER_CODE)
    quick = {name for name in NAMES if int(name[1:]) % 2}
    for beat in beats:
        beat.outbox.user_code -= quick
        render = beat.outbox.render

        def slowly(occurrence: Any, *, now: Any, render: Any = render, beat: Beat = beat) -> Any:
            if occurrence.entry.name in beat.outbox.user_code:
                world.clock.advance(0.3)  # everybody's time: ten entries take three seconds a second
            return render(occurrence, now=now)

        beat.outbox.render = slowly  # type: ignore[method-assign]
    world.run(20)
    assert world.doubled() == []
    assert set(world.store.members) == {"a", "b", "c"}
    for beat in beats:
        beat.outbox.user_code.clear()
    world.run(5)
    complete(world, lag=HANDOVER + 1)
    assert world.doubled() == []
    assert world.store.intents == {}


def test_code_that_takes_longer_than_half_a_lease_still_sends_on_the_ledgers_own_redis(world: World) -> None:
    names = ["e0", "e1", "e2", "e3"]
    for name in "ab":
        beat = world.start(name, catalog(*(entry(each, 20.0) for each in names)))
        beat.outbox.user_code = set(names)
        render = beat.outbox.render

        def slowly(occurrence: Any, *, now: Any, render: Any = render) -> Any:
            if occurrence.entry.name == "e0":
                world.clock.advance(LEASE / 2 + 0.5)
            return render(occurrence, now=now)

        beat.outbox.render = slowly  # type: ignore[method-assign]
    world.run(100)
    assert world.doubled() == []
    assert {name: sum(fired == name for fired, _ in world.fired()) >= 3 for name in names} == dict.fromkeys(
        names, True
    )


def test_at_most_once_drops_nothing_that_cannot_have_been_sent(world: World) -> None:
    names = [f"e{i}" for i in range(60)]
    beat = world.start("a", catalog(*(entry(name, 30.0) for name in names)), at_most_once=True)
    beat.outbox.user_code = set(names)
    render = beat.outbox.render

    def slowly(occurrence: Any, *, now: Any) -> Any:
        world.clock.advance(0.1)  # more than can be made before the rest is left to the next turn
        return render(occurrence, now=now)

    beat.outbox.render = slowly  # type: ignore[method-assign]
    world.run(70)
    assert beat.report.skips[Skip.DROPPED] == 0
    assert world.missing(names, 61, every=30.0) == []
    assert world.doubled() == []


@pytest.mark.parametrize("path", [(True, False), USER_CODE, OTHER_BROKER])
def test_a_reset_into_the_past_sends_again(world: World, path: tuple[bool, bool]) -> None:
    on(path, world.start("a", catalog(entry("e0", 10.0))))
    world.run(35)
    sent = len(world.store.messages())
    cursor = world.store.cursors["e0"]
    assert isinstance(cursor, Cursor)
    past = cursor.due - timedelta(seconds=20)
    world.store.cursors["e0"] = replace(cursor, due=past, revision=cursor.revision + 1)
    world.run(4)
    assert len(world.store.messages()) == sent + 2
