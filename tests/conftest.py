"""Servers, clients and the key-leak check, for every test.

``client`` is a clean database on each server; a test that puts messages on queues names them first:
``queues.add("celery")`` (globs allowed).  Whatever else is left without a time to live fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from celery_dispatch.redis_store.client import redis_client
from celery_dispatch.redis_store.keys import Keys
from tests.rabbitmq import RabbitMQ, running_rabbitmq
from tests.servers import KINDS, Server, leaked_keys, running


@pytest.fixture(scope="session")
def server_of() -> Iterator[Callable[[str], Server]]:
    """``server_of(kind)``: the session's server of that kind, started when first asked for."""
    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def server_of(kind: str) -> Server:
            if kind not in started:
                started[kind] = stack.enter_context(running(kind))
            return started[kind]

        yield server_of


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, server_of: Callable[[str], Server]) -> Server:
    """Each of the servers in turn; shared by the session, so leave it running."""
    return server_of(request.param)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The session's RabbitMQ; start it again if you stop it, and give queues names of your own."""
    with running_rabbitmq() as broker:
        yield broker


@pytest.fixture
def keys() -> Keys:
    """The keys of the pool that tests use."""
    return Keys("celery-dispatch")


@pytest.fixture
def queues() -> set[str]:
    """The broker's keys that this test may leave behind; add to it."""
    return set()


@pytest.fixture
def clean(keys: Keys, queues: set[str]) -> Iterator[Callable[[Server], redis.Redis]]:
    """``clean(server)``: a client of its emptied database; checked for leaked keys after the test."""
    clients: list[redis.Redis] = []

    def clean(server: Server) -> redis.Redis:
        client = redis_client(server.url, {})
        client.flushall()
        clients.append(client)
        return client

    yield clean
    leaked = [key for client in clients for key in leaked_keys(client, keys, queues)]
    for client in clients:
        client.flushall()
        client.close()
    assert not leaked, f"keys without a time to live, neither permanent nor declared: {leaked}"


@pytest.fixture
def client(server: Server, clean: Callable[[Server], redis.Redis]) -> redis.Redis:
    """A client of the emptied server; checked for leaked keys after the test."""
    return clean(server)
