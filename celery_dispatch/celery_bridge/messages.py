"""Messages exactly as Celery and kombu would send them, collected instead of sent.

A private connection runs Celery's whole publish path: routing, declarations, serialisation, compression,
priorities, signals.  Its channel differs from kombu's in one point: where kombu would write a message to
Redis (``_put`` and ``_put_fanout``), the commands are recorded.  The claim script carries them out later,
so a message exists only if its claim was won.  Everything else that the channel does (declaring queues,
reading the tables of topic exchanges) really happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.transport import redis as kombu_redis

from celery_dispatch.core.ports import Command
from celery_dispatch.errors import ConfigError

__all__ = ["capture_connection", "capturing_producer"]

_SOCKET_TIMEOUT = 2.0  # seconds; kombu's default is to wait for ever
_CONNECT_TIMEOUT = 1.0


class Recorder:
    """Stands where kombu expects a Redis client while it delivers a message; writes down what it is told."""

    def __init__(self, key_prefix: str) -> None:
        self._key_prefix = key_prefix
        self.commands: list[Command] = []

    def lpush(self, key: str, payload: str) -> None:
        self._record("LPUSH", key, payload)

    def pexpire(self, key: str, milliseconds: int) -> None:
        self._record("PEXPIRE", key, str(milliseconds))

    def publish(self, channel: str, payload: str) -> None:
        self._record("PUBLISH", channel, payload)

    @contextmanager
    def pipeline(self) -> Iterator[Recorder]:
        yield self

    def execute(self) -> None:
        """The commands of a pipeline were recorded as they came."""

    def _record(self, op: str, key: str, value: str) -> None:
        self.commands.append(Command(op, self._key_prefix + key, value))


class _CapturingChannel:
    """What a capturing channel does differently; mixed into the channel class of the broker's transport."""

    recorder: Recorder | None = None

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        with self._recording():
            super()._put(queue, message, **kwargs)  # type: ignore[misc]

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        with self._recording():
            super()._put_fanout(exchange, message, routing_key, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _recording(self) -> Iterator[None]:
        transport = self.connection  # type: ignore[attr-defined]
        self.recorder = Recorder(self.global_keyprefix)  # type: ignore[attr-defined]
        try:
            yield
            transport.captured.extend(self.recorder.commands)
        finally:
            self.recorder = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if self.recorder is not None:
            yield self.recorder
        else:
            with super().conn_or_acquire(client) as real:  # type: ignore[misc]
                yield real


class _CapturingTransport:
    """Keeps what its channels captured."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.captured: list[Command] = []


class _DeclaringOnce:
    """Asks kombu once for each queue, not once for each message; mixed into the app's producer class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._declared: dict[int, Any] = {}  # held, so that an id is not used again

    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:
        if id(entity) in self._declared:
            return None
        answer = super().maybe_declare(entity, retry, **retry_policy)  # type: ignore[misc]
        if getattr(entity, "can_cache_declaration", False):
            self._declared[id(entity)] = entity
        return answer

    def forget_declarations(self) -> None:
        """Let the next publish declare its queues and bindings anew, as after Redis was emptied."""
        connection: Any = self.connection  # type: ignore[attr-defined]
        self._declared.clear()
        connection.declared_entities.clear()
        connection.transport.state.clear()


def capture_connection(app: Celery) -> Connection:
    """A connection to the app's broker on which publishing only captures; opens nothing yet.

    ``connection.transport.captured`` grows by the commands of each message published.  Raises ``ConfigError``
    if the broker is not Redis.
    """
    conf = app.conf.broker_transport_options or {}
    timeouts = {"socket_timeout": _SOCKET_TIMEOUT, "socket_connect_timeout": _CONNECT_TIMEOUT}
    options = {key: value for key, value in timeouts.items() if conf.get(key) is None}
    connection = app.connection_for_write(transport_options={**options, "retry_on_timeout": False})
    transport: Any = connection.get_transport_cls()
    if not issubclass(transport, kombu_redis.Transport):
        raise ConfigError(
            f"The broker's transport is {transport.driver_type!r}, and this version publishes to Redis only. "
            "Point broker_url at the Redis that the pool lives on."
        )
    channel = type("CapturingChannel", (_CapturingChannel, transport.Channel), {})
    capturing: Any = type("CapturingTransport", (_CapturingTransport, transport), {"Channel": channel})
    connection.transport_cls = capturing
    return connection


def capturing_producer(app: Celery, connection: Connection) -> Any:
    """The app's own kind of producer on a capturing connection, with ``forget_declarations()``."""
    kind = type("CapturingProducer", (_DeclaringOnce, app.amqp.Producer), {})
    return kind(connection, auto_declare=False)
