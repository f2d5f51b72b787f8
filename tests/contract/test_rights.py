"""The rights of the Redis users in ``docs/how-to/redis.md``: enough for what they are for, and no more."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from celery_dispatch.core.entry import Cursor
from celery_dispatch.core.ports import Claim, ClaimStatus, Command, Heartbeat, Intent, Settlement
from celery_dispatch.errors import EntryError, StoreRefused
from celery_dispatch.manage.doctor.server import read_server
from celery_dispatch.redis_store.client import redis_client, same_server
from celery_dispatch.redis_store.facets import Facets
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.listener import RedisListener
from tests.contract.conftest import RedisWorld, settle
from tests.deployments import granted
from tests.outboxes import NOW, make, occurrence
from tests.servers import Server

Beat = Callable[..., Heartbeat]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"

#: What a node can do without, at a price that the page names.
OPTIONAL = {"+info", "+publish", "+select"}
#: What kombu needs once bindings of queues with ``x-expires`` run out, and what a pool needs of many facets.
RARE = {"+del", "+exists", "+srem", "+hrandfield"}


def documented(name: str) -> list[str]:
    """The rules of a user, as the page has them, without its password."""
    found = re.search(rf"^ACL SETUSER {name} on >PASSWORD (.*?)^```", PAGE.read_text(), re.M | re.S)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


@pytest.fixture
def admin(client: redis.Redis, queues: set[str]) -> redis.Redis:
    """A user with every right."""
    queues.add("*")
    return client


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed after the test."""
    with ExitStack() as stack:
        yield stack


class LimitedWorld(RedisWorld):
    """A store as a user sees it; its time is moved by somebody else."""

    def __init__(self, client: redis.Redis, admin: redis.Redis) -> None:
        super().__init__(client, Keys("celery-dispatch"), set())
        self._admin = RedisWorld(admin, self.keys, set())

    def let_pass(self, seconds: float) -> None:
        self._admin.let_pass(seconds)


def world_of(server: Server, rules: list[str], stack: ExitStack) -> tuple[str, RedisWorld]:
    """The URL of a user with these rules, and the store as that user sees it."""
    url = granted(server, " ".join(rules))
    clients = redis_client(url, {}), redis_client(server.url, {})
    for client in clients:
        stack.callback(client.close)
    clients[1].script_flush()
    return url, LimitedWorld(*clients)


def take_part(world: RedisWorld, beat: Beat) -> None:
    """All that a node does in the pool."""
    settle(world, beat("a"), beat("b"))
    world.pool.drain("b", True)
    world.pool.leave("b")
    world.pool.adopt("app on redis")
    world.pool.read()
    facets = Facets(world.client, world.keys)
    facets.publish("v1", {"entry": "digest"})
    assert facets.read("v1") == {"entry": "digest"}


def fire(world: RedisWorld, beat: Beat) -> None:
    """All that a node does with an entry, with its message and with an intent."""
    fence = settle(world, beat("a")).fence
    assert fence is not None
    due = world.now().replace(microsecond=0) - timedelta(seconds=3)
    cursors = [Cursor(due + timedelta(seconds=number), "r", due) for number in range(3)]
    push = (
        Command("LPUSH", "celery", "message"),
        Command("PEXPIRE", "celery", "60000"),
        Command("PUBLISH", "/0.everyone", "message"),
    )
    intent = Intent("e", cursors[2].due, "r", "a", "ab" * 8, due)
    for claim in (
        Claim("e", None, cursors[0]),
        Claim("e", cursors[0], cursors[1], push),
        Claim("e", cursors[1], cursors[2], intent=intent),
    ):
        [result] = world.ledger.claim(fence, [claim]).results
        assert (result.status, result.detail) == (ClaimStatus.WON, "")
    assert world.intents.read(10)[0] == 1
    [taken] = world.intents.take_over("a", token="cd" * 8, older_than=timedelta(0), limit=5)
    assert world.intents.keep([taken]) == [True] or taken.commands is None
    [settled] = world.intents.settle([Settlement(taken, push)])
    assert (settled.status, settled.detail) == (ClaimStatus.WON, "")
    assert world.ledger.read(["e"]) == [cursors[2]]
    assert world.ledger.scan(0, 10)[1]
    world.ledger.claim(fence, [Claim("e", cursors[2], None)])


def publish(url: str, stack: ExitStack) -> None:
    """All that Celery and kombu do to render and to send a message."""
    app: Any = Celery("tested", broker=url, set_as_current=False)
    stack.callback(app.close)
    app.conf.task_queues = [
        Queue("celery"),
        Queue("celery-topics", Exchange("news", type="topic"), routing_key="news.#"),
        Queue("celery-everyone", Exchange("everyone", type="fanout")),
        Queue("celery-brief", queue_arguments={"x-expires": 60_000}),
    ]

    @app.task(name="add", shared=False)  # type: ignore[untyped-decorator]
    def add(x: int, y: int) -> int:
        return x + y

    names = ("topics", "everyone", "brief")
    outbox = make(app)
    stack.callback(outbox.close)
    outbox.connect()
    for options in ({}, {"priority": 3}, *({"queue": f"celery-{name}"} for name in names)):
        assert outbox.render(occurrence(app, **options), now=NOW)  # type: ignore[arg-type]
        app.send_task("add", args=(1, 2), **options)


def listen(world: RedisWorld, beat: Beat, stack: ExitStack) -> bool:
    """Whether a wake arrives."""
    subscribed, woken = threading.Event(), threading.Event()

    def on_wake() -> None:
        (woken if subscribed.is_set() else subscribed).set()

    listener = RedisListener(world.client, world.keys)
    stack.callback(listener.stop)
    listener.start(on_wake, lambda: None)
    if not subscribed.wait(2):
        return False
    world.pool.heartbeat(beat("c"), known_epoch=None)
    return woken.wait(2)


# --- a beat -------------------------------------------------------------------------------------------------


def test_the_rights_of_a_beat_are_enough(
    server: Server, admin: redis.Redis, beat: Beat, stack: ExitStack
) -> None:
    url, world = world_of(server, documented("beat"), stack)
    take_part(world, beat)
    fire(world, beat)
    publish(url, stack)

    assert listen(world, beat, stack)
    assert same_server(world.client, admin)


@pytest.mark.parametrize(
    "right", sorted(set(documented("beat")) - OPTIONAL - RARE - {"resetchannels", "-@all"})
)
def test_a_right_that_is_missing_is_an_error_that_says_so(
    server_of: Callable[[str], Server],
    clean: Callable[[Server], Any],
    queues: set[str],
    right: str,
    beat: Beat,
    stack: ExitStack,
) -> None:
    queues.add("*")
    server = server_of("redis")
    clean(server)
    url, world = world_of(server, [rule for rule in documented("beat") if rule != right], stack)

    def use() -> None:
        take_part(world, beat)
        fire(world, beat)
        publish(url, stack)
        assert listen(world, beat, stack)

    with pytest.raises((StoreRefused, EntryError, OperationalError, AssertionError)) as caught:
        use()
    if isinstance(caught.value, StoreRefused):
        assert "missing right" in str(caught.value) and "ACL LOG" in str(caught.value)


@pytest.mark.parametrize("rights", [{"+info"}, {"+publish"}, {"&{celery-dispatch}:wake"}])
def test_a_node_can_do_without_some_rights(
    server: Server, admin: redis.Redis, rights: set[str], beat: Beat, stack: ExitStack
) -> None:
    _, world = world_of(server, [rule for rule in documented("beat") if rule not in rights], stack)
    take_part(world, beat)

    assert same_server(world.client, world.client)


# --- a reader -----------------------------------------------------------------------------------------------


def test_a_reader_reads_all_and_changes_nothing(
    server: Server, admin: redis.Redis, beat: Beat, stack: ExitStack
) -> None:
    node = RedisWorld(admin, Keys("celery-dispatch"), set())
    fence = settle(node, beat("a")).fence
    assert fence is not None
    due = node.now().replace(microsecond=0)
    node.ledger.claim(fence, [Claim("e", None, Cursor(due, "r", due))])
    rules = documented("reader")
    if read_server(admin).version.startswith("6."):  # the page says so
        rules = [rule.replace("%R~", "~") for rule in rules]
    _, world = world_of(server, rules, stack)

    assert [member.id for member in world.pool.read().members] == ["a"]
    assert world.ledger.read(["e"]) == [Cursor(due, "r", due)]
    assert [name for name, _ in world.ledger.scan(0, 10)[1]] == ["e"]
    assert world.intents.read(10) == (0, [])
    assert Facets(world.client, world.keys).read("v1") is None
    assert read_server(world.client).refused == ()
    for change in (lambda: world.pool.drain("a", True), lambda: world.pool.adopt("mine")):
        with pytest.raises(StoreRefused, match="missing right"):
            change()
