"""Redis comes back older, empty, or as another server, while nodes are firing."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.recovery import is_behind
from tests.unit.world import HANDOVER, LEASE, START, World, catalog, entry, many

NAMES = [f"e{i}" for i in range(20)]


@pytest.fixture
def world() -> World:
    return World()


def three(world: World) -> None:
    for name in "abc":
        world.start(name, many(20))
    world.run(6)


def check(world: World, *, lag: float) -> None:
    assert world.doubled() == []
    assert world.missing(NAMES, world.seconds() - lag) == []


def recovering(world: World) -> bool:
    return any(beat.membership.view and beat.membership.view.recovery for beat in world.beats.values())


def settle(world: World, most: float) -> float:
    """Run until nobody recovers any more; how long that took."""
    began = world.seconds()
    world.run(0.05)
    while recovering(world) or world.store.recovery:
        world.run(0.05)
        assert world.seconds() - began < most
    return world.seconds() - began


def test_a_redis_that_was_emptied_fires_nothing_again(world: World) -> None:
    three(world)
    world.store.flush()
    assert settle(world, LEASE + 2) > 0
    world.run(5)
    check(world, lag=0.1)
    assert world.store.fence is not None
    assert world.store.fence.config == "v1"


def test_the_config_in_force_is_remembered_through_an_emptied_redis(world: World) -> None:
    three(world)
    world.start("canary", catalog(entry("rogue"), fingerprint="v2"))
    world.run(LEASE)
    before = world.store.fence
    world.store.flush()
    world.beats["canary"].next_beat = 0.0  # it is there first
    settle(world, LEASE + 2)
    world.run(3)
    assert world.store.fence == before
    assert not any(name == "rogue" for name, _ in world.fired())
    check(world, lag=0.1)


def test_a_redis_that_came_back_older_fires_nothing_again(world: World) -> None:
    three(world)
    world.run(2)
    saved = world.save()
    world.run(30)
    world.load(saved)
    assert settle(world, LEASE + 2) < 3
    world.run(5)
    check(world, lag=0.1)


def test_what_only_a_dead_node_knew_is_waited_for_no_longer_than_a_lease(world: World) -> None:
    three(world)
    saved = world.save()
    world.run(5)
    world.kill("a")
    world.load(saved)
    took = settle(world, LEASE + 2)
    assert LEASE - 1 < took < LEASE + 1
    world.run(5)
    assert world.missing(NAMES, world.seconds() - HANDOVER - 0.2) == []


def test_a_restart_that_lost_nothing_recovers_within_a_heartbeat(world: World) -> None:
    three(world)
    world.load(world.save())
    assert settle(world, LEASE) < 2.5
    world.run(3)
    check(world, lag=0.1)


def test_a_cursor_that_went_back_makes_the_pool_recover(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    three(world)
    old = dict(world.store.cursors)
    world.run(5)
    world.store.cursors.update(old)
    with caplog.at_level(logging.WARNING):
        world.run(4)
    check(world, lag=0.1)
    assert "The pool recovers" in caplog.text


def test_no_claim_passes_while_the_pool_recovers(world: World) -> None:
    three(world)
    world.run(2)
    world.beats["c"].paused = True  # it is waited for
    world.load(world.save())
    world.run(0.5)
    before = world.fired()
    world.run(3)
    assert world.fired() == before
    world.beats["c"].paused = False
    world.run(3)
    check(world, lag=0.1)


def test_an_intent_that_comes_back_with_an_old_redis_is_not_sent_again(world: World) -> None:
    for name in "abc":
        beat = world.start(name, many(20))
        beat.outbox.same_store = False
    world.run(3)
    saved: list[dict[str, object]] = []
    publish = world.beats["a"].outbox.publish

    def spy(messages):  # type: ignore[no-untyped-def]
        if not saved:
            saved.append(world.save())
        return publish(messages)

    world.beats["a"].outbox.publish = spy  # type: ignore[method-assign]
    world.run(5)
    assert saved
    assert saved[0]["intents"]
    world.load(saved[0])
    settle(world, LEASE + 2)
    world.run(LEASE + 5)
    check(world, lag=0.1)
    assert world.store.intents == {}


@pytest.mark.parametrize("same_store", [True, False])
def test_an_old_intent_is_not_sent_again_by_another_node_than_the_one_that_sent_it(
    world: World, same_store: bool
) -> None:
    for name in "abc":
        beat = world.start(name, many(20))
        beat.outbox.same_store, beat.outbox.user_code = same_store, set(NAMES) if same_store else set()
    world.run(3)
    saved: dict[str, object] = {}
    sender = world.beats["a"]
    port, method = (sender.intents, "settle") if same_store else (sender.outbox, "publish")
    original = getattr(port, method)

    def spy(*args: object) -> object:
        if not saved:
            saved.update(world.save())
        return original(*args)

    setattr(port, method, spy)
    world.run(2 * LEASE)
    assert saved["intents"]
    world.load(saved)
    sender.next_beat = world.clock.monotonic() + 1.0  # the others merge first
    world.run(2 * LEASE)
    check(world, lag=0.1)
    assert world.store.intents == {}


def test_tombstones_that_redis_lost_are_written_again(world: World) -> None:
    world.start("a", catalog(entry("stays"), entry("leaves"), fingerprint="v1"))
    world.run(5)
    world.stop("a")
    for name in "bc":
        world.start(name, catalog(entry("stays"), fingerprint="v2"))
    world.run(LEASE - 1)
    saved = world.save()
    world.run(5)
    world.load(saved)
    world.run(10)
    buried = world.store.cursors["leaves"]
    assert isinstance(buried, Cursor)
    assert buried.is_tombstone


def test_a_cursor_that_is_lost_is_missed_long_before_it_is_due(world: World) -> None:
    for name in "abc":
        world.start(name, many(20, every=3600.0))
    world.run(5)
    known = world.store.cursors.pop("e3")
    world.run(8)
    assert world.store.cursors["e3"] == known


def test_a_cursor_that_a_person_has_reset_is_followed(world: World) -> None:
    for name in "abc":
        world.start(name, catalog(entry("e0", 3600.0)))
    world.run(5)
    cursor = world.store.cursors["e0"]
    assert isinstance(cursor, Cursor)
    past = cursor.due - timedelta(seconds=3590)
    world.store.cursors["e0"] = replace(cursor, due=past, revision=cursor.revision + 1)
    world.run(12)
    assert [due for _, due in world.store.messages()] == [past + timedelta(seconds=3600)]
    assert not recovering(world)


@pytest.mark.parametrize(
    ("stored", "known", "behind"),
    [
        ((3, 5, 100), (3, 6, 101), True),
        ((3, 6, 101), (3, 5, 100), False),
        ((4, 0, 0), (3, 9, 200), False),  # reset by a person, or another definition
        ((3, 0, 300), (3, 5, 100), True),  # a fresh anchor
        ((3, 5, 100), (3, 0, 300), False),
    ],
)
def test_cursors_are_ordered_by_revision_then_by_due(
    stored: tuple[int, int, int], known: tuple[int, int, int], behind: bool
) -> None:
    def cursor(revision: int, fired: int, seconds: int) -> Cursor:
        due = START.replace(minute=seconds // 60, second=seconds % 60)
        return Cursor(due, "d", START, revision=revision, fired=fired)

    assert is_behind(cursor(*stored), cursor(*known)) is behind
    assert is_behind(None, cursor(*known))
