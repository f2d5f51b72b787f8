"""The ``Pool`` contract, in memory and on real servers: leases, members, epochs, and hostile keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from celery_dispatch.core.ports import Heartbeat, Member, MemberState
from celery_dispatch.errors import StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.testing import MemoryPool, MemoryStore
from tests.contract.conftest import INSTANTS, LEASE, RedisWorld, World, settle
from tests.servers import running

Beat = Callable[..., Heartbeat]
MS = timedelta(milliseconds=1)


def members(world: World) -> dict[str, Member]:
    return {member.id: member for member in world.pool.read().members}


def epoch(world: World) -> str:
    return world.pool.read().epoch


# --- joining and renewing -----------------------------------------------------------------------------------


def test_the_first_node_is_the_pool(world: World, beat: Beat) -> None:
    before = world.now()
    pulse = world.pool.heartbeat(beat("a", state=MemberState.JOINING), known_epoch=None)

    assert before <= pulse.now <= world.now()
    assert pulse.identity == "app on redis"
    assert pulse.members is not None
    (member,) = pulse.members
    assert before - MS <= member.joined <= pulse.now
    assert member == Member(
        id="a",
        host="host-of-a",
        config="v1",
        identity="app on redis",
        state=MemberState.JOINING,
        draining=False,
        joined=member.joined,
        lease_end=member.joined + LEASE,
        info={"pid": 1},
    )
    state = world.pool.read()
    assert (state.members, state.identity, state.epoch) == ((member,), pulse.identity, pulse.epoch)
    assert (state.fence, state.recovery) == (pulse.fence, pulse.recovery)


def test_a_node_that_knows_the_epoch_is_not_told_the_members_again(world: World, beat: Beat) -> None:
    first = settle(world, beat("a"))
    second = world.pool.heartbeat(beat("a"), known_epoch=first.epoch)

    assert (second.epoch, second.members, second.fence) == (first.epoch, None, first.fence)
    assert world.pool.heartbeat(beat("a"), known_epoch="another").members is not None


def test_what_people_want_to_see_changes_without_a_new_epoch(world: World, beat: Beat) -> None:
    first = settle(world, beat("a"))
    odd = {"lag": {"p50": None, "max": 0.25}, "errors": {"é 😀": '"ß"'}, "empty": {}}
    second = world.pool.heartbeat(beat("a", info=odd), known_epoch=first.epoch)

    assert second.epoch == first.epoch
    assert members(world)["a"].info == odd


@pytest.mark.parametrize("change", [{"state": MemberState.JOINING}, {"config": "v2"}, {"host": "elsewhere"}])
def test_a_node_that_changed_begins_a_new_epoch(world: World, beat: Beat, change: dict[str, Any]) -> None:
    first = settle(world, beat("a"))
    second = world.pool.heartbeat(beat("a", **change), known_epoch=first.epoch)

    assert second.epoch != first.epoch
    assert second.members is not None
    assert second.members[0].joined == first.members[0].joined  # type: ignore[index]


def test_a_second_node_begins_a_new_epoch_and_both_see_both(world: World, beat: Beat) -> None:
    first = settle(world, beat("a"))
    joined = world.pool.heartbeat(beat("b", config="v2"), known_epoch=None)
    again = world.pool.heartbeat(beat("a"), known_epoch=first.epoch)

    assert joined.epoch == again.epoch != first.epoch
    assert again.members is not None
    assert [member.id for member in again.members] == ["a", "b"]
    assert joined.fence == first.fence, "the config in force stays while a node runs it"


def test_a_repeated_heartbeat_says_the_same(world: World, beat: Beat) -> None:
    first = settle(world, beat("a"))
    second = world.pool.heartbeat(beat("a"), known_epoch=None)

    assert (second.epoch, second.fence) == (first.epoch, first.fence)
    assert second.members is not None and second.members[0].joined == first.members[0].joined  # type: ignore[index]


def test_reading_takes_no_part_in_the_pool(world: World, beat: Beat) -> None:
    empty = world.pool.read()
    assert (empty.fence, empty.members) == (None, ())

    settle(world, beat("a"))
    world.pool.heartbeat(beat("b"), known_epoch=None)
    before = epoch(world)
    world.lapse("b")
    state = world.pool.read()

    assert [member.id for member in state.members] == ["a", "b"], "expired members are shown until trimmed"
    assert state.members[1].lease_end <= state.now
    assert epoch(world) == before


# --- leaving and trimming -----------------------------------------------------------------------------------


def test_a_node_that_leaves_is_gone_at_once_and_only_once(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    before = world.pool.heartbeat(beat("b"), known_epoch=None).epoch
    world.pool.leave("b")
    after = epoch(world)

    assert list(members(world)) == ["a"]
    assert after != before
    world.pool.leave("b")
    assert epoch(world) == after


def test_leaving_a_pool_that_is_not_there_writes_nothing(real: RedisWorld) -> None:
    real.pool.leave("a")

    assert real.client.keys("*") == []


def test_a_lease_that_ran_out_is_trimmed_by_the_next_heartbeat(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    before = world.pool.heartbeat(beat("b"), known_epoch=None)
    world.lapse("b")
    after = world.pool.heartbeat(beat("a"), known_epoch=before.epoch)

    assert after.epoch != before.epoch
    assert [member.id for member in after.members or ()] == ["a"]


def test_the_clock_of_a_nodes_host_decides_nothing(
    world: World, beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(world, beat("a"))
    here = time.time()
    for wrong_by in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda wrong_by=wrong_by: here + wrong_by)
        world.pool.heartbeat(beat("b"), known_epoch=None)

    assert list(members(world)) == ["a", "b"]
    assert all(member.lease_end - world.now() <= LEASE for member in members(world).values())


def test_a_late_node_that_nobody_trimmed_renews_as_the_same_member(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    before = world.pool.heartbeat(beat("b"), known_epoch=None)
    joined = members(world)["b"].joined
    world.lapse("b")
    after = world.pool.heartbeat(beat("b"), known_epoch=before.epoch)

    assert after.epoch == before.epoch
    assert members(world)["b"].joined == joined


def test_a_trimmed_node_comes_back_as_a_new_member(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b"), known_epoch=None)
    world.lapse("b")
    trimmed = world.pool.heartbeat(beat("a"), known_epoch=None)
    world.let_pass(1)
    back = world.pool.heartbeat(beat("b"), known_epoch=trimmed.epoch)

    assert back.epoch != trimmed.epoch
    assert back.now - members(world)["b"].joined < timedelta(seconds=1)


def test_after_a_silence_of_the_whole_pool_nobody_is_trimmed_for_a_lease(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b"), known_epoch=None)
    world.let_pass(60)
    world.pool.heartbeat(beat("a"), known_epoch=None)
    assert set(members(world)) == {"a", "b"}
    world.let_pass(6)
    world.pool.heartbeat(beat("a"), known_epoch=None)
    assert set(members(world)) == {"a", "b"}
    world.let_pass(6)
    world.pool.heartbeat(beat("a"), known_epoch=None)
    assert set(members(world)) == {"a"}


def test_after_the_clock_went_back_nobody_is_trimmed_for_a_lease_and_no_lease_is_longer(
    world: World, beat: Beat
) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b"), known_epoch=None)
    world.let_pass(-30)
    world.lapse("b")
    world.pool.heartbeat(beat("a"), known_epoch=None)
    assert set(members(world)) == {"a", "b"}

    world.pool.heartbeat(beat("c"), known_epoch=None)
    world.let_pass(-30)
    pulse = world.pool.heartbeat(beat("a"), known_epoch=None)
    assert members(world)["c"].lease_end <= pulse.now + LEASE
    for _ in range(2):
        world.let_pass(6)
        world.pool.heartbeat(beat("a"), known_epoch=None)
    assert set(members(world)) == {"a"}


def test_a_small_step_back_does_not_suspend_trimming(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b"), known_epoch=None)
    world.let_pass(-0.5)
    world.lapse("b")
    world.pool.heartbeat(beat("a"), known_epoch=None)

    assert set(members(world)) == {"a"}


def test_leaving_removes_even_while_trimming_is_suspended(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b", config="v2"), known_epoch=None)
    world.let_pass(60)
    world.pool.heartbeat(beat("b", config="v2"), known_epoch=None)
    before = world.pool.read()
    world.pool.leave("a")
    after = world.pool.read()

    assert [member.id for member in after.members] == ["b"]
    assert after.epoch != before.epoch
    assert after.fence is not None and after.fence.config == "v2"


def test_leaving_after_a_silence_trims_nobody_else(world: World, beat: Beat) -> None:
    settle(world, beat("a"))
    world.pool.heartbeat(beat("b"), known_epoch=None)
    world.let_pass(60)
    world.pool.leave("a")

    assert set(members(world)) == {"b"}


# --- lost replies and outages -------------------------------------------------------------------------------


def test_a_heartbeat_whose_reply_was_lost_is_repeated_without_harm(beat: Beat) -> None:
    store = MemoryStore()
    pool = MemoryPool(store)
    store.lose_next_reply()
    with pytest.raises(StoreUnavailable):
        pool.heartbeat(beat("a"), known_epoch=None)
    before = store.epoch

    assert pool.heartbeat(beat("a"), known_epoch=None).epoch == before


def test_a_member_in_memory_keeps_the_instant_it_joined(beat: Beat) -> None:
    store = MemoryStore()
    pool = MemoryPool(store)
    joined = pool.heartbeat(beat("a"), known_epoch=None).now
    store.clock.advance(1)
    pool.heartbeat(beat("a"), known_epoch=None)

    assert store.members["a"].joined == joined


def test_one_node_can_be_cut_off_in_memory(beat: Beat) -> None:
    store = MemoryStore()
    cut, whole = MemoryPool(store), MemoryPool(store)
    cut.available = False
    with pytest.raises(StoreUnavailable):
        cut.heartbeat(beat("a"), known_epoch=None)
    assert whole.heartbeat(beat("b"), known_epoch=None).members
    store.available = False
    with pytest.raises(StoreUnavailable):
        whole.read()


def test_a_server_that_went_away_is_unavailable_and_then_the_same_pool_recovers(
    keys: Keys, queues: set[str], beat: Beat
) -> None:
    with running("valkey", appendonly=True) as server:
        client = redis_client(server.url, {})
        pool = RedisPool(client, keys)
        before = settle(RedisWorld(client, keys, queues), beat("a"))
        server.kill()
        with pytest.raises(StoreUnavailable):
            pool.heartbeat(beat("a"), known_epoch=None)
        server.start()
        back = pool.heartbeat(beat("a"), known_epoch=before.epoch)
        after = pool.heartbeat(beat("a", merged=back.recovery), known_epoch=before.epoch)
        client.close()

    assert back.recovery
    assert not after.recovery
    assert after.members is not None
    assert after.members[0].joined == before.members[0].joined  # type: ignore[index]
    assert after.fence == before.fence


def test_an_emptied_server_never_repeats_an_epoch(real: RedisWorld, beat: Beat) -> None:
    before = settle(real, beat("a"))
    real.client.flushall()
    while real.now() - before.now < 2 * MS:
        pass
    after = real.pool.heartbeat(beat("a"), known_epoch=before.epoch)

    assert after.epoch != before.epoch
    assert after.members is not None


# --- what a person or another program left in Redis ---------------------------------------------------------

HOSTILE_ROWS = [
    b"",
    b"x",
    b"null",
    b"[]",
    b"{}",
    b"5",
    b"\xff\xfe",
    b"[" * 5000,
    b'{"host":"h","config":"v0","state":"steady","joined":"soon","info":{}}',
    b'{"host":"h","config":"v0","state":"steady","joined":-1,"info":{}}',
    b'{"host":"h","config":"v0","state":"steady","joined":1e300,"info":{}}',
    b'{"host":"h","config":"v0","state":"steady","joined":nan,"info":{}}',
    b'{"host":"h","config":7,"state":"steady","joined":1,"info":{}}',
    b'{"host":{},"config":"v0","state":"steady","joined":1,"info":{}}',
]


@pytest.mark.parametrize("raw", HOSTILE_ROWS, ids=lambda raw: raw[:60].decode("latin-1"))
def test_a_row_that_is_no_member_is_dropped_and_inherits_nothing(
    real: RedisWorld, beat: Beat, raw: bytes
) -> None:
    settle(real, beat("a"))
    later = int((real.now() + LEASE).timestamp() * 1000)
    real.client.zadd(real.keys.nodes, {"bad": later})
    real.client.hset(real.keys.members, "bad", raw)
    real.client.hset(real.keys.members, "no lease", raw)
    assert set(members(real)) == {"a"}

    real.pool.heartbeat(beat("b", config="v2"), known_epoch=None)
    real.pool.leave("a")

    assert real.pool.heartbeat(beat("b", config="v2"), known_epoch=None).fence.config == "v2"
    assert real.client.hkeys(real.keys.members) == ["b"]
    assert real.client.zrange(real.keys.nodes, 0, -1) == ["b"]


def test_a_node_writes_its_own_damaged_row_anew(real: RedisWorld, beat: Beat) -> None:
    before = settle(real, beat("a"))
    real.client.hset(real.keys.members, "a", "garbage")
    after = real.pool.heartbeat(beat("a"), known_epoch=before.epoch)

    assert after.epoch != before.epoch
    assert members(real)["a"].config == "v1"


@pytest.mark.parametrize(
    "field",
    [
        *INSTANTS,
        "config",
        "before_config",
        "challenger",
        "epoch",
        "changes",
        "lease",
        "recovery",
        "recovery_names",
    ],
)
@pytest.mark.parametrize("value", ["", "x", "-5", "1e300", "nan", "01", "9" * 20])
def test_a_damaged_field_of_the_pool_stops_nobody(
    real: RedisWorld, beat: Beat, field: str, value: str
) -> None:
    settle(real, beat("a"))
    real.client.hset(real.keys.pool, field, value)
    real.pool.read()
    real.pool.heartbeat(beat("b"), known_epoch=None)
    pulse = real.pool.heartbeat(beat("a"), known_epoch=None)

    assert pulse.fence.config == "v1"
    assert real.pool.read().fence == pulse.fence
    assert real.ledger.claim(pulse.fence, []).results == ()
    assert [member.id for member in pulse.members or ()] == ["a", "b"]


def test_a_node_whose_lease_was_deleted_joins_anew(real: RedisWorld, beat: Beat) -> None:
    before = settle(real, beat("a"))
    real.client.zrem(real.keys.nodes, "a")

    assert real.pool.heartbeat(beat("a"), known_epoch=before.epoch).epoch != before.epoch


@pytest.mark.parametrize("schema", ["3", "10", "x", "2.5", "-1", "0", "1e0", "02"])
def test_a_pool_of_a_newer_schema_is_refused_and_left_alone(
    real: RedisWorld, beat: Beat, schema: str
) -> None:
    real.client.hset(real.keys.pool, "schema", schema)
    for refused in (
        lambda: real.pool.heartbeat(beat("a"), known_epoch=None),
        lambda: real.pool.leave("a"),
        lambda: real.pool.drain("a", True),
        lambda: real.pool.adopt("another"),
        real.pool.read,
    ):
        with pytest.raises(StoreRefused, match=rf"schema {schema}.*schema 2.*dispatch_key_prefix"):
            refused()

    assert real.client.hgetall(real.keys.pool) == {"schema": schema}
    assert not real.client.exists(real.keys.nodes)


def put_older_pool(real: RedisWorld, beat_at: float) -> None:
    """A pool as the version before this one left it, last seen ``beat_at`` seconds ago."""
    now = int(real.now().timestamp() * 1000)
    seen = now - int(beat_at * 1000)
    fields = {
        "schema": "1",
        "config": "v0",
        "since": seen - 60_000,
        "beat_at": seen,
        "epoch": "e",
        "changes": 7,
    }
    real.client.hset(real.keys.pool, mapping=fields)
    real.client.zadd(real.keys.nodes, {"old": seen + 10_000})
    row = {"host": "h", "config": "v0", "state": "steady", "joined": seen - 60_000, "info": {}}
    real.client.hset(real.keys.members, "old", json.dumps(row))


def dump(real: RedisWorld) -> list[object]:
    keys = real.keys
    return [
        real.client.hgetall(keys.pool),
        real.client.hgetall(keys.members),
        real.client.zrange(keys.nodes, 0, -1),
    ]


def test_a_node_stands_by_while_nodes_of_an_older_version_are_alive(real: RedisWorld, beat: Beat) -> None:
    put_older_pool(real, beat_at=9)
    before = dump(real)
    for waits in (
        lambda: real.pool.heartbeat(beat("a"), known_epoch=None),
        lambda: real.pool.drain("old", True),
        lambda: real.pool.adopt("another"),
    ):
        with pytest.raises(StoreUnavailable, match=r"schema 1.*stands by.*lease"):
            waits()
    real.pool.leave("a")

    assert dump(real) == before
    (old,) = real.pool.read().members
    assert (old.id, old.config, old.identity, old.draining) == ("old", "v0", "", False)


def test_the_pool_of_an_older_version_is_taken_over_when_its_last_node_is_gone_for_a_lease(
    real: RedisWorld, beat: Beat
) -> None:
    put_older_pool(real, beat_at=11)
    pulse = real.pool.heartbeat(beat("a"), known_epoch="e")

    assert real.client.hget(real.keys.pool, "schema") == "2"
    assert [member.id for member in pulse.members or ()] == ["a"]
    assert pulse.recovery == "", "nothing was lost"
    assert pulse.fence is not None and pulse.fence.config == "v1"
    assert pulse.now - pulse.fence.since < timedelta(seconds=1)
    assert pulse.before is not None and pulse.before.config == "v0"


def test_keys_of_another_application_are_refused_with_the_cure(real: RedisWorld, beat: Beat) -> None:
    real.client.set(real.keys.pool, "something else")

    with pytest.raises(StoreRefused, match="dispatch_key_prefix"):
        settle(real, beat("a"))
