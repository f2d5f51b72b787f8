"""One server, an app on it, a node and somebody who may write everything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery

from celery_dispatch.redis_store.keys import Keys
from tests.security.world import Bystander, LoneNode, app_on
from tests.servers import Server


@pytest.fixture(scope="session")
def valkey(server_of: Callable[[str], Server]) -> Server:
    """The session's Valkey; what is tested here does not depend on the kind of server."""
    return server_of("valkey")


@pytest.fixture
def app(valkey: Server, clean: Callable[[Server], redis.Redis], queues: set[str]) -> Iterator[Celery]:
    """An app on the emptied server."""
    queues.add("*")
    clean(valkey)
    app = app_on(valkey.url)
    yield app
    app.close()


@pytest.fixture
def bystander(app: Celery, valkey: Server, keys: Keys) -> Iterator[Bystander]:
    bystander = Bystander(valkey.url, keys)
    yield bystander
    bystander.close()


@pytest.fixture
def start(app: Celery, valkey: Server, keys: Keys, bystander: Bystander) -> Iterator[Callable[[], LoneNode]]:
    """``start()``: a node on an emptied server that has fired each of its entries."""
    started: list[LoneNode] = []

    def start() -> LoneNode:
        while started:
            started.pop().close()
        bystander.redis.flushall()
        started.append(LoneNode(app, valkey.url, keys))
        assert started[-1].run(10, lambda: bystander.fired_by() >= 1), started[-1].says
        return started[-1]

    yield start
    for node in started:
        node.close()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The nodes have much to complain of here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
