"""Where the messages of a benchmark go, and how its length is seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from benchmarks.figures import Sample
from benchmarks.ground import QUEUE, Beats
from benchmarks.watching import watched
from tests.rabbitmq import RabbitMQ

__all__ = ["OnRabbitMQ", "OnRedis", "Queue", "watch"]

_SAMPLES = 0.002, 0.01  # seconds between two looks at a small storm and at a large one
_LARGE = 5_000


class Queue(Protocol):
    """Times are seconds by Redis's clock."""

    def samples(self, *, every: float, until: float) -> Iterator[Sample]:
        """Its length each ``every`` seconds, up to ``until`` and once past it."""
        ...

    def empty(self) -> None: ...


class OnRedis:
    """The queue of these beats, where the broker is their Redis."""

    def __init__(self, beats: Beats) -> None:
        self._client = beats.redis

    def samples(self, *, every: float, until: float) -> Iterator[Sample]:
        return watched(self._client, QUEUE, every=every, until=until)

    def empty(self) -> None:
        self._client.unlink(QUEUE)


class OnRabbitMQ:
    """The queue on a RabbitMQ on this host, whose clock is that of Redis."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker

    def samples(self, *, every: float, until: float) -> Iterator[Sample]:
        with self._broker.channel() as channel:
            while True:
                count = channel.queue_declare(QUEUE, passive=True).message_count
                sample = Sample(time.time(), int(count))
                yield sample
                if sample.at >= until:
                    return
                time.sleep(every)

    def empty(self) -> None:
        self._broker.purge(QUEUE)


def watch(
    queue: Queue, *, wanted: int, until: float, during: Callable[[Sample], None] = lambda sample: None
) -> list[Sample]:
    """The queue until it has ``wanted`` messages; ``during`` is told of each sample."""
    samples = []
    for sample in queue.samples(every=_SAMPLES[wanted > _LARGE], until=until):
        samples.append(sample)
        during(sample)
        if sample.length >= wanted:
            break
    return samples
