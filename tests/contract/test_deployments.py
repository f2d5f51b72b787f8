"""The store behind Sentinels and on a Cluster, through everything that such a Redis is run for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from kombu import Connection

from celery_dispatch.core.entry import Cursor, Fence
from celery_dispatch.core.ports import Claim, ClaimStatus, Command, Heartbeat
from celery_dispatch.errors import ConfigError, FencedError, StoreRefused, StoreUnavailable
from celery_dispatch.redis_store.client import redis_client, same_server, translated
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.listener import RedisListener
from tests.contract.conftest import RedisWorld, settle
from tests.deployments import (
    MASTER,
    Authority,
    ClusterOfServers,
    MasterAndReplica,
    asked,
    cluster_running,
    granted,
    sentinels_running,
)
from tests.servers import KINDS, free_port, running, wait_until

Beat = Callable[..., Heartbeat]
Opened = Callable[..., redis.Redis]
T = TypeVar("T")

KEYS = Keys("celery-dispatch")


@pytest.fixture(scope="module", params=KINDS)
def group(request: pytest.FixtureRequest) -> Iterator[MasterAndReplica]:
    """Sentinels with a master and a replica, in good order; leave them so."""
    with sentinels_running(request.param) as group:
        yield group


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterOfServers]:
    """A Cluster in good order; leave it so."""
    with cluster_running(request.param, keys=KEYS) as cluster:
        yield cluster


@pytest.fixture
def opened() -> Iterator[Opened]:
    """``opened(url, options)``: a client that is closed after the test."""
    with ExitStack() as stack:

        def opened(url: str, options: dict[str, Any] | None = None, **more: Any) -> redis.Redis:
            client = redis_client(url, options or {}, **more)
            stack.callback(client.close)
            return client

        yield opened


def world_of(client: redis.Redis) -> RedisWorld:
    return RedisWorld(client, KEYS, set())


@translated()
def port_of(client: Any) -> int:
    """Where the client's commands go."""
    return int(client.config_get("port")["port"])


def in_time(action: Callable[[], T], timeout: float = 20) -> T:
    """The answer, once there is one; until then nothing but outages."""
    answers: list[T] = []

    def answered() -> bool:
        try:
            answers.append(action())
        except StoreUnavailable:
            return False
        return True

    wait_until(answered, timeout, "it serves again")
    return answers[0]


def fire(world: RedisWorld, fence: Fence, name: str, *commands: Command) -> None:
    """Anchor an entry and fire its next occurrence."""
    due = world.now().replace(microsecond=0) - timedelta(seconds=2)
    anchor = Cursor(due, "r", due)
    fired = Cursor(due + timedelta(seconds=1), "r", due, fired=1)
    for claim in (Claim(name, None, anchor), Claim(name, anchor, fired, commands)):
        [result] = world.ledger.claim(fence, [claim]).results
        assert result.status is ClaimStatus.WON


# --- Sentinel -----------------------------------------------------------------------------------------------


def test_the_pool_lives_on_the_master_that_the_sentinels_name(
    group: MasterAndReplica, beat: Beat, opened: Opened
) -> None:
    world = world_of(opened(group.url, group.options))
    fence = settle(world, beat("a")).fence
    assert fence is not None
    fire(world, fence, "e", Command("LPUSH", "celery", "message"))

    assert asked(group.master, "HEXISTS", KEYS.cursor, "e")
    assert world.queue("celery") == ["message"]
    assert [member.id for member in world.pool.read().members] == ["a"]
    asked(group.master, "FLUSHALL")


def test_a_broker_behind_the_same_sentinels_is_the_same_server(
    group: MasterAndReplica, opened: Opened
) -> None:
    own = opened(group.url, group.options)
    with Connection(group.url, transport_options=group.options) as broker:
        channel: Any = broker.default_channel
        assert same_server(own, channel.client)
        assert not same_server(opened(group.url + "/1", group.options), channel.client)
        assert same_server(opened(group.master.url), channel.client)
        assert not same_server(opened(group.replica.url), channel.client)


def test_where_info_is_not_allowed_the_address_of_the_master_decides(
    group: MasterAndReplica, opened: Opened
) -> None:
    url = granted(group.master, "~* &* +@all -info")
    login = url.partition("://")[2].partition("@")[0]
    own = opened(group.url.replace("://", f"://{login}@", 1), group.options)

    assert same_server(own, opened(group.master.url))
    assert not same_server(own, opened(group.replica.url))


def test_sentinels_that_do_not_answer_are_passed_over(group: MasterAndReplica, opened: Opened) -> None:
    dead = f"sentinel://127.0.0.1:{free_port()}"

    assert opened(f"{dead};{group.url}", group.options).ping()  # type: ignore[no-untyped-call]
    with pytest.raises(StoreUnavailable, match=r"no Sentinel says.* 127\.0\.0\.1:\d+: .*Conn"), translated():
        opened(dead, group.options).ping()  # type: ignore[no-untyped-call]


def test_a_master_that_the_sentinels_do_not_know_is_named(group: MasterAndReplica, opened: Opened) -> None:
    with pytest.raises(StoreUnavailable, match="no master 'other' that is up"), translated():
        opened(group.url, {"master_name": "other"}).get("key")
    with pytest.raises(ConfigError, match="lacks 'master_name'"):
        redis_client(group.url, {})


def test_the_sentinels_have_a_login_of_their_own(group: MasterAndReplica, opened: Opened) -> None:
    for sentinel in group.sentinels:
        asked(sentinel, "ACL", "SETUSER", "default", "resetpass", ">secret")
    try:
        with pytest.raises(StoreRefused, match=r"sentinel_kwargs") as caught, translated():
            opened(group.url, group.options).get("key")
        known = {**group.options, "sentinel_kwargs": {"password": "secret"}}
        assert opened(group.url, known).get("key") is None
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 400, "it names each Sentinel, and not all that the driver knows of it"
    finally:
        for sentinel in group.sentinels:
            client: Any = opened(sentinel.url.replace("://", "://:secret@"))
            client.execute_command("ACL", "SETUSER", "default", "resetpass", "nopass")


def test_an_option_that_the_sentinels_connections_do_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sentinel_kwargs.*sokcet_timeout"):
        redis_client("sentinel://h", {"master_name": "m", "sentinel_kwargs": {"sokcet_timeout": 1}})


def test_a_killed_master_costs_until_its_replica_is_promoted(beat: Beat, opened: Opened) -> None:
    with sentinels_running("valkey") as group:
        world = world_of(opened(group.url, group.options))
        settle(world, beat("a"))
        old, new = group.master, group.replica
        wait_until(lambda: asked(new, "EXISTS", KEYS.pool), what="the replica has the pool")
        old.kill()
        with pytest.raises(StoreUnavailable):
            world.pool.heartbeat(beat("a"), known_epoch=None)
        pulse = in_time(lambda: world.pool.heartbeat(beat("a"), known_epoch=None))

        assert group.master is new
        assert pulse.recovery, "another server, which may be older"


def test_a_paused_master_is_left_and_not_gone_back_to(beat: Beat, opened: Opened) -> None:
    with sentinels_running("redis") as group:
        world = world_of(opened(group.url, {**group.options, "socket_timeout": 0.3}))
        settle(world, beat("a"))
        old, new = group.master, group.replica
        old.pause()
        in_time(lambda: world.pool.heartbeat(beat("a"), known_epoch=None))
        group.wait_for_promotion(of=new)
        old.resume()
        world.pool.heartbeat(beat("b"), known_epoch=None)

        assert asked(old, "ROLE")[0] == "master", "nobody told it yet"
        assert asked(new, "HEXISTS", KEYS.members, "b")


def test_a_replaced_master_is_left_before_it_knows_that_it_was(beat: Beat, opened: Opened) -> None:
    with sentinels_running("redis") as group:
        world = world_of(opened(group.url, group.options))
        settle(world, beat("a"))
        old, new = group.master, group.replica
        wait_until(lambda: asked(new, "EXISTS", KEYS.pool), what="the replica has the pool")
        asked(group.sentinels[0], "SENTINEL", "FAILOVER", MASTER)
        group.wait_for_promotion(of=new)
        assert asked(old, "ROLE")[0] == "master", "nobody told it yet"
        wait_until(lambda: port_of(world.client) == new.port, 2, "the new master is asked")


def test_without_sentinels_the_master_is_kept(
    beat: Beat, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_dispatch.redis_store.located._ASK_AGAIN", 0)
    with sentinels_running("valkey") as group:
        world = world_of(opened(group.url, group.options))
        settle(world, beat("a"))
        for sentinel in group.sentinels:
            sentinel.kill()
        for _ in range(2):
            world.pool.heartbeat(beat("a"), known_epoch=None)


def test_wakes_come_from_the_new_master_after_a_promotion(beat: Beat, opened: Opened) -> None:
    with sentinels_running("valkey") as group:
        wakes: list[None] = []
        listener = RedisListener(opened(group.url, group.options), KEYS)
        listener.start(lambda: wakes.append(None), lambda: None)
        try:
            wait_until(lambda: len(wakes) == 1, what="the subscription itself wakes")
            group.hold_the_replica_back()
            group.promote_the_replica()
            wait_until(lambda: len(wakes) >= 2, 10, "subscribed anew")
            woken = len(wakes)
            world_of(opened(group.url, group.options)).pool.heartbeat(beat("a"), known_epoch=None)
            wait_until(lambda: len(wakes) > woken, what="a join wakes")
        finally:
            listener.stop()


def test_a_replica_that_lagged_behind_is_not_claimed_on_before_it_recovered(
    beat: Beat, opened: Opened
) -> None:
    with sentinels_running("valkey") as group:
        world = world_of(opened(group.url, group.options))
        fence = settle(world, beat("a")).fence
        assert fence is not None
        fire(world, fence, "early")
        wait_until(lambda: asked(group.replica, "HEXISTS", KEYS.cursor, "early"), what="it is copied")
        group.hold_the_replica_back()
        fire(world, fence, "late")
        group.promote_the_replica()

        assert in_time(lambda: world.ledger.read(["early", "late"]))[1] is None
        with pytest.raises(FencedError):
            world.ledger.claim(fence, [])


def test_master_and_sentinels_may_speak_tls(beat: Beat, opened: Opened, tmp_path: Path) -> None:
    with sentinels_running("redis", authority=Authority(tmp_path)) as group:
        world = world_of(opened(group.url, group.options))
        fence = settle(world, beat("a")).fence
        assert fence is not None
        fire(world, fence, "e")
        wait_until(lambda: asked(group.replica, "HEXISTS", KEYS.cursor, "e"), what="it is copied")
        group.promote_the_replica()
        assert in_time(lambda: world.ledger.read(["e"]))[0] is not None

        for wrong in ({**group.options, "sentinel_kwargs": {}}, {"master_name": MASTER}):
            with pytest.raises(StoreUnavailable), translated():
                opened(group.url, wrong).get("key")


# --- Cluster ------------------------------------------------------------------------------------------------


def test_the_pool_lives_on_the_node_that_holds_its_slot(
    cluster: ClusterOfServers, beat: Beat, opened: Opened
) -> None:
    world = world_of(opened(cluster.url))
    fence = settle(world, beat("a")).fence
    assert fence is not None
    fire(world, fence, "e")

    assert asked(cluster.owner, "HEXISTS", KEYS.cursor, "e")
    state = world.pool.read()
    assert [member.id for member in state.members] == ["a"]
    assert abs(state.now - world.now()) < timedelta(seconds=1)
    assert [name for name, _ in world.ledger.scan(0, 10)[1]] == ["e"]
    asked(cluster.owner, "FLUSHALL")


@pytest.mark.parametrize("prefix", ["one", "another", "a third"])
def test_each_prefix_has_a_node_of_its_own(
    cluster: ClusterOfServers, prefix: str, beat: Beat, opened: Opened
) -> None:
    keys = Keys(prefix)
    client = opened(cluster.url, key_prefix=prefix)
    world = RedisWorld(client, keys, set())
    world.pool.heartbeat(beat("a"), known_epoch=None)

    assert world.pool.read().members
    client.delete(*keys.permanent)


def test_wakes_cross_the_cluster(cluster: ClusterOfServers, beat: Beat, opened: Opened) -> None:
    wakes: list[None] = []
    listener = RedisListener(opened(cluster.url, key_prefix="elsewhere"), KEYS)
    listener.start(lambda: wakes.append(None), lambda: None)
    try:
        wait_until(lambda: wakes, what="the subscription itself wakes")
        woken = len(wakes)
        world_of(opened(cluster.url)).pool.heartbeat(beat("a"), known_epoch=None)
        wait_until(lambda: len(wakes) > woken, what="a join wakes")
    finally:
        listener.stop()
        asked(cluster.owner, "FLUSHALL")


def test_a_cluster_is_never_the_brokers_server(cluster: ClusterOfServers, opened: Opened) -> None:
    own, broker = opened(cluster.url), opened(cluster.owner.url)

    assert not same_server(own, broker)
    assert not same_server(broker, own)
    assert not same_server(own, opened(cluster.url))


def test_a_killed_node_costs_until_its_replica_is_promoted(beat: Beat, opened: Opened) -> None:
    with cluster_running("valkey", keys=KEYS) as cluster:
        world = world_of(opened(cluster.url))
        settle(world, beat("a"))
        cluster.owner.kill()
        with pytest.raises(StoreUnavailable):
            world.pool.heartbeat(beat("a"), known_epoch=None)
        pulse = in_time(lambda: world.pool.heartbeat(beat("a"), known_epoch=None))

        assert asked(cluster.replica, "ROLE")[0] == "master"
        assert pulse.recovery, "another server, which may be older"


def test_a_slot_that_moved_is_followed_after_one_outage(beat: Beat, opened: Opened) -> None:
    with cluster_running("redis", keys=KEYS) as cluster:
        world = world_of(opened(cluster.url))
        settle(world, beat("a"))
        asked(cluster.replica, "CLUSTER", "FAILOVER")
        wait_until(lambda: asked(cluster.owner, "ROLE")[0] == "slave", 20, "the nodes changed places")
        with pytest.raises(StoreUnavailable, match="MOVED"):
            world.pool.heartbeat(beat("a"), known_epoch=None)
        in_time(lambda: world.pool.heartbeat(beat("a"), known_epoch=None), timeout=2)


def test_a_slot_that_nobody_serves_is_an_outage(opened: Opened) -> None:
    with cluster_running("valkey", keys=KEYS) as cluster:
        client = opened(cluster.url)
        client.get(KEYS.pool)
        slot = asked(cluster.owner, "CLUSTER", "KEYSLOT", KEYS.pool)
        for server in cluster.servers[:3]:
            asked(server, "CLUSTER", "DELSLOTS", slot)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"CLUSTERDOWN|no node"), translated():
                client.get(KEYS.pool)


def test_a_cluster_that_is_not_there_is_an_outage(opened: Opened) -> None:
    client = opened(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="refused"), translated():
        client.get("key")


def test_the_nodes_of_a_cluster_may_speak_tls(beat: Beat, opened: Opened, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with cluster_running("redis", keys=KEYS, authority=authority) as cluster:
        world = world_of(opened(cluster.url, {"ssl_ca_certs": authority.file}))
        fence = settle(world, beat("a")).fence
        assert fence is not None
        fire(world, fence, "e")
        assert asked(cluster.owner, "HEXISTS", KEYS.cursor, "e")
        with pytest.raises(StoreRefused, match="TLS verification"), translated():
            opened(cluster.url).get(KEYS.pool)


def test_one_server_is_not_taken_for_a_cluster_nor_a_cluster_for_one_server(
    cluster: ClusterOfServers, opened: Opened
) -> None:
    with running("valkey") as server, pytest.raises(StoreRefused, match="write redis://"), translated():
        opened(server.url.replace("redis://", "redis+cluster://")).get("key")
    stranger = next(server for server in cluster.servers[:3] if server is not cluster.owner)
    with pytest.raises(StoreRefused, match=r"with redis\+cluster://"), translated():
        opened(stranger.url).hget(KEYS.pool, "schema")


def test_a_password_of_the_cluster_is_for_each_node(beat: Beat, opened: Opened) -> None:
    with cluster_running("valkey", keys=KEYS) as cluster:
        for server in cluster.servers:
            granted(server, "~* &* +@all")
        logged_in = cluster.url.replace("://", "://someone:secret@")
        assert opened(logged_in).get(KEYS.pool) is None
        with pytest.raises(StoreRefused, match="login"), translated():
            opened(logged_in.replace("secret", "wrong")).get(KEYS.pool)
