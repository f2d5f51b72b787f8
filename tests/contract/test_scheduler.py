"""The scheduler against Celery's contract, in this process and on real servers."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from celery.beat import ScheduleEntry
from celery.signals import before_task_publish

from celery_dispatch import ConfigError, DispatchScheduler, StoreRefused
from celery_dispatch.celery_bridge.outbox import CeleryOutbox
from celery_dispatch.redis_store.intents import RedisIntents
from celery_dispatch.redis_store.keys import Keys
from celery_dispatch.redis_store.ledger import RedisLedger
from tests.servers import Server, wait_until

Build = Callable[..., DispatchScheduler]


@pytest.fixture
def app(server: Server, client: redis.Redis, queues: set[str]) -> Iterator[Celery]:
    queues.update(("celery", "_kombu.*"))
    app = Celery("tested", broker=server.url, set_as_current=False)
    app.conf.beat_schedule = {
        f"e{i}": {"task": "noop", "schedule": 0.2, "args": (i,), "options": {"headers": {"mine": i}}}
        for i in range(5)
    }
    yield app
    app.close()


@pytest.fixture
def build(app: Celery) -> Iterator[Build]:
    built: list[DispatchScheduler] = []

    def build(**kwargs: Any) -> DispatchScheduler:
        built.append(DispatchScheduler(app=app, schedule_filename="unused", **kwargs))
        return built[-1]

    yield build
    for scheduler in built:
        scheduler.close()


def tick_until(scheduler: DispatchScheduler, true: Callable[[], Any]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until, "ticked in vain"
        assert scheduler.tick() == 0


def tick_for_ever(scheduler: DispatchScheduler) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        scheduler.tick()


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dispatch")]


def connections(client: redis.Redis) -> int:
    return len(client.client_list())


@pytest.mark.parametrize("lazy", [True, False])
def test_a_constructor_asks_nothing_of_redis(build: Build, client: redis.Redis, lazy: bool) -> None:
    before = connections(client)
    scheduler = build(lazy=lazy, max_interval=None)
    assert "pool -> redis://127.0.0.1" in scheduler.info
    assert connections(client) == before
    assert own_threads() == []
    assert client.keys() == []


def test_the_first_tick_joins_and_close_leaves(build: Build, client: redis.Redis, keys: Keys) -> None:
    scheduler = build(max_interval=1)
    tick_until(scheduler, lambda: client.zcard(keys.nodes))
    scheduler.close()
    assert client.zcard(keys.nodes) == 0
    assert client.hlen(keys.members) == 0
    scheduler.close()


def test_closing_closes_every_connection_and_thread(build: Build, client: redis.Redis, keys: Keys) -> None:
    before = connections(client)
    scheduler = build(max_interval=1)
    tick_until(scheduler, lambda: client.llen("celery") >= 5)
    scheduler.close()
    wait_until(lambda: connections(client) == before)
    assert own_threads() == []


def test_a_scheduler_that_never_ticked_closes(build: Build) -> None:
    build(max_interval=1).close()


def test_ticks_fire_what_is_due(build: Build, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scheduler = build(max_interval=1)
    tick_until(scheduler, lambda: client.llen("celery") >= 10)
    assert "Scheduler: Sending due task e0 (noop)" in caplog.text


def test_a_tick_returns_within_max_interval(build: Build, app: Celery) -> None:
    app.conf.beat_schedule = {"rare": {"task": "noop", "schedule": 3600.0}}
    scheduler = build(max_interval=0.2)
    tick_until(scheduler, lambda: scheduler._running and scheduler._running._keeper.outage is None)
    began = time.monotonic()
    scheduler.tick()
    assert time.monotonic() - began < 0.9


def test_the_schedule_is_shown_and_not_set(build: Build) -> None:
    scheduler = build(max_interval=1)
    assert sorted(name for name in scheduler.schedule if name.startswith("e")) == [f"e{i}" for i in range(5)]
    assert all(isinstance(entry, ScheduleEntry) for entry in scheduler.schedule.values())
    with pytest.raises(ConfigError, match="beat_schedule"):
        scheduler.schedule = {}
    assert build(lazy=True).schedule == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda scheduler, entry: scheduler.add(name="new", task="noop", schedule=1.0),
        lambda scheduler, entry: scheduler.update_from_dict({"new": {"task": "noop", "schedule": 1.0}}),
        lambda scheduler, entry: scheduler.merge_inplace({"e0": {"task": "other", "schedule": 1.0}}),
        lambda scheduler, entry: setattr(scheduler, "schedule", {}),
        lambda scheduler, entry: scheduler.schedule.update(new=entry),
        lambda scheduler, entry: scheduler.schedule.pop("e0"),
    ],
    ids=["add", "update_from_dict", "merge_inplace", "assign", "schedule.update", "schedule.pop"],
)
def test_a_change_that_other_beats_would_not_know_of_is_refused(build: Build, change: Any) -> None:
    scheduler = build(max_interval=1)
    before = dict(scheduler.schedule)
    with pytest.raises((ConfigError, AttributeError), match=r"beat_schedule|no attribute"):
        change(scheduler, before["e0"])
    assert dict(scheduler.schedule) == before
    assert before["e0"].task == "noop"


def test_sending_an_entry_by_hand_leaves_the_schedule_as_it_is(build: Build, client: redis.Redis) -> None:
    scheduler = build(max_interval=1)
    entry = scheduler.schedule["e0"]
    scheduler.apply_async(entry)
    assert client.llen("celery") == 1
    assert scheduler.reserve(entry).total_run_count == 1
    assert scheduler.schedule["e0"] == entry and scheduler.schedule["e0"].total_run_count == 0


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_it_can_be_closed_in_a_signal_handler_at_any_moment_of_a_tick(
    build: Build, client: redis.Redis, keys: Keys
) -> None:
    class Terminated(BaseException):
        """What the handler of celery beat raises, SystemExit, under a name of its own."""

    def handler(*_: Any) -> None:
        scheduler.close()
        raise Terminated

    ends: list[type[BaseException]] = []
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        for delay in (0.001, 0.005, 0.02, 0.1, 0.3):
            scheduler = build(max_interval=1)
            signal.setitimer(signal.ITIMER_REAL, delay)
            with pytest.raises((Terminated, SystemExit)) as ended:  # the latter where the first is dropped
                tick_for_ever(scheduler)
            ends.append(ended.type)
            scheduler.close()
            assert client.zcard(keys.nodes) == 0, f"a ghost stayed after {delay} s"
            gc.collect()  # a socket that was being opened just then is closed here, with a warning
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert ends.count(Terminated) >= 3


def test_a_beat_that_was_closed_ends_though_the_handlers_exception_was_dropped(
    build: Build, app: Celery, client: redis.Redis, keys: Keys
) -> None:
    app.conf.beat_schedule = {}
    scheduler = build(max_interval=60)
    closing = threading.Timer(0.5, scheduler.close)
    closing.start()
    began = time.monotonic()
    with pytest.raises(SystemExit):
        tick_for_ever(scheduler)
    assert time.monotonic() - began < 5
    closing.join()
    assert client.zcard(keys.nodes) == 0


@pytest.mark.parametrize(
    ("part", "method"),
    [
        (RedisLedger, "claim"),
        (CeleryOutbox, "render"),
        (RedisIntents, "keep"),
        (CeleryOutbox, "publish"),
        (RedisIntents, "settle"),
    ],
)
def test_one_that_is_told_to_end_in_the_middle_of_a_pass_finishes_it_first(
    build: Build,
    app: Celery,
    server: Server,
    client: redis.Redis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    part: type,
    method: str,
) -> None:
    """With two steps and code of the user, so that something is open at each of these moments."""
    app.conf.dispatch_redis_url = server.url.replace("/0", "/1")
    ran: list[str] = []

    def receiver(headers: dict[str, Any], **_: Any) -> None:
        ran.append(headers["id"])

    def told(*args: Any, **options: Any) -> Any:
        if ran:  # the first messages are being made, or are out
            monkeypatch.setattr(part, method, original)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **options)

    def handler(*_: Any) -> None:
        """That of celery beat."""
        scheduler.close()
        raise SystemExit

    original = getattr(part, method)
    monkeypatch.setattr(part, method, told)
    before_task_publish.connect(receiver)
    previous = signal.signal(signal.SIGTERM, handler)
    scheduler = build(max_interval=1)
    try:
        with pytest.raises(SystemExit):
            tick_for_ever(scheduler)
    finally:
        signal.signal(signal.SIGTERM, previous)
        before_task_publish.disconnect(receiver)
    sent = [json.loads(row)["headers"]["id"] for row in client.lrange("celery", 0, -1)]  # type: ignore[union-attr]
    client.select(1)
    left = client.zcard(keys.nodes), client.hlen(keys.intents)
    client.flushdb()
    client.select(0)
    assert left == (0, 0)
    assert sorted(sent) == sorted(ran) == sorted(set(ran)) != []


def test_wrong_settings_are_refused_at_once(build: Build, app: Celery) -> None:
    app.conf.dispatch_lease_ttl = 1
    with pytest.raises(ConfigError, match="dispatch_lease_ttl"):
        build()


def test_a_wrong_password_ends_the_first_ticks_with_its_cure(
    build: Build, app: Celery, server: Server
) -> None:
    app.conf.dispatch_redis_url = server.url.replace("redis://", "redis://nobody:wrong@")
    scheduler = build(max_interval=1)
    with pytest.raises(StoreRefused, match="password"):
        tick_for_ever(scheduler)


def test_a_broker_in_another_database_takes_two_steps(
    build: Build, app: Celery, server: Server, client: redis.Redis, keys: Keys
) -> None:
    app.conf.dispatch_redis_url = server.url.replace("/0", "/1")
    scheduler = build(max_interval=1)
    tick_until(scheduler, lambda: client.llen("celery") >= 10)
    scheduler.close()
    assert not client.exists(keys.pool)
    client.select(1)
    assert client.exists(keys.pool)
    assert client.hlen(keys.intents) == client.zcard(keys.attempts) == 0
    client.flushdb()
    client.select(0)


def test_receivers_run_after_the_claim_and_see_what_is_sent(
    build: Build, app: Celery, client: redis.Redis, keys: Keys
) -> None:
    seen: list[tuple[str, int]] = []

    def receiver(headers: Any = None, **_: Any) -> None:
        headers["from_receiver"] = "yes"
        seen.append((headers["id"], client.hlen(keys.intents)))

    before_task_publish.connect(receiver)
    try:
        scheduler = build(max_interval=1)
        tick_until(scheduler, lambda: client.llen("celery") >= 10)
        scheduler.close()
    finally:
        before_task_publish.disconnect(receiver)
    messages: Any = client.lrange("celery", 0, -1)
    headers = [json.loads(message)["headers"] for message in messages]
    assert {each["from_receiver"] for each in headers} == {"yes"}
    assert sorted(name for name, _ in seen) == sorted(each["id"] for each in headers)
    assert all(intents > 0 for _, intents in seen), "it ran before its occurrence was claimed"
    assert client.hlen(keys.intents) == 0
