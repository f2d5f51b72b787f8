"""The ``Listener`` contract, in memory and on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from celery_dispatch.core.ports import Heartbeat, Listener
from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.listener import RedisListener
from celery_dispatch.redis_store.pool import RedisPool
from celery_dispatch.testing import MemoryListener
from tests.contract.conftest import MemoryWorld, RedisWorld, World, create
from tests.servers import running, wait_until

Beat = Callable[..., Heartbeat]


class Wakes:
    """Counts wakes; each of them may fail."""

    def __init__(self, *, failing: bool = False) -> None:
        self.count = 0
        self._failing = failing

    def __call__(self) -> None:
        self.count += 1
        if self._failing:
            raise RuntimeError("a wake failed")


def nothing() -> None:
    """Changes of rows are of no concern here."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What is stopped or closed after the test."""
    with ExitStack() as stack:
        yield stack


def listener_of(world: World, opened: ExitStack) -> Listener:
    if isinstance(world, MemoryWorld):
        listener: Listener = MemoryListener(world.store)
    else:
        assert isinstance(world, RedisWorld)
        kwargs = world.client.connection_pool.connection_kwargs
        client = redis_client(f"redis://{kwargs['host']}:{kwargs['port']}/0", {})
        opened.callback(client.close)
        listener = RedisListener(client, world.keys)
    opened.callback(listener.stop)
    return listener


def test_a_change_of_the_pool_wakes_and_a_renewal_does_not(
    world: World, beat: Beat, opened: ExitStack
) -> None:
    wakes = Wakes()
    listener_of(world, opened).start(wakes, nothing)
    wait_until(lambda: wakes.count == 1, what="the subscription itself wakes")
    world.pool.heartbeat(beat("a"), known_epoch=None)
    wait_until(lambda: wakes.count == 2, what="a join wakes")
    world.pool.heartbeat(beat("a"), known_epoch=None)
    world.pool.leave("a")
    wait_until(lambda: wakes.count == 3, what="a leave wakes")
    assert wakes.count == 3


def test_start_and_stop_may_be_called_twice(world: World, beat: Beat, opened: ExitStack) -> None:
    wakes, listener = Wakes(), listener_of(world, opened)
    listener.start(wakes, nothing)
    listener.start(wakes, nothing)
    wait_until(lambda: wakes.count >= 1)
    listener.stop()
    listener.stop()
    woken = wakes.count
    world.pool.heartbeat(beat("a"), known_epoch=None)

    assert wakes.count == woken == 1
    assert "dispatch-listener" not in [thread.name for thread in threading.enumerate()]


def test_stopping_what_never_started_does_nothing(world: World, opened: ExitStack) -> None:
    listener_of(world, opened).stop()


def test_a_wake_that_fails_does_not_end_the_listener(real: RedisWorld, beat: Beat, opened: ExitStack) -> None:
    wakes = Wakes(failing=True)
    listener_of(real, opened).start(wakes, nothing)
    wait_until(lambda: wakes.count == 1)
    real.pool.heartbeat(beat("a"), known_epoch=None)

    wait_until(lambda: wakes.count >= 2)


def test_a_server_that_comes_back_is_listened_to_again(keys: Keys, beat: Beat, opened: ExitStack) -> None:
    with running("valkey") as server:
        clients: list[redis.Redis] = [redis_client(server.url, {}) for _ in range(2)]
        wakes, listener = Wakes(), RedisListener(clients[0], keys)
        listener.start(wakes, nothing)
        opened.callback(listener.stop)
        wait_until(lambda: wakes.count == 1)
        server.kill()
        server.start()
        wait_until(lambda: wakes.count == 2, what="the new subscription wakes")
        RedisPool(clients[1], keys).heartbeat(beat("a"), known_epoch=None)
        wait_until(lambda: wakes.count == 3)
        listener.stop()
        for client in clients:
            client.close()


def test_a_listener_waits_for_a_server_that_is_not_there_yet(keys: Keys, opened: ExitStack) -> None:
    with running("valkey") as late:
        late.stop()
        client = redis_client(late.url, {})
        wakes, listener = Wakes(), RedisListener(client, keys)
        listener.start(wakes, nothing)
        opened.callback(listener.stop)
        late.start()
        wait_until(lambda: wakes.count == 1)
        listener.stop()
        client.close()


def test_a_connection_on_which_nothing_comes_back_is_given_up(
    monkeypatch: pytest.MonkeyPatch, keys: Keys, opened: ExitStack
) -> None:
    monkeypatch.setattr("celery_dispatch.redis_store.listener._PING", 0.3)
    with running("valkey") as server:
        client = redis_client(server.url, {"socket_timeout": 0.2})
        wakes, listener = Wakes(), RedisListener(client, keys)
        listener.start(wakes, nothing)
        opened.callback(listener.stop)
        wait_until(lambda: wakes.count == 1)
        quiet = threading.Event()
        assert not quiet.wait(1.6)
        assert wakes.count == 1, "a server that answers pings keeps its subscription"
        server.pause()
        assert not quiet.wait(1.2)
        server.resume()
        wait_until(lambda: wakes.count == 2, what="subscribed anew")
        listener.stop()
        client.close()


def test_a_change_of_rows_is_told_apart_from_one_of_the_pool(world: World, opened: ExitStack) -> None:
    wakes, changes = Wakes(), Wakes()
    listener_of(world, opened).start(wakes, changes)
    wait_until(lambda: (wakes.count, changes.count) == (1, 1))
    create(world, "report")
    wait_until(lambda: changes.count == 2)
    assert wakes.count == 1
