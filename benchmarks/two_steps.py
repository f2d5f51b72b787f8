"""Where claim and message cannot be one write: to RabbitMQ, and where publishing runs code of the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.figures import Burst
from benchmarks.ground import QUEUE, Beats
from benchmarks.lab import Lab, Step
from benchmarks.peers import peer_storm
from benchmarks.products import OURS, STOCK
from benchmarks.queues import OnRabbitMQ, OnRedis, Queue, watch
from benchmarks.results import Storm
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds
from tests.rabbitmq import running_rabbitmq

__all__ = ["steps"]

_EVERY = 4.0  # seconds between two storms of ours
_STORMS = 2  # of ours, each time
_START = 5.0  # seconds in which stock beat reads its schedule
_BOUND = 30.0  # seconds that it may fire
_BEFORE, _AFTER = 0.2, 0.3


def steps(entries: int, rounds: int) -> Iterator[Step]:
    title = f"two steps on the same Redis, {entries:,}"
    yield Step(title, 23 * rounds, partial(_on_redis, entries=entries, rounds=rounds))
    title = f"two steps to RabbitMQ, {entries:,}"
    yield Step(title, 15 + 23 * rounds, partial(_to_rabbitmq, entries=entries, rounds=rounds))


def _on_redis(lab: Lab, entries: int, rounds: int) -> Iterator[Storm]:
    for _ in range(rounds):
        yield from _in_turn(lab, "receiver", entries, OnRedis, receiver=True)


def _to_rabbitmq(lab: Lab, entries: int, rounds: int) -> Iterator[Storm]:
    lab.say("starting RabbitMQ")
    with running_rabbitmq() as broker:
        broker.declare(QUEUE)
        queue, settings = OnRabbitMQ(broker), {"broker_url": broker.url}
        for _ in range(rounds):
            yield from _in_turn(lab, "rabbitmq", entries, lambda beats: queue, settings=settings)


def _in_turn(
    lab: Lab, kind: str, entries: int, queue_of: Callable[[Beats], Queue], **options: Any
) -> Iterator[Storm]:
    """Storms of ours and one of stock beat."""
    with lab.beats([Group("interval", entries, _EVERY)], **options) as (_, beats):
        lab.say("starting")
        beats.beat("node-1")
        beats.wait_for_pool(1)
        for number in range(_STORMS):
            lab.say(f"storm {number + 1} of {_STORMS}")
            yield _storm(beats, queue_of(beats), kind, entries)
    yield peer_storm(lab, STOCK, kind, entries, start=_START, bound=_BOUND, queue_of=queue_of, **options)


def _storm(beats: Beats, queue: Queue, kind: str, entries: int) -> Storm:
    due = beats.next_due(_EVERY, after=beats.now() + 2 * _BEFORE)
    time.sleep(max(0.0, due - _BEFORE - beats.now()))
    queue.empty()
    pid = beats.pids()[0]
    before = cpu_seconds(pid)
    samples = watch(queue, wanted=entries, until=due + _EVERY - 2 * _BEFORE)
    time.sleep(_AFTER)
    burst = Burst.of(samples, due=due, wanted=entries)
    return Storm(OURS.name, kind, 1, entries, burst, cpu=cpu_seconds(pid) - before)
