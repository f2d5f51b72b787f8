"""Where claim and message cannot be one write: to RabbitMQ, and where publishing runs code of the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from benchmarks.figures import Burst, Sample
from benchmarks.ground import QUEUE, Beats
from benchmarks.lab import Lab, Step
from benchmarks.products import OURS, STOCK, Product
from benchmarks.results import Storm
from benchmarks.schedules import Group
from benchmarks.watching import cpu_seconds, until_all, watched
from tests.rabbitmq import RabbitMQ, running_rabbitmq

__all__ = ["steps"]

_EVERY = 4.0  # seconds between two storms of ours
_PERIOD = 3600.0  # seconds; the interval of stock beat's entries, of which one is seen
_START = 6.0  # seconds in which stock beat reads its schedule
_BOUND = 30.0
_LOOK = 0.004  # seconds between two looks
_BEFORE, _AFTER = 0.2, 0.2


@dataclass(frozen=True, slots=True)
class Queue:
    """Where the messages go: its length until an instant, and how it is emptied."""

    samples: Callable[[Beats, float], Iterator[Sample]]
    empty: Callable[[Beats], object]


_ON_REDIS = Queue(
    lambda beats, until: watched(beats.redis, QUEUE, every=_LOOK, until=until),
    lambda beats: beats.redis.unlink(QUEUE),
)


def steps(entries: int, rounds: int) -> Iterator[Step]:
    for number in range(1, rounds + 1):
        for product in (OURS, STOCK):
            title = f"two steps on Redis, {entries:,}, {product.name}, {number} of {rounds}"
            yield Step(title, 15, partial(_on_redis, product=product, entries=entries))
    title = f"two steps to RabbitMQ, {entries:,}"
    yield Step(title, 15 + 28 * rounds, partial(_to_rabbitmq, entries=entries, rounds=rounds))


def _on_redis(lab: Lab, product: Product, entries: int) -> Iterator[Storm]:
    return _storms(lab, product, "receiver", entries, _ON_REDIS, receiver=True)


def _to_rabbitmq(lab: Lab, entries: int, rounds: int) -> Iterator[Storm]:
    lab.say("starting RabbitMQ")
    with running_rabbitmq() as broker:
        broker.declare(QUEUE)
        queue = Queue(lambda beats, until: _depth(broker, until), lambda beats: broker.purge(QUEUE))
        for _ in range(rounds):
            for product in (OURS, STOCK):
                settings = {"broker_url": broker.url}
                yield from _storms(lab, product, "rabbitmq", entries, queue, settings=settings)


def _depth(broker: RabbitMQ, until: float) -> Iterator[Sample]:
    """How long the queue is, by this host's clock, which Redis shares."""
    with broker.channel() as channel:
        while True:
            count = channel.queue_declare(QUEUE, passive=True).message_count
            sample = Sample(time.time(), int(count))
            yield sample
            if sample.at >= until:
                return
            time.sleep(_LOOK)


def _storms(
    lab: Lab,
    product: Product,
    kind: str,
    entries: int,
    queue: Queue,
    **options: Any,
) -> Iterator[Storm]:
    """Two storms of ours, or one of stock beat, which counts from when its entries are said to have run."""
    due = time.time() + _START
    last_run = datetime.fromtimestamp(due - _PERIOD, timezone.utc).isoformat()
    ours = product is OURS
    group = Group("interval", entries, _EVERY) if ours else Group("interval", entries, _PERIOD, "", last_run)
    with lab.beats([group], product=product, **options) as (_, beats):
        lab.say(f"{product.name}: starting")
        process = beats.beat("beat").process
        beats.wait_for_ready("beat", timeout=_START)
        if ours:
            beats.wait_for_pool(1)
        for _ in range(2 if ours else 1):
            if ours:
                due = beats.next_due(_EVERY, after=beats.now() + 2 * _BEFORE)
            time.sleep(max(0.0, due - time.time() - _BEFORE))
            queue.empty(beats)
            lab.say(f"{product.name}: firing")
            before = cpu_seconds(process.pid)
            bound = _EVERY - 2 * _BEFORE if ours else _BOUND
            samples = list(until_all(queue.samples(beats, due + bound), entries))
            time.sleep(_AFTER)
            burst = Burst.of(samples, due=due, wanted=entries)
            note = "" if burst.finished else f"stopped after {bound:.0f} s"
            cpu = cpu_seconds(process.pid) - before
            yield Storm(product.name, kind, 1, entries, burst, cpu=cpu, note=note)
