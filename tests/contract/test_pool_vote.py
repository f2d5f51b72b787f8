"""The ``Pool`` contract, in memory and on real servers: which config is in force, and from when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Pulse
from tests.contract.conftest import HANDOVER, INTERVAL, World, settle

Beat = Callable[..., Heartbeat]
MS = timedelta(milliseconds=1)
SLACK = timedelta(seconds=1)  # a real server's clock goes on while a test runs


def live(world: World, seconds: float, *beats: Heartbeat) -> Pulse:
    """These nodes live on for ``seconds``, a heartbeat each two seconds; the pulse of the last."""
    for _ in range(round(seconds / 2)):
        world.let_pass(2)
        for beat in beats:
            pulse = world.pool.heartbeat(beat, known_epoch=None)
    return pulse


def in_force(world: World) -> str:
    fence = world.pool.read().fence
    assert fence is not None
    return fence.config


def challenger(world: World) -> str:
    return world.pool.read().challenger


def old_pool(world: World, beat: Beat, *nodes: str) -> list[Heartbeat]:
    """Nodes of v1 that have lived for more than a lease."""
    beats = [beat(node) for node in nodes]
    settle(world, *beats)
    live(world, 12, *beats)
    return beats


def news(beat: Beat, *nodes: str, config: str = "v2") -> list[Heartbeat]:
    return [beat(node, config=config) for node in nodes]


# --- the vote -----------------------------------------------------------------------------------------------


def test_the_config_that_most_voters_run_comes_into_force(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "a")
    new = news(beat, "b", "c")
    live(world, 10, *old, *new)
    assert in_force(world) == "v1"
    live(world, 8, *old, *new)

    assert in_force(world) == "v2"


def test_newcomers_do_not_vote(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "a")
    new = news(beat, "b", "c", "d")
    live(world, 8, *old, *new)

    assert (in_force(world), challenger(world)) == ("v1", "")
    live(world, 4, *old, *new)
    assert (in_force(world), challenger(world)) == ("v1", "v2")


def test_a_tie_goes_to_the_config_in_force(world: World, beat: Beat) -> None:
    old, new = old_pool(world, beat, "a", "b"), news(beat, "c", "d")
    live(world, 40, *old, *new)

    assert (in_force(world), challenger(world)) == ("v1", "")


@pytest.mark.parametrize("other", ["v0", "v2", "v3", "w"])
def test_a_tie_goes_to_the_config_in_force_though_the_others_have_lived_longer(
    world: World, beat: Beat, other: str
) -> None:
    live_with_an_old_canary(world, beat, "y", other=other)

    assert (in_force(world), challenger(world)) == ("v1", "")


def live_with_an_old_canary(world: World, beat: Beat, *nodes: str, other: str = "v2") -> list[Heartbeat]:
    """``nodes`` run v1, which is in force; the longest-lived node runs another one."""
    first, canary = old_pool(world, beat, "a"), news(beat, "b", config=other)
    live(world, 30, *first, *canary)
    later = [beat(node) for node in nodes]
    live(world, 12, *first, *canary, *later)
    world.pool.leave("a")
    live(world, 8, *later, *canary)
    return [*canary, *later]


def test_of_equal_challengers_that_of_the_longest_lived_node_leads(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "z")
    third = news(beat, "x", "y", config="v3")
    live(world, 2, *old, *third)
    second = news(beat, "b", "c")
    live(world, 14, *old, *third, *second)

    assert in_force(world) == "v3"


def test_a_canary_does_not_replace_the_config_in_force(world: World, beat: Beat) -> None:
    old, canary = old_pool(world, beat, "a", "b", "c"), news(beat, "d")
    live(world, 60, *old, *canary)

    assert (in_force(world), challenger(world)) == ("v1", "")


def test_a_node_that_crashes_and_comes_back_never_votes(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "a")
    for turn in range(12):
        new = news(beat, *(f"{name}{turn}" for name in "bcd"))
        live(world, 4, *old, *new)
        for crashed in new:
            world.lapse(crashed.node)

    assert (in_force(world), challenger(world)) == ("v1", "")


def test_where_nobody_has_lived_for_a_lease_all_vote(world: World, beat: Beat) -> None:
    young = [
        beat(n, config=config, lease=timedelta(seconds=60)) for n, config in zip("abc", ["v1", "v2", "v2"])
    ]
    settle(world, young[0])
    live(world, 6, *young)

    assert in_force(world) == "v2"


def test_a_draining_node_does_not_vote(world: World, beat: Beat) -> None:
    old, new = old_pool(world, beat, "a", "b", "c"), news(beat, "d", "e")
    live(world, 12, *old, *new)
    assert (in_force(world), challenger(world)) == ("v1", "")
    for node in "ab":
        assert world.pool.drain(node, True)
    live(world, 2, *old, *new)
    assert challenger(world) == "v2"

    assert world.pool.drain("a", False)
    live(world, 2, *old, *new)
    assert challenger(world) == "", "back in the vote: a tie"


def test_where_all_drain_all_vote(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "a", "b")
    for node in "ab":
        world.pool.drain(node, True, force=True)
    live(world, 8, *old, *news(beat, "c"))

    assert (in_force(world), challenger(world)) == ("v1", ""), "newcomers that do not drain are no voters"


def test_the_votes_are_counted_as_time_passes_though_nobody_comes_or_goes(world: World, beat: Beat) -> None:
    old, new = old_pool(world, beat, "a"), news(beat, "b", "c")
    live(world, 2, *old, *new)
    epoch = world.pool.read().epoch
    live(world, 12, *old, *new)

    assert world.pool.read().epoch == epoch
    assert challenger(world) == "v2"


# --- the switch ---------------------------------------------------------------------------------------------


def leading(world: World, beat: Beat) -> tuple[list[Heartbeat], list[Heartbeat]]:
    """v1 in force, v2 leads as of now."""
    old, new = old_pool(world, beat, "a", "b"), news(beat, "c", "d", "e")
    live(world, 2, *old, *new)
    while not challenger(world):
        live(world, 2, *old, *new)
    return old, new


def switching(world: World, beat: Beat) -> tuple[list[Heartbeat], list[Heartbeat]]:
    """A switch from v1 to v2 was just written."""
    old, new = leading(world, beat)
    live(world, 4, *old, *new)
    return old, new


def test_a_challenger_must_lead_for_two_heartbeats(world: World, beat: Beat) -> None:
    old, new = leading(world, beat)
    live(world, 2, *old, *new, beat("late"))
    assert (in_force(world), challenger(world)) == ("v1", "v2"), "whatever changes meanwhile"
    live(world, 2, *old, *new, beat("late"))

    assert (in_force(world), challenger(world)) == ("v2", "")


def test_a_lead_that_was_lost_counts_for_nothing(world: World, beat: Beat) -> None:
    old, new = leading(world, beat)
    live(world, 2, *old, *new)
    world.pool.leave("e")
    live(world, 2, *old, *new[:2])
    assert (in_force(world), challenger(world)) == ("v1", "")
    world.pool.leave("b")
    live(world, 2, *old[:1], *new[:2])
    live(world, 2, *old[:1], *new[:2])
    assert (in_force(world), challenger(world)) == ("v1", "v2")
    live(world, 2, *old[:1], *new[:2])

    assert in_force(world) == "v2"


def test_a_challenger_that_is_overtaken_by_another_counts_for_nothing(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "a")
    second, third = news(beat, "b", "c"), news(beat, "d", "e", config="v3")
    live(world, 2, *old, *second, *third)
    while challenger(world) != "v2":
        live(world, 2, *old, *second, *third)
    live(world, 2, *old, *second, *third)
    world.pool.leave("b")
    live(world, 2, *old, *third, *second[1:])
    assert (in_force(world), challenger(world)) == ("v1", "v3")
    live(world, 2, *old, *third, *second[1:])
    assert (in_force(world), challenger(world)) == ("v1", "v3")
    live(world, 2, *old, *third, *second[1:])

    assert in_force(world) == "v3"


def test_another_challenger_begins_anew(world: World, beat: Beat) -> None:
    old, new = leading(world, beat)
    changed = news(beat, *(node.node for node in new), config="v3")
    live(world, 2, *changed, *old)
    assert (in_force(world), challenger(world)) == ("v1", "v3")
    live(world, 2, *old, *changed)
    assert in_force(world) == "v1"
    live(world, 2, *old, *changed)

    assert in_force(world) == "v3"


def test_a_switch_is_written_ahead_and_the_config_before_it_stays_claimable_for_a_lease(
    world: World, beat: Beat
) -> None:
    old, new = leading(world, beat)
    before = world.pool.read()
    live(world, 2, *old, *new)
    world.let_pass(2)
    pulse = world.pool.heartbeat(old[0], known_epoch=before.epoch)

    assert pulse.fence is not None and pulse.fence.config == "v2"
    ahead = pulse.fence.since - pulse.now
    assert INTERVAL + HANDOVER - 10 * MS <= ahead <= INTERVAL + HANDOVER
    assert pulse.before is not None and pulse.before.config == "v1"
    assert pulse.epoch != before.epoch
    assert pulse.members is not None
    assert world.pool.read().before == pulse.before

    def claimable() -> bool:
        states = live(world, 2, *old, *new), world.pool.read()
        assert len({state.before is None for state in states}) == 1
        return states[1].before is not None

    assert [claimable() for _ in range(6)] == [True] * 6, "12 s of 2.5 s and a lease"
    assert not claimable()


def test_the_fence_stays_as_it_was_when_the_switch_takes_place(world: World, beat: Beat) -> None:
    old, new = switching(world, beat)
    ahead = world.pool.read()
    world.let_pass(0)
    live(world, 4, *old, *new)
    after = world.pool.read()

    assert after.epoch == ahead.epoch
    assert after.fence is not None and after.fence.since <= after.now


def outvoted(world: World, beat: Beat) -> list[Heartbeat]:
    """Nodes of a pool that has just switched to v2, and where most run v1 again."""
    old, new = switching(world, beat)
    live(world, 4, *old, *new)
    for node in "cd":
        world.pool.leave(node)
    return [*old, *new[2:]]


def test_a_switch_back_waits_until_nothing_is_claimable_under_the_config_before(
    world: World, beat: Beat
) -> None:
    nodes = outvoted(world, beat)
    say_swept(world, nodes[-1])
    live(world, 6, *nodes)
    late = beat("late")
    live(world, 2, *nodes, late)
    assert (in_force(world), challenger(world)) == ("v2", "v1"), "whatever changes meanwhile"
    live(world, 4, *nodes, late)

    assert (in_force(world), challenger(world)) == ("v1", "")
    before = world.pool.read().before
    assert before is not None and before.config == "v2"


def test_a_switch_back_waits_for_the_sweep_as_soon_as_that_is_said(world: World, beat: Beat) -> None:
    nodes = outvoted(world, beat)
    live(world, 24, *nodes)
    assert (in_force(world), challenger(world)) == ("v2", "v1"), "nobody has swept"
    say_swept(world, nodes[-1], since=since_of(world) - MS)
    assert (in_force(world), challenger(world)) == ("v2", "v1"), "it was another switch's"
    say_swept(world, nodes[-1])

    assert (in_force(world), challenger(world)) == ("v1", "")


def test_a_sweep_that_nobody_makes_holds_a_switch_up_for_two_leases(world: World, beat: Beat) -> None:
    nodes = outvoted(world, beat)
    live(world, 34, *nodes)

    assert (in_force(world), challenger(world)) == ("v1", "")


def switch_fence(world: World) -> tuple[Fence, Fence]:
    state = world.pool.read()
    assert state.fence is not None and state.before is not None
    return state.fence, state.before


def since_of(world: World) -> datetime:
    fence = world.pool.read().fence
    assert fence is not None
    return fence.since


def say_swept(world: World, node: Heartbeat, since: datetime | None = None) -> None:
    world.pool.heartbeat(replace(node, swept=since or since_of(world)), known_epoch=None)


def test_a_switch_that_is_undone_before_it_took_place_leaves_the_one_before_it(
    world: World, beat: Beat
) -> None:
    old, new = switching(world, beat)
    pending, before = switch_fence(world)
    for gone in new:
        world.pool.leave(gone.node)
    back, still_before = switch_fence(world)

    assert (pending.config, before.config) == ("v2", "v1")
    assert back == Fence("v1", pending.since + MS), "what is due until then is that of the old v1"
    assert still_before == before
    live(world, 12, *old)
    assert switch_fence(world)[1].config == "v1"
    live(world, 2, *old)
    assert world.pool.read().before is None


def test_a_third_config_that_replaces_a_switch_ahead_follows_the_first(world: World, beat: Beat) -> None:
    _, new = switching(world, beat)
    pending, before = switch_fence(world)
    world.pool.heartbeat(beat("f", config="v3"), known_epoch=None)
    for node in ("a", "b", *(gone.node for gone in new)):
        world.pool.leave(node)
    fence, still_before = switch_fence(world)

    assert fence == Fence("v3", pending.since + MS)
    assert still_before == before


def test_a_vote_can_replace_a_switch_ahead(world: World, beat: Beat) -> None:
    """With a handover that is longer than two heartbeats, a switch lies ahead for long enough."""
    patient = {"handover": timedelta(seconds=20)}
    old = [beat(node, **patient) for node in "ab"]
    settle(world, *old)
    live(world, 12, *old)
    new = [beat(node, config="v2", **patient) for node in "cde"]
    live(world, 16, *old, *new)
    pending, before = switch_fence(world)
    assert pending.config == "v2"
    assert pending.since > world.now() + timedelta(seconds=10)
    for node in "cd":
        world.pool.leave(node)
    live(world, 6, *old, *new[2:])
    fence, still_before = switch_fence(world)

    assert fence.config == "v1"
    assert fence.since > pending.since - timedelta(seconds=6)
    assert still_before.config == "v1"
    assert abs(still_before.since - before.since) < timedelta(seconds=8), "moved on with the scene"


# --- the last node of the config in force -------------------------------------------------------------------


def three_configs(world: World, beat: Beat) -> None:
    settle(world, beat("c"))
    for node, config in (("b", "v2"), ("a", "v3")):
        world.let_pass(0.5)
        world.pool.heartbeat(beat(node, config=config), known_epoch=None)


@pytest.mark.parametrize("how", ["leaves", "is trimmed", "changes its config"])
def test_the_longest_lived_node_takes_over_at_once_when_the_last_of_the_config_in_force_goes(
    world: World, beat: Beat, how: str
) -> None:
    three_configs(world, beat)
    before = world.pool.read()
    if how == "leaves":
        world.pool.leave("c")
    elif how == "is trimmed":
        world.lapse("c")
    else:
        world.pool.leave("c")
        world.pool.heartbeat(beat("c", config="v4"), known_epoch=None)
    pulse = world.pool.heartbeat(beat("a", config="v3"), known_epoch=before.epoch)

    assert before.fence is not None and pulse.fence is not None
    assert before.fence.config == "v1"
    assert pulse.fence.config == "v2"
    assert before.fence.since < pulse.fence.since <= pulse.now
    assert pulse.before == before.fence, "a paused node may still claim what was due"
    assert pulse.epoch != before.epoch


def test_of_voters_and_newcomers_the_voters_say_who_follows(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    live(world, 12, beat("a"), beat("b", config="v2"))
    new = news(beat, "c", "d", config="v3")
    live(world, 2, beat("a"), beat("b", config="v2"), *new)
    world.pool.leave("a")

    assert in_force(world) == "v2"


def test_the_config_in_force_stays_while_another_node_runs_it(world: World, beat: Beat) -> None:
    three_configs(world, beat)
    world.pool.heartbeat(beat("d", config="v1"), known_epoch=None)
    before = world.pool.read().fence
    world.pool.leave("c")

    assert world.pool.heartbeat(beat("b", config="v2"), known_epoch=None).fence == before


def test_the_config_in_force_outlives_its_nodes_until_another_joins(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    before = world.pool.read().fence
    world.pool.leave("a")
    assert world.pool.read().fence == before

    assert world.pool.heartbeat(beat("b"), known_epoch=None).fence == before
    world.pool.leave("b")
    pulse = world.pool.heartbeat(beat("c", config="v2"), known_epoch=None)
    assert pulse.fence is not None and pulse.fence.config == "v2"


def test_a_takeover_is_later_than_the_one_before_even_where_the_clock_went_back(
    world: World, beat: Beat
) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b", config="v2"), known_epoch=None)
    world.let_pass(-3600)
    before = world.pool.read().fence
    world.pool.leave("a")
    after = world.pool.read().fence

    assert before is not None
    assert after == Fence("v2", before.since + MS)


def test_after_the_clock_went_back_those_who_lived_before_still_vote(world: World, beat: Beat) -> None:
    old = old_pool(world, beat, "a")
    world.let_pass(-3600)
    world.pool.heartbeat(old[0], known_epoch=None)
    live(world, 8, *old, *news(beat, "b"))
    assert (in_force(world), challenger(world)) == ("v1", "")
    live(world, 20, *old, *news(beat, "b"))

    assert (in_force(world), challenger(world)) == ("v1", "")


def test_after_the_clock_went_back_no_voter_has_lost_its_vote(world: World, beat: Beat) -> None:
    """Those who joined in what is now the future still outvote the one that had joined before."""
    nodes = live_with_an_old_canary(world, beat, "x", "y", "z")
    world.let_pass(-30)
    world.pool.heartbeat(nodes[0], known_epoch=None)
    assert challenger(world) == ""
    for _ in range(20):
        live(world, 2, *nodes)
        assert (in_force(world), challenger(world)) == ("v1", "")


def test_after_the_clock_went_back_a_lead_still_counts_from_now(world: World, beat: Beat) -> None:
    old, new = leading(world, beat)
    world.let_pass(-3600)
    for _ in range(12):
        live(world, 2, *old, *new)

    assert in_force(world) == "v2"
