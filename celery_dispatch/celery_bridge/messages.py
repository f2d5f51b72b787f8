"""Messages exactly as Celery and kombu would send them, collected instead of sent.

A connection of its own runs Celery's whole publish path: routing, declarations, serialisation, compression,
priorities, signals.  Its channels differ from kombu's in one point: where kombu would hand a message to the
broker, it is recorded.

* On Redis (``redis``, ``rediss``, ``sentinel``) that is where kombu writes: ``_put`` and ``_put_fanout``.
  The commands are recorded, so that a script can carry them out together with a claim.
* On any other transport it is ``basic_publish``.  The message is recorded as text (``raw_messages``).

Everything else that a channel does, such as declaring queues or reading the tables of topic exchanges, really
happens.  The channels' ``send`` publishes for real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_dispatch.celery_bridge.raw_messages import RawMessage
from celery_dispatch.core.ports import Command

__all__ = ["Capture"]

_REDIS_TIMEOUT = 2.0  # seconds; kombu's default is to wait for ever
_REDIS_CONNECT_TIMEOUT = 1.0
_LONGEST_CONNECT = 4.0  # seconds; a loop that stands for longer comes near its lease
_LONGEST_HEARTBEAT = 10.0  # seconds; Celery's 120 is for workers, which have other signs of life
_FRAME_OVERHEAD = 64  # bytes; more than AMQP needs around the properties of a message


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


class _RedisChannel:
    """What a capturing channel of Redis does differently; mixed into the transport's channel class."""

    captured: list[Command]
    recorder: Recorder | None = None

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        with self._recording():
            super()._put(queue, message, **kwargs)  # type: ignore[misc]

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        with self._recording():
            super()._put_fanout(exchange, message, routing_key, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _recording(self) -> Iterator[None]:
        self.recorder = Recorder(self.global_keyprefix)  # type: ignore[attr-defined]
        try:
            yield
            self.captured.extend(self.recorder.commands)
        finally:
            self.recorder = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if self.recorder is not None:
            yield self.recorder
        else:
            with super().conn_or_acquire(client) as real:  # type: ignore[misc]
                yield real

    def _connparams(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(*args, **kwargs)  # type: ignore[misc]
        params["retry"] = Retry(NoBackoff(), 0)  # what failed may have been carried out; the caller decides
        return params


class _RawChannel:
    """What a capturing channel of any other transport does differently; mixed into its channel class."""

    captured: list[Command]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known_exchanges: set[str] = set()
        vars(self).pop("basic_publish", None)  # py-amqp covers the method where publishing is to be confirmed

    def prepare_message(
        self,
        body: str | bytes,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        **_: Any,
    ) -> RawMessage:
        return RawMessage(
            body, priority, content_type, content_encoding, headers or {}, properties if properties else {}
        )

    def basic_publish(
        self,
        message: RawMessage,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        **_: Any,
    ) -> None:
        whole = replace(message, exchange=exchange, routing_key=routing_key or "", mandatory=bool(mandatory))
        self._check_amqp(whole, immediate)
        self.captured.append(whole.command())

    def native_message(self, *args: Any) -> Any:
        """What the transport's own ``prepare_message`` makes of these arguments."""
        return super().prepare_message(*args)  # type: ignore[misc]

    def send(self, message: RawMessage, **options: Any) -> None:
        """Publish for real, as the transport does."""
        super().basic_publish(  # type: ignore[misc]
            message.prepared(self),
            exchange=message.exchange,
            routing_key=message.routing_key,
            mandatory=message.mandatory,
            **options,
        )

    def _check_amqp(self, message: RawMessage, immediate: bool) -> None:
        """Raise for what would make an AMQP broker close the connection or the channel, under everybody."""
        serialise = getattr(message.prepared(self), "_serialize_properties", None)
        if serialise is None:
            return
        own: Any = self
        if immediate:
            raise ValueError("the option immediate=True is not implemented by RabbitMQ; remove it")
        size, largest = len(serialise()), own.connection.frame_max - _FRAME_OVERHEAD
        if size > largest:
            raise ValueError(f"its headers take {size} bytes, and the broker allows {largest}")
        if message.exchange and message.exchange not in self._known_exchanges:
            own.exchange_declare(message.exchange, "", passive=True)
            self._known_exchanges.add(message.exchange)


class _CapturingProducer:
    """Asks kombu once for each queue, not once for each message; mixed into the app's producer class."""

    captured: list[Command]

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

    def _publish(self, *args: Any, **kwargs: Any) -> Any:
        """Publish; once more with all declared anew where nothing came of it, as after Redis was emptied."""
        before = len(self.captured)
        answer = super()._publish(*args, **kwargs)  # type: ignore[misc]
        if len(self.captured) == before:
            self._forget_declarations()
            answer = super()._publish(*args, **kwargs)  # type: ignore[misc]
        return answer

    def _forget_declarations(self) -> None:
        connection: Any = self.connection  # type: ignore[attr-defined]
        self._declared.clear()
        connection.declared_entities.clear()
        connection.transport.state.clear()


class Capture:
    """A connection to the app's broker on which publishing only captures; opens nothing by itself.

    ``commands`` grows by those of each message.  The same connection goes on to the next host of a failover
    list, and captures there as well.
    """

    def __init__(self, app: Celery) -> None:
        self.commands: list[Command] = []
        self._app = app
        self.connection: Connection = app.connection_for_write(
            connect_timeout=min(app.conf.broker_connection_timeout or _LONGEST_CONNECT, _LONGEST_CONNECT),
            heartbeat=min(app.conf.broker_heartbeat or 0, _LONGEST_HEARTBEAT),
        )
        if issubclass(self.connection.get_transport_cls(), kombu_redis.Transport):
            _bound_waits(self.connection)
        # Asked for again by each new connection, whose URL may name another transport.
        own: Callable[[], Any] = self.connection.get_transport_cls
        self.connection.get_transport_cls = lambda: self._capturing(own())  # type: ignore[method-assign]

    @property
    def speaks_redis(self) -> bool:
        """Whether what is captured are commands of Redis."""
        return issubclass(self.connection.get_transport_cls(), kombu_redis.Transport)

    def producer(self) -> Any:
        """The app's own kind of producer on this connection."""
        kind = type("CapturingProducer", (_CapturingProducer, self._app.amqp.Producer), self._shared())
        return kind(self.connection, auto_declare=False)

    def _capturing(self, transport: Any) -> Any:
        """``transport`` with channels that capture."""
        if issubclass(transport, kombu_redis.Transport):
            members = {"Channel": self._mixed(_RedisChannel, transport.Channel)}
        elif hasattr(transport, "Channel"):
            members = {"Channel": self._mixed(_RawChannel, transport.Channel)}
        else:  # its connections make the channels
            channel = self._mixed(_RawChannel, transport.Connection.Channel)
            members = {
                "Connection": type("CapturingConnection", (transport.Connection,), {"Channel": channel})
            }
        return type("CapturingTransport", (transport,), members)

    def _mixed(self, mixin: type, channel: type) -> type:
        return type("CapturingChannel", (mixin, channel), self._shared())

    def _shared(self) -> dict[str, Any]:
        return {"captured": self.commands}


def _bound_waits(connection: Connection) -> None:
    """Set the timeouts of Redis that the app's own options do not set."""
    options: Any = connection.transport_options
    for name, seconds in (
        ("socket_timeout", _REDIS_TIMEOUT),
        ("socket_connect_timeout", _REDIS_CONNECT_TIMEOUT),
    ):
        if options.get(name) is None:
            options[name] = seconds
    options["retry_on_timeout"] = False
