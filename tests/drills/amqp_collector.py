"""Takes every message off a RabbitMQ as it arrives, and notes when that was.

By this host's clock, which the drills' Redis shares: it may be away just then.  A message that is delivered
again because its acknowledgement was lost, and is marked so by the broker, is not a message twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from kombu import Connection, Exchange, Queue

from tests.drills.checker import Arrival
from tests.drills.collector import arrival_of

__all__ = ["AmqpCollector"]

_BLOCK = 0.2  # seconds
_RETRY = 0.1  # seconds between tries while the broker is away


class AmqpCollector:
    """Collects from ``queues`` until stopped.  Survives that the broker is away."""

    def __init__(self, url: str, *, queues: Iterable[str] = ("celery",)) -> None:
        self._url = url
        self._queues = [Queue(name, Exchange(name), routing_key=name) for name in queues]
        self._arrivals: list[Arrival] = []
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-amqp-collector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take what is left; idempotent."""
        self._stopping.set()
        self._thread.join(10)

    @property
    def arrivals(self) -> list[Arrival]:
        """Everything so far, in order of arrival."""
        with self._lock:
            return sorted(self._arrivals, key=lambda arrival: arrival.at)

    def __len__(self) -> int:
        return len(self._arrivals)

    def _run(self) -> None:
        while not self._stopping.is_set():
            connection: Any = Connection(self._url, connect_timeout=2)
            try:
                connection.connect()
                self._consume(connection)
            except (*connection.connection_errors, *connection.channel_errors, OSError):
                self._stopping.wait(_RETRY)
            finally:
                connection.collect(socket_timeout=0.5)

    def _consume(self, connection: Any) -> None:
        with connection.Consumer(self._queues, callbacks=[self._note], accept=["json"]):
            idle = False
            while not (self._stopping.is_set() and idle):
                try:
                    connection.drain_events(timeout=_BLOCK)
                    idle = False
                except TimeoutError:
                    idle = True

    def _note(self, body: Any, message: Any) -> None:
        at = time.time_ns() // 1000
        again = message.delivery_info.get("redelivered") and message.headers.get("id") in self._seen
        if not again:
            queue = str(message.delivery_info.get("routing_key"))
            found = arrival_of(
                message.headers, at=at, queue=queue, args=body[0], properties=message.properties
            )
            with self._lock:
                self._arrivals.append(found)
                self._seen.add(found.task_id)
        message.ack()
