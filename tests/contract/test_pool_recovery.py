"""The ``Pool`` contract, in memory and on real servers: what becomes of a pool whose Redis lost something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import redis

from celery_dispatch.core.entry import Fence
from celery_dispatch.core.ports import Heartbeat, Pulse
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.pool import RedisPool
from tests.contract.conftest import INTERVAL, LEASE, RedisWorld, World, settle
from tests.servers import Server

Beat = Callable[..., Heartbeat]
MS = timedelta(milliseconds=1)


def hear(world: World, beat: Heartbeat, merged: str = "") -> Pulse:
    return world.pool.heartbeat(replace(beat, merged=merged), known_epoch=None)


def recovering(world: World, *beats: Heartbeat) -> str:
    """A pool of these nodes whose server was restarted; the first of them has noticed."""
    settle(world, *beats)
    world.restart()
    recovery = hear(world, beats[0]).recovery
    assert recovery
    return recovery


# --- how it begins ------------------------------------------------------------------------------------------


def test_a_pool_that_was_never_there_takes_two_heartbeats(world: World, beat: Beat) -> None:
    first = hear(world, beat("a"))
    assert (first.fence, first.before) == (None, None)
    assert first.recovery
    world.let_pass(2)
    second = hear(world, beat("a"), first.recovery)
    assert (second.fence, second.recovery, second.epoch) == (None, first.recovery, first.epoch)
    world.let_pass(2)
    third = hear(world, beat("a"), first.recovery)

    assert third.recovery == ""
    assert third.epoch != first.epoch
    assert third.fence is not None and third.fence.config == "v1"
    assert third.now - MS <= third.fence.since <= third.now
    assert third.before is None


def test_the_vote_decides_for_a_pool_that_was_never_there(world: World, beat: Beat) -> None:
    beats = [beat("a"), beat("b", config="v2"), beat("c", config="v2")]
    pulse = settle(world, *beats)

    assert pulse.fence is not None and pulse.fence.config == "v2"


def test_another_server_begins_a_recovery(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"))
    world.restart()
    after = hear(world, beat("a"))

    assert after.recovery
    assert after.epoch != before.epoch
    assert after.fence == before.fence
    assert world.pool.read().recovery == after.recovery


def test_a_suspicious_node_begins_a_recovery(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"))
    after = hear(world, beat("a", suspicious=True))

    assert after.recovery
    assert after.epoch != before.epoch


def test_suspicion_during_a_recovery_begins_no_other(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    first = hear(world, beat("a", suspicious=True))
    second = hear(world, beat("b", suspicious=True))

    assert (second.recovery, second.epoch) == (first.recovery, first.epoch)


def test_each_recovery_has_a_name_of_its_own(world: World, beat: Beat) -> None:
    names = set()
    for turn in range(4):
        if turn % 2:
            world.flush()
        else:
            world.restart()
        names.add(hear(world, beat("a")).recovery)
        settle(world, beat("a"))

    assert len(names) == 4


def test_a_server_that_changes_during_a_recovery_begins_another(world: World, beat: Beat) -> None:
    first = recovering(world, beat("a"), beat("b"))
    hear(world, beat("a"), first)
    world.restart()
    second = hear(world, beat("b"), first).recovery

    assert second not in ("", first)
    assert hear(world, beat("b"), second).recovery == second, "the one that merged the first must merge again"
    assert hear(world, beat("a"), second).recovery == ""


# --- how it ends --------------------------------------------------------------------------------------------


def test_it_ends_when_all_have_merged(world: World, beat: Beat) -> None:
    recovery = recovering(world, beat("a"), beat("b"), beat("c"))
    assert hear(world, beat("b"), recovery).recovery == recovery
    assert hear(world, beat("a"), recovery).recovery == recovery
    before = world.pool.read().epoch
    assert before == hear(world, beat("b"), recovery).epoch
    after = hear(world, beat("c"), recovery)

    assert after.recovery == ""
    assert after.epoch != before


def test_having_merged_another_recovery_counts_for_nothing(world: World, beat: Beat) -> None:
    recovery = recovering(world, beat("a"))

    assert hear(world, beat("a"), "another").recovery == recovery


def test_a_node_that_was_alive_is_waited_for_though_its_lease_has_run_out(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    world.let_pass(30)
    world.restart()
    recovery = hear(world, beat("a")).recovery
    world.let_pass(8)
    assert hear(world, beat("a"), recovery).recovery == recovery
    assert hear(world, beat("b"), recovery).recovery == ""


def test_it_ends_after_a_lease_at_most(world: World, beat: Beat) -> None:
    recovery = recovering(world, beat("a"), beat("b"))
    world.let_pass(8)
    assert hear(world, beat("a"), recovery).recovery == recovery
    world.let_pass(2.5)
    pulse = hear(world, beat("a"), recovery)

    assert pulse.recovery == ""
    assert [member.id for member in pulse.members or ()] == ["a"], "the one that never came is trimmed"


def test_a_pool_that_was_lost_is_not_waited_for_beyond_a_lease(world: World, beat: Beat) -> None:
    hear(world, beat("a"))
    world.let_pass(10)

    assert hear(world, beat("a")).recovery == ""


def test_a_node_that_was_dead_when_the_pool_was_last_seen_is_not_waited_for(world: World, beat: Beat) -> None:
    settle(world, beat("a"), beat("b"))
    world.let_pass(60)
    hear(world, beat("a"))
    world.restart()
    recovery = hear(world, beat("a")).recovery
    assert {member.id for member in world.pool.read().members} == {"a", "b"}

    assert hear(world, beat("a"), recovery).recovery == ""


def test_a_node_that_leaves_is_not_waited_for(world: World, beat: Beat) -> None:
    recovery = recovering(world, beat("a"), beat("b"))
    world.pool.leave("b")

    assert hear(world, beat("a"), recovery).recovery == ""


def test_a_node_that_joins_is_waited_for(world: World, beat: Beat) -> None:
    recovery = recovering(world, beat("a"))
    assert hear(world, beat("b")).recovery == recovery
    assert hear(world, beat("a"), recovery).recovery == recovery

    assert hear(world, beat("b"), recovery).recovery == ""


def test_after_the_clock_went_back_it_still_ends_within_a_lease(world: World, beat: Beat) -> None:
    recovery = recovering(world, beat("a"), beat("b"))
    world.let_pass(-3600)
    assert hear(world, beat("a"), recovery).recovery == recovery
    world.let_pass(10)

    assert hear(world, beat("a"), recovery).recovery == ""


def test_after_the_clock_went_back_a_lost_pool_takes_two_heartbeats_from_then(
    world: World, beat: Beat
) -> None:
    recovery = hear(world, beat("a")).recovery
    world.let_pass(-3600)
    assert hear(world, beat("a"), recovery).recovery == recovery
    world.let_pass(4)

    assert hear(world, beat("a"), recovery).recovery == ""


# --- meanwhile ----------------------------------------------------------------------------------------------


def test_meanwhile_nobody_is_trimmed_and_nothing_is_switched(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"), beat("b", config="v2"), beat("c", config="v2"))
    assert before.fence is not None
    recovery = recovering(world, beat("b", config="v2"), beat("a"), beat("c"))
    fence = world.pool.read().fence
    world.lapse("c")
    for node in "ab":
        hear(world, beat(node, config="v3"), recovery)
    state = world.pool.read()
    assert {member.id for member in state.members} == {"a", "b", "c"}
    assert state.fence == fence
    world.pool.leave("c")
    assert world.pool.read().fence == fence
    after = hear(world, beat("a", config="v3"), recovery)

    assert after.recovery == ""
    assert after.fence is not None and after.fence.config == "v3", "settled as soon as it is over"


def test_a_lead_does_not_last_over_a_recovery(world: World, beat: Beat) -> None:
    old, new = [beat("a")], [beat(node, config="v2") for node in "bc"]
    settle(world, *old)
    for _ in range(3):
        world.let_pass(1)
        for node in (*old, *new):
            hear(world, node)
    assert world.pool.read().challenger == "v2"
    world.restart()
    recovery = hear(world, old[0]).recovery
    assert world.pool.read().challenger == ""
    world.let_pass(2)
    for node in (*old, *new):
        pulse = hear(world, node, recovery)

    assert pulse.recovery == ""
    assert pulse.fence is not None and pulse.fence.config == "v1"
    assert world.pool.read().challenger == "v2"


# --- the config in force ------------------------------------------------------------------------------------


def test_a_lost_pool_takes_the_newest_config_that_a_node_remembers(world: World, beat: Beat) -> None:
    settle(world, *(beat(node) for node in "abc"))
    world.flush()
    now = (world.now() - timedelta(minutes=1)).replace(microsecond=0)
    older, newest = Fence("v1", now - timedelta(hours=1)), Fence("v2", now)
    nothing = hear(world, beat("a"))
    assert nothing.fence is None
    first = hear(world, beat("a", remembered=older))
    assert (first.fence, first.before) == (older, None)
    assert first.epoch != nothing.epoch
    second = hear(world, beat("b", config="v2", remembered=newest))
    assert second.fence == newest
    assert second.epoch != first.epoch
    third = hear(world, beat("c", remembered=older))

    assert (third.fence, third.epoch) == (newest, world.pool.read().epoch)


def test_what_was_remembered_is_in_force_after_the_recovery(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"), beat("b", config="v2"))
    assert before.fence is not None
    world.flush()
    remembered = Fence("v2", (world.now() - timedelta(hours=1)).replace(microsecond=0))
    recovery = hear(world, beat("a", remembered=remembered)).recovery
    hear(world, beat("b", config="v2"), recovery)
    world.let_pass(4)
    after = hear(world, beat("b", config="v2"), recovery)
    after = hear(world, beat("a"), recovery)

    assert after.recovery == ""
    assert after.fence is not None and after.fence.config == "v2"
    assert world.now() - after.fence.since > timedelta(hours=1), "nothing of its past begins anew"


def test_a_pool_that_came_back_older_takes_what_a_node_remembers(world: World, beat: Beat) -> None:
    """Of a switch that was written ahead and lost again, the config before it stays claimable."""
    before = settle(world, beat("a"), beat("b"))
    assert before.fence is not None
    world.restart()
    hear(world, beat("a"))
    ahead = Fence("v2", before.fence.since + timedelta(seconds=5))
    pulse = hear(world, beat("b", remembered=ahead, remembered_before=before.fence))

    assert (pulse.fence, pulse.before) == (ahead, before.fence)


def test_a_pool_that_was_emptied_before_a_switch_takes_both_configs_that_a_node_remembers(
    world: World, beat: Beat
) -> None:
    now = world.now().replace(microsecond=0)
    before, ahead = Fence("v1", now - LEASE), Fence("v2", now + timedelta(seconds=2))
    pulse = hear(world, beat("a", remembered=ahead, remembered_before=before))

    assert (pulse.fence, pulse.before) == (ahead, before)


def test_what_an_old_pool_had_in_force_is_not_claimable_after_a_switch_that_is_over(
    world: World, beat: Beat
) -> None:
    old = settle(world, beat("a"), beat("b"))
    assert old.fence is not None
    world.restart()
    over = Fence("v2", old.fence.since + MS)
    pulse = hear(world, beat("b", remembered=over))

    assert (pulse.fence, pulse.before) == (over, None)


def test_what_a_node_remembers_does_not_replace_a_later_config(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"))
    assert before.fence is not None
    world.restart()
    pulse = hear(world, beat("a", remembered=Fence("v2", before.fence.since - MS)))

    assert pulse.fence == before.fence
    assert pulse.before is None


def test_what_a_node_remembers_is_ignored_while_no_recovery_is_under_way(world: World, beat: Beat) -> None:
    before = settle(world, beat("a"))
    assert before.fence is not None
    pulse = hear(world, beat("a", remembered=Fence("v2", before.fence.since + LEASE)))

    assert (pulse.fence, pulse.epoch) == (before.fence, before.epoch)


def test_a_pool_that_was_emptied_is_that_of_the_app_that_remembers_it(world: World, beat: Beat) -> None:
    hear(world, beat("foreign", identity="another"))  # it was there first
    remembered = Fence("v9", world.now().replace(microsecond=0))
    pulse = hear(world, beat("a", remembered=remembered))

    assert (pulse.identity, pulse.fence) == ("app on redis", remembered)


# --- what only a server can do ------------------------------------------------------------------------------


def test_a_server_that_tells_no_run_id_is_no_reason_to_recover(
    server: Server, client: redis.Redis, keys: Keys, queues: set[str], beat: Beat
) -> None:
    rights = ("resetkeys", "resetchannels", f"~{{{keys.prefix}}}:*", f"&{keys.wake}", "-@all")
    groups = ("+@hash", "+@sortedset", "+@scripting", "+@pubsub", "+@connection", "+time")
    client.execute_command("ACL", "SETUSER", "shy", "on", ">secret", *rights, *groups)
    shy = redis_client(server.url.replace("redis://", "redis://shy:secret@"), {})
    try:
        told, untold = RedisWorld(client, keys, queues), RedisPool(shy, keys)
        before = settle(told, beat("a"))
        pulse = untold.heartbeat(beat("b"), known_epoch=None)
        assert (pulse.recovery, pulse.fence) == ("", before.fence)
        assert [member.id for member in pulse.members or ()] == ["a", "b"]
        told.restart()
        assert untold.heartbeat(beat("b"), known_epoch=None).recovery == ""
        assert told.pool.heartbeat(beat("a"), known_epoch=None).recovery
    finally:
        shy.close()
        client.execute_command("ACL", "DELUSER", "shy")


def test_a_server_that_is_told_at_last_is_no_reason_to_recover(real: RedisWorld, beat: Beat) -> None:
    before = settle(real, beat("a"))
    real.client.hset(real.keys.pool, "run_id", "")

    assert hear(real, beat("a")).epoch == before.epoch
    assert real.client.hget(real.keys.pool, "run_id") == real.client.info("server")["run_id"]


def test_a_pool_without_its_hash_waits_for_those_who_are_listed(real: RedisWorld, beat: Beat) -> None:
    settle(real, beat("a"), beat("b"))
    real.client.delete(real.keys.pool)
    recovery = hear(real, beat("a")).recovery
    real.let_pass(2 * INTERVAL.total_seconds())
    assert hear(real, beat("a"), recovery).recovery == recovery

    assert hear(real, beat("b"), recovery).recovery == ""


def test_leaving_a_pool_without_its_hash_does_not_make_one(real: RedisWorld, beat: Beat) -> None:
    settle(real, beat("a"), beat("b"))
    real.client.delete(real.keys.pool)
    real.pool.leave("a")

    assert not real.client.exists(real.keys.pool)
    assert real.client.hkeys(real.keys.members) == ["b"]


@pytest.mark.parametrize("names", ["x", "{}", "[]", "[1,null,[]]", "5", "null", '["a"', "[" * 5000])
def test_damaged_names_hold_no_recovery_up_for_longer_than_a_lease(
    real: RedisWorld, beat: Beat, names: str
) -> None:
    recovery = recovering(real, beat("a"), beat("b"))
    real.client.hset(real.keys.pool, "recovery_names", names)
    hear(real, beat("a"), recovery)
    real.let_pass(10)

    assert hear(real, beat("a"), recovery).recovery == ""


@pytest.mark.parametrize("field", ["since", "config"])
def test_a_pool_whose_config_was_damaged_finds_another(real: RedisWorld, beat: Beat, field: str) -> None:
    settle(real, beat("a"))
    real.client.hset(real.keys.pool, field, "" if field == "config" else "no instant")
    pulse = hear(real, beat("a"))

    assert pulse.fence is not None and pulse.fence.config == "v1"


def test_words_that_would_move_the_cursor_of_a_terminal_are_not_shown(real: RedisWorld, beat: Beat) -> None:
    settle(real, beat("a"))
    real.client.hset(real.keys.pool, "identity", "evil\x1b[2J\n")

    assert real.pool.read().identity.isprintable()
