"""Publishing to a Redis that is not the store, and by transports that confirm nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue
from kombu.transport import memory

from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.core.ports import Command, Publication, PublicationStatus
from celery_dispatch.errors import StoreUnavailable
from tests.outboxes import NOW, make, occurrence
from tests.servers import Server, running, wait_until

CONFIRMED, REFUSED, UNKNOWN = (
    PublicationStatus.CONFIRMED,
    PublicationStatus.REFUSED,
    PublicationStatus.UNKNOWN,
)


def statuses(publications: list[Publication]) -> list[PublicationStatus]:
    return [each.status for each in publications]


def make_app(url: str) -> Celery:
    app = Celery("tested", broker=url, set_as_current=False)
    app.conf.task_queues = [
        Queue("celery"),
        Queue("second"),
        Queue("topics", Exchange("news", type="topic"), routing_key="news.#"),
        Queue("everyone", Exchange("all", type="fanout")),
    ]
    return app


def render(outbox: CeleryOutbox, app: Celery, **options: Any) -> tuple[Command, ...]:
    return outbox.render(occurrence(app, task="x.add", **options), now=NOW)


def connects(outbox: CeleryOutbox) -> bool:
    try:
        outbox.connect()
    except StoreUnavailable:
        return False
    return True


class TestAnotherRedis:
    @pytest.fixture
    def app(self, server: Server, client: redis.Redis, queues: set[str]) -> Iterator[Celery]:
        queues.add("*")
        app = make_app(server.url)
        yield app
        app.close()

    @pytest.fixture
    def outbox(self, app: Celery) -> Iterator[CeleryOutbox]:
        outbox = make(app)
        outbox.connect()
        yield outbox
        outbox.close()

    def test_a_batch_arrives_in_its_order(
        self, app: Celery, outbox: CeleryOutbox, client: redis.Redis
    ) -> None:
        messages = [render(outbox, app, task_id=str(number)) for number in range(100)]
        assert statuses(outbox.publish(messages)) == [CONFIRMED] * 100
        found = [json.loads(raw)["headers"]["id"] for raw in client.lrange("celery", 0, -1)]  # type: ignore[union-attr]
        assert list(reversed(found)) == [str(number) for number in range(100)]

    def test_a_prefix_of_every_key_is_put_there_once(self, app: Celery, client: redis.Redis) -> None:
        app.conf.broker_transport_options = {"global_keyprefix": "tenant:"}
        outbox = make(app)
        outbox.connect()
        assert statuses(outbox.publish([render(outbox, app)])) == [CONFIRMED]
        assert client.llen("tenant:celery") == 1
        outbox.close()

    def test_fanout_reaches_its_listeners(
        self, app: Celery, outbox: CeleryOutbox, client: redis.Redis
    ) -> None:
        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.psubscribe("/0.all*")
        listener.get_message(timeout=1)
        assert statuses(outbox.publish([render(outbox, app, queue="everyone")])) == [CONFIRMED]
        wait_until(lambda: (listener.get_message() or {}).get("channel") == "/0.all/celery")
        listener.close()

    def test_one_that_is_refused_does_not_harm_its_neighbours(
        self, app: Celery, outbox: CeleryOutbox, client: redis.Redis
    ) -> None:
        messages = [render(outbox, app), render(outbox, app, queue="second"), render(outbox, app)]
        client.set("second", "not a list")
        publications = outbox.publish(messages)
        assert statuses(publications) == [CONFIRMED, REFUSED, CONFIRMED]
        assert "second: WRONGTYPE" in publications[1].detail
        assert client.llen("celery") == 2

    def test_what_is_no_message_is_refused_and_not_carried_out(
        self, app: Celery, outbox: CeleryOutbox, client: redis.Redis
    ) -> None:
        client.set("treasure", "x")
        commands = [Command("DEL", "treasure", ""), Command("BASIC.PUBLISH", "/celery", "{}")]
        publications = outbox.publish([(commands[0],), render(outbox, app), (commands[1],)])
        assert statuses(publications) == [REFUSED, CONFIRMED, REFUSED]
        assert client.get("treasure") == "x"

    def test_one_that_arrived_in_part_counts_as_published(
        self, app: Celery, outbox: CeleryOutbox, client: redis.Redis
    ) -> None:
        client.set("second", "not a list")
        (one,) = render(outbox, app)
        (publication,) = outbox.publish([(one, Command("LPUSH", "second", one.value))])
        assert publication.status is CONFIRMED
        assert "WRONGTYPE" in publication.detail

    def test_a_user_who_may_not_write_there_is_refused(self, server: Server, client: redis.Redis) -> None:
        client.acl_setuser(
            "celery", enabled=True, passwords=["+pw"], keys=["celery", "_kombu*"], categories=["+@all"]
        )
        app = make_app(server.url.replace("//", "//celery:pw@"))
        outbox = make(app)
        outbox.connect()
        messages = [(Command("LPUSH", key, "{}"),) for key in ("celery", "other")]
        publications = outbox.publish(messages)
        client.acl_deluser("celery")
        client.delete("celery", "_kombu.binding.celery")
        assert statuses(publications) == [CONFIRMED, REFUSED]
        assert "no permissions" in publications[1].detail.lower() or "NOPERM" in publications[1].detail
        outbox.close()


class TestARedisThatFails:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        with running("valkey") as server:
            yield server

    @pytest.fixture
    def admin(self, server: Server) -> Iterator[redis.Redis]:
        with redis.Redis(port=server.port) as admin:
            yield admin

    @pytest.fixture
    def app(self, server: Server) -> Iterator[Celery]:
        app = make_app(server.url)
        yield app
        app.close()

    @pytest.fixture
    def outbox(self, app: Celery) -> Iterator[CeleryOutbox]:
        outbox = make(app)
        outbox.connect()
        yield outbox
        outbox.close()

    def test_one_that_stops_and_comes_back(self, app: Celery, outbox: CeleryOutbox, server: Server) -> None:
        messages = [render(outbox, app)] * 3
        server.stop()
        assert statuses(outbox.publish(messages)) == [UNKNOWN] * 3
        with pytest.raises(StoreUnavailable):
            outbox.connect()
        server.start()
        wait_until(lambda: connects(outbox))
        assert statuses(outbox.publish(messages)) == [CONFIRMED] * 3

    def test_one_that_is_silent_holds_nobody_up(
        self, app: Celery, outbox: CeleryOutbox, server: Server
    ) -> None:
        messages = [render(outbox, app)] * 3
        server.pause()
        began = time.monotonic()
        assert statuses(outbox.publish(messages)) == [UNKNOWN] * 3
        assert time.monotonic() - began < 4
        with pytest.raises(StoreUnavailable):
            outbox.connect()
        server.resume()
        wait_until(lambda: connects(outbox))

    @pytest.mark.parametrize(
        ("break_it", "mend_it"),
        [
            (lambda admin: admin.replicaof("127.0.0.1", 1), lambda admin: admin.replicaof("NO", "ONE")),
            (
                lambda admin: admin.config_set("maxmemory", 1),
                lambda admin: admin.config_set("maxmemory", 0),
            ),
            (
                lambda admin: admin.config_set("min-replicas-to-write", 1),
                lambda admin: admin.config_set("min-replicas-to-write", 0),
            ),
        ],
        ids=["replica", "no memory", "no replicas"],
    )
    def test_one_that_takes_no_writes_is_not_there_until_it_does(
        self,
        app: Celery,
        outbox: CeleryOutbox,
        admin: redis.Redis,
        break_it: Callable[[redis.Redis], Any],
        mend_it: Callable[[redis.Redis], Any],
    ) -> None:
        messages = [render(outbox, app)] * 2
        break_it(admin)
        assert statuses(outbox.publish(messages)) == [UNKNOWN] * 2
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            outbox.connect()
        mend_it(admin)
        outbox.connect()
        assert statuses(outbox.publish(messages)) == [CONFIRMED] * 2

    def test_asking_whether_it_takes_writes_writes_nothing(
        self, outbox: CeleryOutbox, admin: redis.Redis
    ) -> None:
        outbox.publish([])
        outbox.connect()
        assert list(admin.scan_iter("*probe*")) == []


class TestOtherTransports:
    """Kombu's own in memory stands for all of them."""

    @pytest.fixture
    def app(self) -> Iterator[Celery]:
        app = make_app("memory://")
        yield app
        app.close()
        memory.Transport.global_state.clear()
        memory.Channel.queues.clear()

    @pytest.fixture
    def outbox(self, app: Celery) -> Iterator[CeleryOutbox]:
        outbox = make(app)
        outbox.connect()
        yield outbox
        outbox.close()

    @staticmethod
    def arrived(app: Celery, queue: str = "celery") -> list[Any]:
        with app.connection_for_read() as connection:
            channel, messages = connection.default_channel, []
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                messages.append(message)
            return messages

    @pytest.mark.parametrize(
        "options",
        [{}, {"serializer": "pickle"}, {"priority": 5}, {"args": (NOW, 1)}],
        ids=str,
    )
    def test_a_published_message_is_the_one_that_celery_sends(
        self, app: Celery, outbox: CeleryOutbox, options: dict[str, Any]
    ) -> None:
        commands = render(outbox, app, **options)
        assert self.arrived(app) == [], "rendering must not send"
        assert statuses(outbox.publish([commands])) == [CONFIRMED]
        (ours,) = self.arrived(app)
        app.send_task("x.add", list(options.pop("args", (1, 2))), **options)
        (theirs,) = self.arrived(app)
        assert ours.body == theirs.body
        for name in ("content_type", "content_encoding"):
            assert getattr(ours, name) == getattr(theirs, name)
        for name in ("delivery_info", "delivery_mode", "priority"):
            assert ours.properties.get(name) == theirs.properties.get(name)

    def test_a_topic_reaches_its_queues(self, app: Celery, outbox: CeleryOutbox) -> None:
        commands = render(outbox, app, queue="topics", routing_key="news.sport")
        assert statuses(outbox.publish([commands])) == [CONFIRMED]
        assert len(self.arrived(app, "topics")) == 1

    def test_after_an_outage_nothing_more_is_sent(
        self, app: Celery, outbox: CeleryOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        messages = [render(outbox, app)] * 3
        put = memory.Channel._put
        calls: list[str] = []

        def failing(channel: Any, queue: str, *args: Any, **kwargs: Any) -> Any:
            calls.append(queue)
            if len(calls) == 2:
                raise ConnectionResetError("the queue service is away")
            return put(channel, queue, *args, **kwargs)

        monkeypatch.setattr(memory.Channel, "_put", failing)
        publications = outbox.publish(messages)
        assert statuses(publications) == [CONFIRMED, UNKNOWN, UNKNOWN]
        assert len(calls) == 2
        outbox.connect()
        assert statuses(outbox.publish(messages)) == [CONFIRMED] * 3

    def test_any_other_error_is_the_messages_own(
        self, app: Celery, outbox: CeleryOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        messages = [render(outbox, app), render(outbox, app, queue="second"), render(outbox, app)]
        put = memory.Channel._put

        def failing(channel: Any, queue: str, *args: Any, **kwargs: Any) -> Any:
            if queue == "second":
                raise ValueError("message too long")
            return put(channel, queue, *args, **kwargs)

        monkeypatch.setattr(memory.Channel, "_put", failing)
        assert statuses(outbox.publish(messages)) == [CONFIRMED, REFUSED, CONFIRMED]
