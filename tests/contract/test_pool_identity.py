"""The ``Pool`` contract, in memory and on real servers: whose pool it is, and nodes that are drained."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from celery_dispatch.core.ports import Heartbeat, Member, MemberState, Pulse
from celery_dispatch.errors import StoreRefused
from tests.contract.conftest import RedisWorld, World, settle

Beat = Callable[..., Heartbeat]
MS = timedelta(milliseconds=1)
MINE, OTHER, THIRD = "app on redis", "staging on redis", "app on rabbit"


def members(world: World) -> dict[str, Member]:
    return {member.id: member for member in world.pool.read().members}


def live(world: World, seconds: float, *beats: Heartbeat) -> Pulse:
    """These nodes live on for ``seconds``, a heartbeat each two seconds; the pulse of the last."""
    for _ in range(round(seconds / 2)):
        world.let_pass(2)
        for beat in beats:
            pulse = world.pool.heartbeat(beat, known_epoch=None)
    return pulse


# --- identity -----------------------------------------------------------------------------------------------


def test_the_first_nodes_identity_is_the_pools(world: World, beat: Beat) -> None:
    world.pool.heartbeat(beat("a"), known_epoch=None)
    pulse = world.pool.heartbeat(beat("b", identity=OTHER), known_epoch=None)

    assert pulse.identity == MINE
    assert {node: member.identity for node, member in members(world).items()} == {"a": MINE, "b": OTHER}


def test_a_node_of_another_identity_has_no_vote(world: World, beat: Beat) -> None:
    mine = beat("a")
    foreign = [beat(node, config="v2", identity=OTHER) for node in "bcd"]
    settle(world, mine, *foreign)
    live(world, 30, mine, *foreign)
    state = world.pool.read()

    assert state.fence is not None and state.fence.config == "v1"
    assert (state.identity, state.challenger) == (MINE, "")
    world.pool.leave("a")
    after = world.pool.read()
    assert (after.fence, after.identity) == (state.fence, MINE), "not at once"


def test_a_node_that_changes_its_identity_begins_a_new_epoch(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"), beat("b"))
    after = world.pool.heartbeat(beat("b", identity=OTHER), known_epoch=before.epoch)

    assert after.epoch != before.epoch
    assert after.identity == MINE


def test_the_pool_changes_hands_when_none_of_its_nodes_has_lived_for_a_lease(
    world: World, beat: Beat
) -> None:
    foreign = [beat("z", config="v3", identity=THIRD), beat("b", config="v2", identity=OTHER)]
    settle(world, beat("a"))
    for node in foreign:
        live(world, 2, beat("a"), node)
    before = world.pool.read()
    world.pool.leave("a")
    assert live(world, 8, *foreign).identity == MINE
    pulse = live(world, 4, *reversed(foreign))

    assert pulse.identity == THIRD, "that of the longest-lived node"
    assert pulse.fence is not None
    assert pulse.fence.config == "v3"
    assert pulse.now - pulse.fence.since < timedelta(seconds=4)
    assert pulse.before is None, "a node of the old identity must not claim any more"
    assert pulse.epoch != before.epoch
    assert pulse.members is not None


def test_the_vote_of_the_new_identity_decides(world: World, beat: Beat) -> None:
    foreign = [beat("b", config="v2", identity=OTHER), *(beat(n, config="v3", identity=OTHER) for n in "cd")]
    settle(world, beat("a"), *foreign)
    world.pool.leave("a")
    pulse = live(world, 12, *foreign)

    assert (pulse.identity, pulse.fence and pulse.fence.config) == (OTHER, "v3")


def test_the_same_config_has_a_fence_of_its_own_under_another_identity(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b", identity=OTHER))
    world.pool.leave("a")
    pulse = live(world, 12, beat("b", identity=OTHER))

    assert pulse.identity == OTHER
    assert pulse.fence is not None
    assert pulse.fence.config == "v1"
    assert pulse.now - pulse.fence.since < timedelta(seconds=4)
    assert pulse.before is None


def test_a_pool_whose_nodes_are_back_within_a_lease_stays_theirs(world: World, beat: Beat) -> None:
    foreign = beat("b", identity=OTHER)
    settle(world, beat("a"), foreign)
    world.pool.leave("a")
    live(world, 8, foreign)
    world.pool.heartbeat(beat("a2"), known_epoch=None)

    assert live(world, 30, foreign, beat("a2")).identity == MINE


def test_a_silence_of_the_whole_pool_is_no_reason_to_change_hands(world: World, beat: Beat) -> None:
    foreign = beat("b", identity=OTHER)
    settle(world, beat("a"), foreign)
    world.let_pass(60)
    assert world.pool.heartbeat(foreign, known_epoch=None).identity == MINE
    world.let_pass(8)
    assert world.pool.heartbeat(foreign, known_epoch=None).identity == MINE
    world.let_pass(4)

    assert world.pool.heartbeat(foreign, known_epoch=None).identity == OTHER


def test_a_recovery_is_no_reason_to_change_hands(world: World, beat: Beat) -> None:
    foreign = beat("b", identity=OTHER)
    settle(world, beat("a"), foreign)
    world.pool.leave("a")
    live(world, 8, foreign)
    world.restart()
    assert live(world, 4, foreign).recovery
    assert world.pool.read().identity == MINE


def test_after_the_clock_went_back_a_pool_without_its_nodes_changes_hands_after_a_lease(
    world: World, beat: Beat
) -> None:
    foreign = beat("b", identity=OTHER)
    settle(world, beat("a"), foreign)
    world.pool.leave("a")
    world.let_pass(-3600)

    assert live(world, 8, foreign).identity == MINE
    assert live(world, 6, foreign).identity == OTHER


# --- adopt --------------------------------------------------------------------------------------------------


def test_adopting_makes_the_pool_that_of_another_identity_at_once(world: World, beat: Beat) -> None:
    foreign = beat("b", identity=OTHER, config="v2")
    before = settle(world, beat("a"), foreign)
    world.pool.adopt(OTHER)
    state = world.pool.read()

    assert state.identity == OTHER
    assert state.fence is not None and before.fence is not None
    assert state.fence.config == "v2"
    assert before.fence.since < state.fence.since <= state.now + MS
    assert state.before is None
    assert state.epoch != before.epoch
    assert world.pool.heartbeat(beat("a"), known_epoch=None).fence == state.fence


def test_of_the_adopted_the_voters_say_which_config_is_in_force(world: World, beat: Beat) -> None:
    voter = beat("b", identity=OTHER, config="v2")
    settle(world, beat("a"), voter)
    live(world, 12, beat("a"), voter)
    live(world, 2, beat("a"), voter, *(beat(node, identity=OTHER, config="v3") for node in "cd"))
    world.pool.adopt(OTHER)
    fence = world.pool.read().fence

    assert fence is not None and fence.config == "v2"


def test_adopting_twice_is_adopting_once(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b", identity=OTHER))
    world.pool.adopt(OTHER)
    before = world.pool.read()
    world.pool.adopt(OTHER)
    after = world.pool.read()

    assert (after.epoch, after.fence, after.identity) == (before.epoch, before.fence, before.identity)


def test_adopting_for_an_identity_without_a_node_fences_the_others(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    world.let_pass(7)
    before = world.pool.read()
    world.pool.adopt(OTHER)
    pulse = world.pool.heartbeat(beat("a"), known_epoch=None)

    assert pulse.identity == OTHER
    assert pulse.fence is not None and before.fence is not None
    assert pulse.fence.config == "v1"
    assert pulse.fence.since > before.fence.since
    assert pulse.before is None
    assert live(world, 8, beat("a")).identity == OTHER, "for a lease; then the pool is again theirs who live"
    assert live(world, 4, beat("a")).identity == MINE


def test_adopting_during_a_recovery_leaves_the_vote_to_its_end(world: World, beat: Beat) -> None:
    mine, foreign = beat("a"), beat("b", identity=OTHER, config="v2")
    before = settle(world, mine, foreign)
    world.restart()
    recovery = world.pool.heartbeat(foreign, known_epoch=None).recovery
    world.pool.adopt(OTHER)
    state = world.pool.read()
    assert (state.identity, state.recovery) == (OTHER, recovery)
    assert state.fence is not None and before.fence is not None
    assert state.fence.config == "v1"
    assert state.fence.since > before.fence.since, "nodes of the old identity are fenced"
    for node in (mine, foreign):
        pulse = world.pool.heartbeat(
            beat(node.node, identity=node.identity, config=node.config, merged=recovery), known_epoch=None
        )

    assert pulse.recovery == ""
    assert pulse.fence is not None and pulse.fence.config == "v2"


def test_a_pool_that_is_not_there_cannot_be_adopted(world: World) -> None:
    with pytest.raises(StoreRefused, match="no pool"):
        world.pool.adopt(OTHER)

    assert world.pool.read().identity == ""


# --- drain --------------------------------------------------------------------------------------------------


def test_a_drained_node_is_shown_as_such_until_it_is_told_otherwise(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"), beat("b", info={"deep": [[], {}, None, 1.5], "é": "\u2028"}))
    assert world.pool.drain("b", True)
    drained = world.pool.read()
    assert drained.epoch != before.epoch
    assert members(world)["b"].draining
    assert members(world)["b"].joined == before.members[1].joined  # type: ignore[index]
    again = world.pool.heartbeat(beat("b"), known_epoch=drained.epoch)
    assert again.members is None, "the heartbeat does not change it"
    assert members(world)["b"].draining

    assert world.pool.drain("b", False)
    assert not members(world)["b"].draining
    assert world.pool.read().epoch != drained.epoch


def test_draining_twice_is_draining_once(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    world.pool.drain("b", True)
    before = world.pool.read().epoch

    assert world.pool.drain("b", True)
    assert world.pool.read().epoch == before


def test_a_node_that_is_not_alive_is_not_drained(world: World, beat: Beat) -> None:
    assert not world.pool.drain("a", True)
    settle(world, beat("a"), beat("b"))
    world.lapse("b")
    before = world.pool.read().epoch

    assert not world.pool.drain("nobody", True)
    assert not world.pool.drain("b", True)
    assert world.pool.read().epoch == before


REPLACEMENTS = {
    "nobody": None,
    "one of another config": {"config": "v2"},
    "one of another identity": {"identity": OTHER},
    "one that is cut off": {"state": MemberState.CUT_OFF},
}


@pytest.mark.parametrize("who", REPLACEMENTS)
def test_the_last_node_of_a_config_is_drained_only_by_force(world: World, beat: Beat, who: str) -> None:
    changes = REPLACEMENTS[who]
    settle(world, beat("a"), *([beat("b", **changes)] if changes else []))
    before = world.pool.read().epoch
    with pytest.raises(StoreRefused, match=r"'a'.*v1.*--force"):
        world.pool.drain("a", True)
    assert world.pool.read().epoch == before
    assert not members(world)["a"].draining

    assert world.pool.drain("a", True, force=True)
    assert members(world)["a"].draining
    assert world.pool.drain("a", False), "to go back on the ring takes no force"


def test_a_draining_node_replaces_nobody(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    world.pool.drain("b", True)
    with pytest.raises(StoreRefused, match="'a'"):
        world.pool.drain("a", True)

    assert world.pool.drain("b", True), "it is draining already"


def test_a_dead_node_replaces_nobody(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    world.lapse("b")
    with pytest.raises(StoreRefused, match="'a'"):
        world.pool.drain("a", True)


@pytest.mark.parametrize("state", [MemberState.STEADY, MemberState.JOINING])
def test_a_node_that_will_be_on_the_ring_replaces_another(
    world: World, beat: Beat, state: MemberState
) -> None:
    settle(world, beat("a"), beat("b", state=state))

    assert world.pool.drain("a", True)


def test_a_trimmed_node_comes_back_without_draining(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    world.pool.drain("b", True)
    world.lapse("b")
    world.pool.heartbeat(beat("a"), known_epoch=None)
    world.pool.heartbeat(beat("b"), known_epoch=None)

    assert not members(world)["b"].draining


def test_a_node_whose_info_cannot_be_written_again_is_drained_without(real: RedisWorld, beat: Beat) -> None:
    settle(real, beat("a"), beat("b", info={"lag": float("nan")}))
    assert real.pool.drain("b", True)

    assert members(real)["b"].draining
