"""The ``Pool`` contract, in memory and on real servers: what was due before a switch that nobody could claim.

It stays claimable for a lease in which somebody can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimStatus, Heartbeat, MemberState, Pulse
from tests.contract.conftest import HANDOVER, INTERVAL, LEASE, World, settle

Beat = Callable[..., Heartbeat]
MS = timedelta(milliseconds=1)
AHEAD = (INTERVAL + HANDOVER).total_seconds()  # that a switch is written ahead
SECONDS = LEASE.total_seconds()


def hear(world: World, beat: Heartbeat, merged: str = "", remembers: Pulse | None = None) -> Pulse:
    if remembers is not None:
        beat = replace(beat, remembered=remembers.fence, remembered_before=remembers.before)
    return world.pool.heartbeat(replace(beat, merged=merged), known_epoch=None)


def live(world: World, seconds: float, *beats: Heartbeat) -> Pulse:
    """These nodes live on for ``seconds``, a heartbeat each second; the pulse of the last."""
    for _ in range(round(seconds)):
        world.let_pass(1)
        for beat in beats:
            pulse = hear(world, beat)
    return pulse


@pytest.fixture
def nodes(world: World, beat: Beat) -> list[Heartbeat]:
    """One node of v1 and two of v2; the switch to v2 was just written, and takes place in 2.5 s."""
    old, new = beat("a"), [beat(node, config="v2") for node in "bc"]
    settle(world, old)
    live(world, 12, old)
    while not (fence := world.pool.read().fence) or fence.config == "v1":
        live(world, 1, old, *new)
    return [old, *new]


def is_claimable_for(seconds: float, world: World, *beats: Heartbeat) -> bool:
    """Whether what was due before the switch can be claimed for that long, all being well.

    A real server's clock goes on while the test runs.
    """
    passed = 0
    while live(world, 1, *beats).before is not None:
        passed += 1
    return seconds - 2 < passed <= seconds


def test_in_calm_it_is_a_lease_from_the_switch_on(world: World, nodes: list[Heartbeat]) -> None:
    pulse = live(world, 1, *nodes)

    assert pulse.reopened is None
    assert is_claimable_for(AHEAD - 1 + SECONDS, world, *nodes)


def test_a_silence_over_the_switch_leaves_a_whole_lease(world: World, nodes: list[Heartbeat]) -> None:
    world.let_pass(AHEAD + 3 * SECONDS)
    pulse = hear(world, nodes[1])

    assert pulse.before is not None and pulse.before.config == "v1"
    assert pulse.reopened is not None and pulse.now - pulse.reopened < MS
    assert is_claimable_for(SECONDS, world, *nodes)


def test_a_silence_after_the_switch_leaves_what_was_left(world: World, nodes: list[Heartbeat]) -> None:
    live(world, 6, *nodes)
    world.let_pass(60)
    hear(world, nodes[0])

    assert is_claimable_for(SECONDS - (6 - AHEAD), world, *nodes)


def test_a_silence_before_the_switch_changes_nothing(world: World, nodes: list[Heartbeat]) -> None:
    world.let_pass(AHEAD - 0.5)
    pulse = hear(world, nodes[0])
    assert pulse.reopened is None

    assert is_claimable_for(SECONDS + 0.5, world, *nodes)


def test_heartbeats_that_come_a_little_late_are_no_silence(world: World, nodes: list[Heartbeat]) -> None:
    world.let_pass(AHEAD)
    hear(world, nodes[0])
    world.let_pass(1.9 * INTERVAL.total_seconds())
    pulse = hear(world, nodes[1])

    assert pulse.reopened is None


def test_what_is_over_is_not_claimable_again(world: World, nodes: list[Heartbeat]) -> None:
    assert live(world, AHEAD + SECONDS + 2, *nodes).before is None
    world.let_pass(60)
    pulse = hear(world, nodes[0])

    assert (pulse.before, pulse.reopened) == (None, None)


def test_the_claim_obeys(world: World, nodes: list[Heartbeat]) -> None:
    world.let_pass(AHEAD + 3 * SECONDS)
    pulse = hear(world, nodes[0])
    assert pulse.fence is not None and pulse.before is not None
    cursor = Cursor(pulse.fence.since - timedelta(seconds=2), "d", pulse.before.since)
    world.put_cursor("e", cursor)
    last = replace(cursor, due=pulse.fence.since - timedelta(seconds=1), fired=1)
    result = world.ledger.claim(pulse.before, [Claim("e", cursor, last)]).results[0]

    assert result.status is ClaimStatus.WON


@pytest.mark.parametrize("spans", ["the switch", "a part of the lease after it"])
def test_a_recovery_does_not_count(world: World, nodes: list[Heartbeat], spans: str) -> None:
    left = SECONDS
    if spans != "the switch":
        live(world, 6, *nodes)
        left -= 6 - AHEAD
    world.restart()
    recovery = hear(world, nodes[0]).recovery
    for _ in range(4):
        world.let_pass(2)
        assert hear(world, nodes[0], recovery).recovery
    for node in nodes[1:]:
        pulse = hear(world, node, recovery)

    assert not pulse.recovery
    assert pulse.before is not None and pulse.before.config == "v1"
    assert pulse.reopened is not None and pulse.now - pulse.reopened < 100 * MS
    assert is_claimable_for(left, world, *nodes)


def test_a_restart_that_takes_no_longer_than_a_heartbeat_does_not_count_either(
    world: World, nodes: list[Heartbeat]
) -> None:
    live(world, AHEAD + 1, *nodes)
    world.let_pass(1)
    world.restart()

    assert hear(world, nodes[0]).reopened is not None


def test_time_in_which_no_node_reaches_the_broker_does_not_count(
    world: World, nodes: list[Heartbeat]
) -> None:
    away = [replace(node, state=MemberState.CUT_OFF) for node in nodes]
    live(world, 1, *away)
    pulse = live(world, 30, *away)
    assert pulse.before is not None and pulse.reopened is not None
    assert pulse.now - pulse.reopened < MS

    assert is_claimable_for(SECONDS, world, *nodes)


def test_where_any_node_reaches_the_broker_it_counts(world: World, nodes: list[Heartbeat]) -> None:
    """One of the old config may never reach it again, and nobody waits for it."""
    live(world, 1, *nodes)
    away = [replace(nodes[0], state=MemberState.CUT_OFF), *nodes[1:]]

    assert is_claimable_for(AHEAD - 1 + SECONDS, world, *away)


def test_no_vote_switches_as_long_as_it_is_claimable(
    world: World, beat: Beat, nodes: list[Heartbeat]
) -> None:
    third = [beat(node, config="v3") for node in "defgh"]
    live(world, 1, *nodes, *third)
    world.let_pass(AHEAD + 30)
    live(world, 8, *nodes, *third)
    assert world.pool.read().challenger == "v3"
    fence = world.pool.read().fence
    assert fence is not None and fence.config == "v2"


def test_a_clock_that_goes_on_and_back_leaves_a_lease_from_then_at_most(
    world: World, nodes: list[Heartbeat]
) -> None:
    live(world, 3, *nodes)
    world.let_pass(3600)
    hear(world, nodes[0])
    world.let_pass(-3600)
    pulse = hear(world, nodes[0])
    assert pulse.reopened is not None and pulse.reopened <= pulse.now

    assert is_claimable_for(SECONDS, world, *nodes)


def test_a_pool_that_came_back_older_takes_what_is_over_from_who_remembers(
    world: World, nodes: list[Heartbeat]
) -> None:
    pulse = live(world, 5, *nodes)
    assert pulse.fence is not None
    world.restart()
    world.let_pass(30)  # all of it a silence, by what is stored
    over = replace(pulse, before=None)
    now = hear(world, nodes[1])
    assert now.before is not None
    moved = Fence("v2", now.fence.since if now.fence else pulse.fence.since)
    after = hear(world, nodes[1], remembers=replace(over, fence=moved))

    assert (after.fence, after.before) == (moved, None)
    assert after.epoch != now.epoch


def test_what_a_node_remembers_of_it_is_claimable_for_a_lease_after_the_loss(
    world: World, nodes: list[Heartbeat], beat: Beat
) -> None:
    world.flush()
    now = world.now().replace(microsecond=0)
    known = Fence("v2", now - timedelta(seconds=60)), Fence("v1", now - timedelta(seconds=600))
    pulse = hear(world, beat("b", config="v2", remembered=known[0], remembered_before=known[1]))

    assert (pulse.fence, pulse.before) == known
    assert pulse.reopened is not None and pulse.now - pulse.reopened < MS
