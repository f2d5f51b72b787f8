"""Rendering for, and publishing to, a real RabbitMQ."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from kombu import Exchange, Queue

from celery_dispatch.celery_bridge.outbox import CeleryOutbox, task_id
from celery_dispatch.celery_bridge.raw_messages import RawMessage
from celery_dispatch.core.ports import Command, Path, Publication, PublicationStatus
from celery_dispatch.errors import EntryError, StoreRefused, StoreUnavailable
from tests.outboxes import DUE, NOW, make, occurrence, stock_entry
from tests.rabbitmq import RabbitMQ
from tests.servers import free_port, wait_until

CONFIRMED, REFUSED, UNKNOWN = (
    PublicationStatus.CONFIRMED,
    PublicationStatus.REFUSED,
    PublicationStatus.UNKNOWN,
)
_OURS = ("dispatch_entry", "dispatch_due", "dispatch_node", "periodic_task_name", "celery_beat_task")


@pytest.fixture
def queue() -> str:
    """The name of a queue of this test's own; its exchanges and further queues begin with it."""
    return f"q-{uuid4().hex[:12]}"


@pytest.fixture
def app(rabbitmq: RabbitMQ, queue: str) -> Iterator[Celery]:
    app = make_app(rabbitmq.url, queue)
    yield app
    app.close()


def make_app(url: str, queue: str) -> Celery:
    app = Celery("tested", broker=url, set_as_current=False)
    app.conf.task_default_queue = queue
    app.conf.task_queues = [
        Queue(queue),
        Queue(f"{queue}-prio", max_priority=9),
        Queue(f"{queue}-quorum", queue_arguments={"x-queue-type": "quorum"}),
        Queue(f"{queue}-full", queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"}),
        Queue(f"{queue}-topic", Exchange(f"{queue}-news", type="topic"), routing_key="news.#"),
        Queue(f"{queue}-fanout", Exchange(f"{queue}-all", type="fanout")),
        Queue(
            f"{queue}-headers",
            Exchange(f"{queue}-match", type="headers"),
            binding_arguments={"x-match": "all", "tenant": "a"},
        ),
    ]

    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    return app


@pytest.fixture
def outbox(app: Celery) -> Iterator[CeleryOutbox]:
    outbox = make(app)
    outbox.connect()
    yield outbox
    outbox.close()


def render(outbox: CeleryOutbox, app: Celery, **options: Any) -> tuple[Command, ...]:
    return outbox.render(occurrence(app, **options), now=NOW)


def statuses(publications: list[Publication]) -> list[PublicationStatus]:
    return [each.status for each in publications]


def normal(message: Any) -> dict[str, Any]:
    """A message without what differs from fire to fire or is this package's own."""
    properties = dict(message.properties)
    headers = dict(properties.pop("application_headers"))
    for key in ("id", "root_id", "origin", *_OURS):
        headers.pop(key, None)
    for key in ("correlation_id", "reply_to"):
        properties.pop(key, None)
    delivery = {key: message.delivery_info[key] for key in ("exchange", "routing_key")}
    return {"body": message.body, "headers": headers, "properties": properties, "delivery": delivery}


# --- what is sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("", {}),
        ("", {"headers": {"tenant": "a", "nested": {"n": [1, 2.5, None, True]}, "raw": b"\xff\x00"}}),
        ("", {"serializer": "yaml"}),
        ("", {"compression": "gzip"}),
        ("", {"priority": 3}),
        ("", {"delivery_mode": 1}),
        ("", {"time_limit": 5, "soft_time_limit": 3, "shadow": "other", "ignore_result": True}),
        ("", {"message_id": "m-1", "app_id": "mine", "timestamp": 1_700_000_000}),
        ("", {"mandatory": True}),
        ("", {"args": ("ä€😀\x00", 2)}),
        ("", {"expires": 60}),
        ("-prio", {"priority": 7}),
        ("-quorum", {}),
        ("-topic", {"routing_key": "news.sport"}),
        ("-fanout", {}),
        ("-headers", {"headers": {"tenant": "a"}}),
    ],
    ids=str,
)
def test_a_published_message_is_the_one_that_stock_beat_sends(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str, kind: str, options: dict[str, Any]
) -> None:
    name = queue + kind
    commands = render(outbox, app, queue=name, **options)
    assert [command.op for command in commands] == ["BASIC.PUBLISH"]
    assert rabbitmq.take(name) == [], "rendering must not send"
    assert statuses(outbox.publish([_stored(commands)])) == [CONFIRMED]
    (ours,) = rabbitmq.take(name)
    stock = Scheduler(app, lazy=True)
    stock.apply_async(stock_entry(occurrence(app, queue=name, **options), app), advance=False)
    stock.close()
    wait_until(lambda: rabbitmq.depth(name) == 1)
    (theirs,) = rabbitmq.take(name)
    expected, found = normal(theirs), normal(ours)
    if "expires" in options:  # stock beat reckons from its own clock
        for message in (expected, found):
            assert message["headers"].pop("expires")
            assert message["properties"].pop("expiration")
    assert found == expected


def _stored(commands: tuple[Command, ...]) -> tuple[Command, ...]:
    """The commands as another process finds them in Redis."""
    rows = json.loads(json.dumps([[each.op, each.key, each.value] for each in commands]))
    return tuple(Command(*row) for row in rows)


def test_headers_and_task_id_follow_the_contract(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    outbox.publish([render(outbox, app)])
    (message,) = rabbitmq.take(queue)
    headers = message.headers
    assert headers["dispatch_entry"] == headers["periodic_task_name"] == "sums"
    assert headers["dispatch_due"] == "2030-01-01T12:00:00.005Z"
    assert headers["dispatch_node"] == "n-1"
    assert headers["celery_beat_task"] is True
    assert headers["id"] == message.properties["correlation_id"] == task_id("p", "sums", DUE)


def test_priorities_are_the_brokers(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    name = f"{queue}-prio"
    outbox.publish([render(outbox, app, queue=name, priority=priority) for priority in (1, 9, 5)])
    assert [message.properties["priority"] for message in rabbitmq.take(name)] == [9, 5, 1]


def test_a_batch_keeps_its_order(app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str) -> None:
    messages = [render(outbox, app, task_id=f"t-{number:03}") for number in range(300)]
    assert statuses(outbox.publish(messages)) == [CONFIRMED] * 300
    found = [message.headers["id"] for message in rabbitmq.take(queue)]
    assert found == [f"t-{number:03}" for number in range(300)]


def test_the_event_of_sending_goes_with_the_message(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    app.conf.task_send_sent_event = True
    commands = render(outbox, app)
    assert len(commands) == 2
    assert statuses(outbox.publish([commands])) == [CONFIRMED]
    assert len(rabbitmq.take(queue)) == 1


def test_confirmation_asked_for_by_the_app_still_only_captures(
    app: Celery, rabbitmq: RabbitMQ, queue: str
) -> None:
    app.conf.broker_transport_options = {"confirm_publish": True}
    outbox = make(app)
    outbox.connect()
    commands = render(outbox, app)
    assert len(commands) == 1
    assert rabbitmq.take(queue) == []
    assert statuses(outbox.publish([commands])) == [CONFIRMED]
    assert len(rabbitmq.take(queue)) == 1
    outbox.close()


def test_a_queue_is_declared_once_for_each_connection(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    render(outbox, app)
    rabbitmq.delete(queue)
    render(outbox, app)
    assert not rabbitmq.has(queue), "declared again for each message"
    outbox.close()
    outbox.connect()
    render(outbox, app)
    assert rabbitmq.has(queue)


# --- what is the message's own fault ------------------------------------------------------------------------


def test_an_exchange_that_is_not_there_is_the_entrys_error(
    app: Celery, outbox: CeleryOutbox, queue: str
) -> None:
    with pytest.raises(EntryError, match="no exchange"):
        render(outbox, app, exchange=f"{queue}-nowhere", routing_key="x")
    assert statuses(outbox.publish([render(outbox, app)])) == [CONFIRMED]


def test_an_exchange_that_is_gone_is_the_fault_of_its_messages_alone(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    messages = [render(outbox, app, task_id=f"t-{number:02}") for number in range(20)]
    for number in (3, 11, 19):
        messages[number] = render(outbox, app, queue=f"{queue}-topic", routing_key="news.x")
    with rabbitmq.channel() as channel:
        channel.exchange_delete(f"{queue}-news")
    publications = outbox.publish(messages)
    assert [number for number, each in enumerate(publications) if each.status is REFUSED] == [3, 11, 19]
    assert "no exchange" in publications[3].detail
    assert statuses(publications).count(CONFIRMED) == 17
    arrived = [message.headers["id"] for message in rabbitmq.take(queue)]
    assert list(dict.fromkeys(arrived)) == [
        f"t-{number:02}" for number in range(20) if number not in (3, 11, 19)
    ]
    outbox.connect()
    assert statuses(outbox.publish([messages[0]])) == [CONFIRMED], "the channel must have recovered"


def test_a_mandatory_message_that_is_routed_nowhere_is_refused(
    app: Celery, outbox: CeleryOutbox, queue: str
) -> None:
    render(outbox, app, queue=f"{queue}-topic", routing_key="news.x")  # declares the exchange
    nowhere = {"exchange": f"{queue}-news", "routing_key": "weather"}
    publications = outbox.publish(
        [
            render(outbox, app),
            render(outbox, app, mandatory=True, **nowhere),
            render(outbox, app, **nowhere),
            render(outbox, app, mandatory=True, queue=queue),
        ]
    )
    assert statuses(publications) == [CONFIRMED, REFUSED, CONFIRMED, CONFIRMED]
    assert "NO_ROUTE" in publications[1].detail


def test_a_full_queue_does_not_take_the_message_now(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    full = f"{queue}-full"
    messages = [render(outbox, app, queue=full, task_id=f"t-{number}") for number in range(2)]
    publications = outbox.publish([*messages, render(outbox, app)])
    assert statuses(publications) == [CONFIRMED, PublicationStatus.FULL, CONFIRMED]
    assert "full" in publications[1].detail
    rabbitmq.purge(full)
    outbox.connect()
    assert statuses(outbox.publish(messages[1:])) == [CONFIRMED]


@pytest.mark.parametrize(
    "options",
    [{"immediate": True}, {"headers": {"huge": "x" * 200_000}}, {"headers": {"set": {1, 2}}}],
    ids=["immediate", "huge headers", "no AMQP type"],
)
def test_what_would_break_the_connection_is_the_entrys_error(
    app: Celery, outbox: CeleryOutbox, options: dict[str, Any]
) -> None:
    with pytest.raises(EntryError):
        render(outbox, app, **options)
    assert statuses(outbox.publish([render(outbox, app)])) == [CONFIRMED]


def test_a_queue_that_exists_with_other_arguments_is_the_entrys_error(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    rabbitmq.declare(f"{queue}-prio", x_max_priority=2)
    with pytest.raises(EntryError, match="inequivalent arg"):
        render(outbox, app, queue=f"{queue}-prio")
    assert statuses(outbox.publish([render(outbox, app)])) == [CONFIRMED]


def test_what_is_no_message_is_refused(app: Celery, outbox: CeleryOutbox) -> None:
    message = render(outbox, app)
    odd = [Command("BASIC.PUBLISH", "/q", "{}"), Command("LPUSH", "q", message[0].value)]
    odd.append(RawMessage("", None, None, None, {"large": 2**70}, {}, "", "q").command())
    publications = outbox.publish([message, *((each,) for each in odd), message])
    assert statuses(publications) == [CONFIRMED, REFUSED, REFUSED, REFUSED, CONFIRMED]


def test_an_outage_of_what_the_users_own_code_talks_to_is_the_entrys_fault(
    app: Celery, outbox: CeleryOutbox
) -> None:
    class Unlucky(Scheduler):
        def send_task(self, *args: Any, **kwargs: Any) -> None:
            raise ConnectionRefusedError("the cache is away")

    outbox = make(app, scheduler=Unlucky(app, lazy=True))
    with pytest.raises(EntryError, match="the cache is away"):
        render(outbox, app, task="elsewhere")
    outbox.close()


# --- what is the broker's fault -----------------------------------------------------------------------------


def test_the_path_leads_elsewhere(app: Celery, outbox: CeleryOutbox) -> None:
    assert outbox.path(occurrence(app)) == Path(False, False, "the broker is not the Redis of the pool")


def test_a_failover_list_goes_on_to_the_next_host(rabbitmq: RabbitMQ, queue: str) -> None:
    app = make_app(f"amqp://guest:guest@127.0.0.1:{free_port()}//;{rabbitmq.url}", queue)
    outbox = make(app)
    outbox.connect()
    commands = render(outbox, app)
    assert rabbitmq.take(queue) == [], "the second host must capture as the first does"
    assert statuses(outbox.publish([commands])) == [CONFIRMED]
    assert len(rabbitmq.take(queue)) == 1
    outbox.close()
    app.close()


def test_a_broker_that_is_away_is_nobodys_fault() -> None:
    port = free_port()
    app = Celery("away", broker=f"amqp://guest:secret@127.0.0.1:{port}//", set_as_current=False)
    outbox = make(app)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}.*cannot be reached") as caught:
        outbox.connect()
    assert "secret" not in str(caught.value)
    assert outbox.publish([()])[0].status is UNKNOWN


@pytest.mark.parametrize("url", ["amqp://guest:wrong@{}//", "amqp://guest:guest@{}/nowhere"], ids=str)
def test_a_refused_login_is_told_with_the_cure(rabbitmq: RabbitMQ, url: str) -> None:
    app = Celery("locked", broker=url.format(f"127.0.0.1:{rabbitmq.port}"), set_as_current=False)
    with pytest.raises(StoreRefused, match="Check broker_url"):
        make(app).connect()


def test_a_blocked_broker_takes_no_messages_until_it_is_unblocked(
    app: Celery, rabbitmq: RabbitMQ, queue: str
) -> None:
    outbox = make(app, timeout=3)
    outbox.connect()
    messages = [render(outbox, app, task_id=f"t-{number}") for number in range(50)]
    rabbitmq.block()
    try:
        publications = outbox.publish(messages)
        assert UNKNOWN in statuses(publications)
        assert "alarm" in publications[-1].detail
        with pytest.raises(StoreUnavailable, match="alarm"):
            outbox.connect()
    finally:
        rabbitmq.unblock()
    wait_until(lambda: _connects(outbox), 10, "the outbox is unblocked")
    assert statuses(outbox.publish(messages)) == [CONFIRMED] * 50
    assert {message.headers["id"] for message in rabbitmq.take(queue)} == {f"t-{n}" for n in range(50)}
    outbox.close()


def test_a_silent_broker_holds_nobody_up_beyond_the_timeout(
    app: Celery, rabbitmq: RabbitMQ, queue: str
) -> None:
    app.conf.broker_connection_timeout = 1
    outbox = make(app, timeout=1)
    outbox.connect()
    messages = [render(outbox, app)]
    rabbitmq.pause()
    try:
        began = time.monotonic()
        assert statuses(outbox.publish(messages)) == [UNKNOWN]
        assert time.monotonic() - began < 3
        with pytest.raises(StoreUnavailable):
            outbox.connect()
    finally:
        rabbitmq.resume()
    wait_until(lambda: _connects(outbox), 10, "the outbox is connected again")
    assert statuses(outbox.publish(messages)) == [CONFIRMED]
    outbox.close()


def test_a_silent_broker_holds_no_large_batch_up_either(app: Celery, rabbitmq: RabbitMQ) -> None:
    """More than the buffers of the sockets hold, so that writing itself comes to a halt."""
    outbox = make(app, timeout=1)
    outbox.connect()
    message = render(outbox, app, args=("x" * 1_000_000, 2))
    rabbitmq.pause()
    try:
        began = time.monotonic()
        assert statuses(outbox.publish([message] * 20)) == [UNKNOWN] * 20
        assert time.monotonic() - began < 3
    finally:
        rabbitmq.resume()
    outbox.close()


def test_a_broker_that_stops_and_comes_back(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    messages = [render(outbox, app, queue=f"{queue}{kind}") for kind in ("", "-quorum")]
    rabbitmq.stop()
    try:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            outbox.connect()
        assert statuses(outbox.publish(messages)) == [UNKNOWN, UNKNOWN]
        with pytest.raises(StoreUnavailable):
            render(outbox, app)
    finally:
        rabbitmq.start()
    wait_until(lambda: _connects(outbox), 10, "the outbox is connected again")
    wait_until(lambda: statuses(outbox.publish(messages)) == [CONFIRMED, CONFIRMED], 20)
    assert len(rabbitmq.take(queue)) >= 1


def test_what_was_confirmed_before_a_kill_is_there_after_it(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ, queue: str
) -> None:
    messages = [render(outbox, app, task_id=f"t-{number:04}", args=("x" * 1000, 2)) for number in range(3000)]
    killer = threading.Timer(0.05, rabbitmq.kill)
    killer.start()
    confirmed: list[int] = []
    try:
        for start in range(0, 3000, 500):
            publications = outbox.publish(messages[start : start + 500])
            confirmed += [start + n for n, each in enumerate(publications) if each.status is CONFIRMED]
            assert REFUSED not in statuses(publications)
    finally:
        killer.join()
        rabbitmq.start()
    assert len(confirmed) < 3000, "the broker was killed too late for this test"
    arrived = {message.headers["id"] for message in rabbitmq.take(queue)}
    assert {f"t-{number:04}" for number in confirmed} <= arrived


def test_a_connection_that_the_broker_closes_while_idle_is_replaced(
    app: Celery, outbox: CeleryOutbox, rabbitmq: RabbitMQ
) -> None:
    first = outbox.connection.connection
    rabbitmq.close_connections()
    wait_until(lambda: _connects(outbox) and outbox.connection.connection is not first)
    assert statuses(outbox.publish([render(outbox, app)])) == [CONFIRMED]


def _connects(outbox: CeleryOutbox) -> bool:
    try:
        outbox.connect()
    except StoreUnavailable:
        return False
    return True


def test_sentry_like_patches_run_and_are_sent(app: Celery, rabbitmq: RabbitMQ, queue: str) -> None:
    class Monitored(Scheduler):
        def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
            entry.options["headers"]["monitor"] = "in progress"
            super().apply_entry(entry, producer=producer)

    outbox = make(app, scheduler=Monitored(app, lazy=True))
    outbox.connect()
    assert statuses(outbox.publish([render(outbox, app)])) == [CONFIRMED]
    (message,) = rabbitmq.take(queue)
    assert message.headers["monitor"] == "in progress"
    outbox.close()
