"""Messages captured from Celery's own publish path, compared with what Celery really sends."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from celery.beat import BeatLazyFunc, ScheduleEntry, Scheduler
from celery.signals import before_task_publish
from kombu import Exchange, Queue

from celery_dispatch.celery_bridge.outbox import CeleryOutbox, task_id
from celery_dispatch.core.ports import Command, Path
from celery_dispatch.errors import ConfigError, EntryError, StoreRefused, StoreUnavailable
from tests.outboxes import DUE, NOW, make, occurrence, stock_entry
from tests.servers import Server, free_port


@pytest.fixture
def app(server: Server, client: redis.Redis, queues: set[str]) -> Iterator[Celery]:
    queues.add("*")  # whatever a broker keeps
    app = Celery("tested", broker=server.url, set_as_current=False)
    app.conf.task_queues = [
        Queue("celery"),
        Queue("second"),
        Queue("topics", Exchange("news", type="topic"), routing_key="news.#"),
        Queue("everyone", Exchange("all", type="fanout")),
        Queue("brief", queue_arguments={"x-expires": 60_000}),
    ]

    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    yield app
    app.close()


@pytest.fixture
def outbox(app: Celery) -> Iterator[CeleryOutbox]:
    outbox = make(app)
    yield outbox
    outbox.close()


def render(outbox: CeleryOutbox, app: Celery, **options: Any) -> tuple[Command, ...]:
    outbox.connect()
    return outbox.render(occurrence(app, **options), now=NOW)


def nothing() -> None:
    """The body of a task."""


def message(command: Command) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(command.value)
    return decoded


def normal(raw: bytes | str) -> dict[str, Any]:
    """A message without what differs from fire to fire or is this package's own."""
    decoded: dict[str, Any] = json.loads(raw)
    for key in (
        "id",
        "root_id",
        "origin",
        "dispatch_entry",
        "dispatch_due",
        "dispatch_node",
        "periodic_task_name",
        "celery_beat_task",  # stock beat of 5.5 does not set it
    ):
        decoded["headers"].pop(key, None)
    for key in ("correlation_id", "reply_to", "delivery_tag", "expiration"):
        decoded["properties"].pop(key, None)
    return decoded


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue": "second"},
        {"priority": 7},
        {"headers": {"tenant": "a"}},
        {"routing_key": "second"},
        {"serializer": "yaml"},
        {"compression": "gzip"},
        {"time_limit": 5, "soft_time_limit": 3},
        {"shadow": "other name"},
        {"ignore_result": True},
        {"queue": "topics", "routing_key": "news.sport"},
    ],
    ids=str,
)
def test_a_message_is_the_one_that_stock_beat_sends(
    app: Celery, outbox: CeleryOutbox, client: redis.Redis, options: dict[str, Any]
) -> None:
    (command,) = render(outbox, app, **options)
    assert command.op == "LPUSH"
    assert client.llen(command.key) == 0, "rendering must not send"
    stock = Scheduler(app, lazy=True)
    stock.apply_async(stock_entry(occurrence(app, **options), app), advance=False)
    stock.close()
    sent = client.rpop(command.key)
    assert sent is not None, f"stock beat sends to another queue than {command.key}"
    assert normal(command.value) == normal(sent)  # type: ignore[arg-type]


def test_headers_and_task_id_follow_the_contract(app: Celery, outbox: CeleryOutbox) -> None:
    (command,) = render(outbox, app, headers={"mine": 1})
    headers = message(command)["headers"]
    assert headers["dispatch_entry"] == headers["periodic_task_name"] == "sums"
    assert headers["dispatch_due"] == "2030-01-01T12:00:00.005Z"
    assert headers["dispatch_node"] == "n-1"
    assert headers["celery_beat_task"] is True
    assert headers["mine"] == 1
    assert headers["id"] == task_id("p", "sums", DUE)
    assert uuid.UUID(headers["id"]).version == 5


def test_the_callers_options_are_never_changed(app: Celery, outbox: CeleryOutbox) -> None:
    options = {"headers": {"mine": 1}, "countdown": 3, "expires": 60}
    one = occurrence(app, **options)
    outbox.connect()
    outbox.render(one, now=NOW)
    assert options == {"headers": {"mine": 1}, "countdown": 3, "expires": 60}
    assert one.entry.payload.options == options  # type: ignore[attr-defined]


def test_relative_times_are_reckoned_from_the_pools_clock(app: Celery, outbox: CeleryOutbox) -> None:
    (command,) = render(outbox, app, countdown=30, expires=60)
    headers = message(command)["headers"]
    assert datetime.fromisoformat(headers["eta"]) == NOW + timedelta(seconds=30)
    assert datetime.fromisoformat(headers["expires"]) == NOW + timedelta(seconds=60)


def test_a_task_id_of_the_users_own_is_kept(app: Celery, outbox: CeleryOutbox) -> None:
    (command,) = render(outbox, app, task_id="singleton")
    assert message(command)["headers"]["id"] == "singleton"


def test_a_task_that_this_app_does_not_know_is_sent_by_name(app: Celery, outbox: CeleryOutbox) -> None:
    (command,) = render(outbox, app, task="elsewhere.task")
    assert message(command)["headers"]["task"] == "elsewhere.task"


def test_a_topic_exchange_reaches_every_queue_that_is_bound(app: Celery, outbox: CeleryOutbox) -> None:
    with app.connection_for_write() as connection:
        Queue("more", Exchange("news", type="topic"), routing_key="*.sport")(
            connection.default_channel
        ).declare()
    commands = render(outbox, app, queue="topics", routing_key="news.sport")
    assert sorted(command.key for command in commands) == ["more", "topics"]


def test_an_unroutable_message_has_no_command(app: Celery, outbox: CeleryOutbox) -> None:
    assert render(outbox, app, exchange="news", routing_key="weather") == ()


def test_declarations_are_repeated_when_redis_was_emptied(
    app: Celery, outbox: CeleryOutbox, client: redis.Redis
) -> None:
    assert [command.key for command in render(outbox, app, queue="topics")] == ["topics"]
    client.flushall()
    assert [command.key for command in render(outbox, app, queue="topics")] == ["topics"]


def test_a_fanout_message_is_published(app: Celery, outbox: CeleryOutbox) -> None:
    (command,) = render(outbox, app, queue="everyone")
    assert (command.op, command.key) == ("PUBLISH", "/0.all/celery")


def test_every_key_carries_the_global_prefix(app: Celery) -> None:
    app.conf.broker_transport_options = {"global_keyprefix": "tenant:"}
    outbox = make(app)
    assert render(outbox, app)[0].key == "tenant:celery"
    assert render(outbox, app, queue="everyone")[0].key.startswith("tenant:/0.all")
    outbox.close()


@pytest.mark.parametrize("retry", [{"retry": True}, {"retry_policy": {"max_retries": 5}}], ids=str)
def test_retry_options_never_send_unclaimed(app: Celery, client: redis.Redis, retry: dict[str, Any]) -> None:
    app.conf.broker_transport_options = {"retry_on_timeout": True}
    outbox = make(app)
    assert len(render(outbox, app, **retry)) == 1
    assert client.llen("celery") == 0
    outbox.close()


def test_a_recreated_channel_still_captures(app: Celery, outbox: CeleryOutbox, client: redis.Redis) -> None:
    render(outbox, app)
    outbox.connection.default_channel.client.connection_pool.disconnect()
    assert len(render(outbox, app)) == 1
    assert client.llen("celery") == 0


def test_results_are_not_subscribed_to(server: Server, app: Celery, client: redis.Redis) -> None:
    app.conf.result_backend = server.url
    outbox = make(app)
    render(outbox, app)
    assert client.pubsub_channels("celery-task-meta-*") == []
    outbox.close()


def test_publish_signals_run(app: Celery, outbox: CeleryOutbox) -> None:
    seen: list[str] = []

    def receiver(sender: str, **kwargs: Any) -> None:
        seen.append(sender)

    before_task_publish.connect(receiver)
    try:
        render(outbox, app)
    finally:
        before_task_publish.disconnect(receiver)
    assert seen == ["add"]


def test_a_receiver_that_code_of_the_user_connects_hears_of_the_message_after_it(
    app: Celery, outbox: CeleryOutbox
) -> None:
    """Though nothing ran code of the user when that was asked of it."""
    # Celery drops dead receivers by replacing its list, and an app goes on with the one it had: not later on.
    before_task_publish.has_listeners("add")
    seen: list[str] = []

    def receiver(sender: str, **kwargs: Any) -> None:
        seen.append(sender)

    def connecting() -> int:
        before_task_publish.connect(receiver)
        return 1

    lazy, plain = occurrence(app, args=(BeatLazyFunc(connecting), 2)), occurrence(app)
    for name in ("first", "second"):  # of one shape: the third is filled in
        outbox.render(replace(plain, entry=replace(plain.entry, name=name)), now=NOW)
    assert outbox.path(plain).user_code is False
    try:
        outbox.render(lazy, now=NOW)
        seen.clear()
        outbox.render(plain, now=NOW)
    finally:
        before_task_publish.disconnect(receiver)
    assert seen == ["add"]


def test_what_cannot_be_serialised_is_the_entrys_fault(app: Celery, outbox: CeleryOutbox) -> None:
    with pytest.raises(EntryError, match="serializable"):
        render(outbox, app, args=(object(), 2))
    assert len(render(outbox, app)) == 1, "the next one must not suffer"


def test_wrong_arguments_are_the_entrys_fault(app: Celery, outbox: CeleryOutbox) -> None:
    with pytest.raises(EntryError, match="missing 1 required"):
        render(outbox, app, args=(1,))


def test_a_queue_key_of_another_type_is_the_entrys_fault(
    app: Celery, outbox: CeleryOutbox, client: redis.Redis
) -> None:
    client.set("second", "not a list")
    with pytest.raises(EntryError, match="WRONGTYPE"):
        render(outbox, app, queue="second")


def test_a_broker_that_goes_away_while_rendering_is_nobodys_fault(app: Celery, outbox: CeleryOutbox) -> None:
    outbox.connect()
    channel = outbox.connection.default_channel
    channel.client.connection_pool.disconnect()
    channel.pool.connection_kwargs["port"] = free_port()
    channel.pool.disconnect()
    with pytest.raises(StoreUnavailable, match="routing tables"):
        outbox.render(occurrence(app, queue="topics"), now=NOW)


def test_an_outage_of_what_the_users_own_code_talks_to_is_the_entrys_fault(
    app: Celery, outbox: CeleryOutbox
) -> None:
    def cached() -> int:
        raise redis.ConnectionError("the cache is away")

    with pytest.raises(EntryError, match="the cache is away"):
        render(outbox, app, args=(BeatLazyFunc(cached), 2))


@pytest.mark.parametrize(
    "options",
    [{"headers": ["x"]}, {"countdown": float("inf")}, {"expires": 1e12}, {"link": threading.Lock()}],
    ids=["headers", "countdown", "expires", "link"],
)
def test_options_that_cannot_be_used_are_the_entrys_fault(
    app: Celery, outbox: CeleryOutbox, options: dict[str, Any]
) -> None:
    with pytest.raises(EntryError):
        render(outbox, app, **options)


def test_a_wrong_password_of_the_broker_is_refused_with_the_cure(server: Server, client: redis.Redis) -> None:
    locked = Celery("locked", broker=server.url.replace("//", "//nobody:wrong@"), set_as_current=False)
    with pytest.raises(StoreRefused, match="login"):
        make(locked).connect()


def test_a_broker_that_is_away_is_nobodys_fault() -> None:
    away = Celery("away", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        make(away).connect()


def test_each_new_connection_decides_whether_the_broker_is_the_store(app: Celery, server: Server) -> None:
    answers = [True, False]
    seen: list[Any] = []

    def same_store(connection: Any) -> bool:
        seen.append(connection.default_channel.client.ping())
        return answers.pop(0)

    outbox = make(app, same_store=same_store)
    outbox.connect()
    outbox.connect()
    assert outbox.path(occurrence(app)) == Path(True, False)
    outbox.close()
    outbox.connect()
    assert outbox.path(occurrence(app)) == Path(False, False, "the broker is not the Redis of the pool")
    assert seen == [True, True]
    outbox.close()


def test_what_the_comparison_with_the_store_raises_is_passed_on(app: Celery) -> None:
    def refuse(connection: Any) -> bool:
        raise ConfigError("another app's Redis")

    with pytest.raises(ConfigError, match="another app"):
        make(app, same_store=refuse).connect()


def test_a_failover_list_goes_on_to_the_next_host(
    server: Server, client: redis.Redis, queues: set[str]
) -> None:
    queues.add("*")
    urls = f"redis://127.0.0.1:{free_port()}/0;{server.url}"
    app = Celery("listed", broker=urls, set_as_current=False)
    outbox = make(app)
    assert [command.op for command in render(outbox, app)] == ["LPUSH"]
    assert client.llen("celery") == 0, "the second host must capture as the first does"
    outbox.close()
    app.close()


class TestTasksThatDecideThemselves:
    """A task class with an ``apply_async`` of its own, as celery-once has."""

    def test_one_that_does_not_send_has_no_command_and_is_asked_once(self, app: Celery) -> None:
        asked: list[str] = []

        class Silent(app.Task):  # type: ignore[misc, name-defined]
            def apply_async(self, *args: Any, **kwargs: Any) -> None:
                asked.append(kwargs["headers"]["dispatch_entry"])

        app.task(name="silent", base=Silent, shared=False)(nothing)
        outbox = make(app)
        assert render(outbox, app, task="silent", args=()) == ()
        assert asked == ["sums"]
        outbox.close()

    def test_one_that_refuses_is_the_entrys_error(self, app: Celery) -> None:
        class Once(app.Task):  # type: ignore[misc, name-defined]
            def apply_async(self, *args: Any, **kwargs: Any) -> None:
                raise RuntimeError("already queued")

        app.task(name="once", base=Once, shared=False)(nothing)
        outbox = make(app)
        with pytest.raises(EntryError, match="already queued"):
            render(outbox, app, task="once", args=())
        outbox.close()

    def test_one_that_sends_is_captured(self, app: Celery, client: redis.Redis) -> None:
        class Loud(app.Task):  # type: ignore[misc, name-defined]
            def apply_async(self, *args: Any, **kwargs: Any) -> Any:
                kwargs["headers"] = {**kwargs["headers"], "loud": True}
                return super().apply_async(*args, **kwargs)

        app.task(name="loud", base=Loud, shared=False)(nothing)
        outbox = make(app)
        (command,) = render(outbox, app, task="loud", args=())
        assert message(command)["headers"]["loud"] is True
        assert client.llen("celery") == 0
        outbox.close()


def test_a_receiver_that_raises_does_not_stop_the_message(
    app: Celery, outbox: CeleryOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    def receiver(**kwargs: Any) -> None:
        raise RuntimeError("the receiver is broken")

    before_task_publish.connect(receiver)
    try:
        assert len(render(outbox, app)) == 1
    finally:
        before_task_publish.disconnect(receiver)
    assert "the receiver is broken" in caplog.text


class TestApplyEntry:
    """A scheduler whose ``apply_entry`` is overridden or patched, as Sentry's cron monitors do."""

    @pytest.fixture
    def monitored(self, app: Celery) -> tuple[CeleryOutbox, list[str]]:
        checked_in: list[str] = []

        class Monitored(Scheduler):
            def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
                checked_in.append(entry.name)
                entry.options["headers"]["monitor"] = "in progress"
                super().apply_entry(entry, producer=producer)

        scheduler = Monitored(app, lazy=True)
        return CeleryOutbox(app, key_prefix="p", node="n-1", scheduler=scheduler), checked_in

    def test_it_runs_and_its_changes_are_sent(
        self, app: Celery, monitored: tuple[CeleryOutbox, list[str]], client: redis.Redis
    ) -> None:
        outbox, checked_in = monitored
        (command,) = render(outbox, app)
        assert message(command)["headers"]["monitor"] == "in progress"
        assert checked_in == ["sums"]
        assert client.llen("celery") == 0
        outbox.close()

    def test_errors_that_it_keeps_to_itself_are_the_entrys_error(
        self, app: Celery, monitored: tuple[CeleryOutbox, list[str]]
    ) -> None:
        outbox, _ = monitored
        for _again in range(2):
            with pytest.raises(EntryError, match="serializable"):
                render(outbox, app, args=(object(), 2))
        assert len(render(outbox, app)) == 1
        outbox.close()

    def test_stock_beats_line_is_logged_once(
        self, app: Celery, monitored: tuple[CeleryOutbox, list[str]], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="celery.beat")
        outbox, _ = monitored
        render(outbox, app)
        outbox.sent(occurrence(app))
        assert caplog.text.count("Sending due task sums (add)") == 1
        outbox.close()


def test_stock_beats_line_is_logged_once_the_message_is_on_the_broker(
    app: Celery, outbox: CeleryOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="celery.beat")
    render(outbox, app)
    assert "Sending due task" not in caplog.text
    outbox.sent(occurrence(app))
    assert caplog.text.count("Sending due task sums (add)") == 1
