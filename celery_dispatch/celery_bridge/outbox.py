"""From an occurrence to the commands that put its message on the broker, and the log lines of stock beat.

The message contract, on top of what Celery itself sends: headers ``dispatch_entry``, ``dispatch_due``,
``dispatch_node``, ``celery_beat_task`` and ``periodic_task_name``, and a task id that is the UUIDv5 of
prefix, entry and due, so that a message which is published again is recognisable.  Relative ``countdown``
and ``expires`` are turned into instants by the pool's clock, so that a node whose own clock is wrong sends
none that are.
"""

from __future__ import annotations

import copy
import logging
import numbers
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from celery import Celery
from celery.beat import ScheduleEntry
from celery.result import denied_join_result
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import (
    AuthenticationError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celery_dispatch.celery_bridge.broker import masked
from celery_dispatch.celery_bridge.messages import capture_connection, capturing_producer
from celery_dispatch.core.entry import Occurrence
from celery_dispatch.core.ports import Command
from celery_dispatch.errors import EntryError, StoreRefused, StoreUnavailable

__all__ = ["CeleryOutbox", "rfc3339", "task_id"]

#: Stock beat's own logger: its "Sending due task" lines stay where people look for them.
beat_logger = logging.getLogger("celery.beat")

Apply = Callable[..., Any]

#: What says that the broker cannot be used now, whatever is being sent.
_OUTAGES = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError, OperationalError)


def rfc3339(moment: datetime) -> str:
    """``moment`` in UTC with milliseconds and ``Z``."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_id(key_prefix: str, entry: str, due: datetime) -> str:
    """The id of an occurrence's message, equal whoever sends it."""
    return str(uuid5(NAMESPACE_URL, f"{key_prefix}\n{entry}\n{rfc3339(due)}"))


class CeleryOutbox:
    """Renders occurrences whose payload is a ``celery.beat.ScheduleEntry``; implements the ``Outbox`` port.

    ``apply_async(entry, producer=..., advance=False)`` is the scheduler's own, so that what users override
    there keeps its effect.  ``verify`` is called with each
    new connection and may refuse it.  The connection belongs to the thread that renders.
    """

    def __init__(
        self,
        app: Celery,
        *,
        key_prefix: str,
        node: str,
        apply_async: Apply,
        verify: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        self._app = app
        self._key_prefix = key_prefix
        self._node = node
        self._apply_async = apply_async
        self._verify = verify
        self._connection: Connection | None = None
        self._producer: Any = None

    @property
    def connection(self) -> Connection:
        """The capturing connection; raises ``RuntimeError`` before ``connect()``."""
        if self._connection is None:
            raise RuntimeError("the outbox is not connected")
        return self._connection

    def connect(self) -> None:
        if self._producer is not None:
            return
        connection = capture_connection(self._app)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            self._verify(connection)
            self._producer = capturing_producer(self._app, connection)
        except Exception as error:
            connection.release()
            raise self._translated(error) from error
        self._connection = connection

    def _translated(self, error: Exception) -> Exception:
        """The error of connecting, as this package's own."""
        broker = masked(str(self._app.conf.broker_write_url))
        if any(isinstance(each, AuthenticationError) for each in _chain(error)):
            return StoreRefused(f"The broker {broker} refused the login ({error}). Check broker_url.")
        if _is_outage(error):
            return StoreUnavailable(f"The broker {broker} cannot be reached: {error}")
        return error

    def render(self, occurrence: Occurrence, *, now: datetime) -> tuple[Command, ...]:
        self.connect()
        transport: Any = self.connection.transport
        commands = self._publish(occurrence, now, transport.captured)
        if not commands:
            self._producer.forget_declarations()
            commands = self._publish(occurrence, now, transport.captured)
        return commands

    def sent(self, occurrence: Occurrence) -> None:
        entry = _payload(occurrence)
        beat_logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)

    def close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()

    def _publish(self, occurrence: Occurrence, now: datetime, captured: list[Command]) -> tuple[Command, ...]:
        """The commands of one message.

        What looks like an outage is one if this outbox's own connection does not answer.  If it does, the
        connection was renewed meanwhile, and a second try settles whether the entry's own code has an outage.
        """
        try:
            return self._captured(occurrence, now, captured)
        except Exception as error:
            if not _is_outage(error):
                raise EntryError(str(error)) from error
            self._check_answer(error)
        try:
            return self._captured(occurrence, now, captured)
        except Exception as error:
            raise EntryError(str(error)) from error

    def _captured(
        self, occurrence: Occurrence, now: datetime, captured: list[Command]
    ) -> tuple[Command, ...]:
        captured.clear()
        entry = self._prepared(occurrence, now)
        with denied_join_result():  # beat reads no results: do not subscribe to each of them
            self._apply_async(entry, producer=self._producer, advance=False)
        return tuple(captured)

    def _check_answer(self, error: Exception) -> None:
        channel: Any = self.connection.default_channel
        try:
            with channel.conn_or_acquire() as client:
                client.ping()
        except RedisError:
            raise StoreUnavailable(f"The broker's routing tables cannot be read: {error}") from error

    def _prepared(self, occurrence: Occurrence, now: datetime) -> ScheduleEntry:
        """A copy of the payload for one fire; the user's own options stay as they are."""
        payload, name = _payload(occurrence), occurrence.entry.name
        entry: ScheduleEntry = object.__new__(type(payload))
        entry.__dict__.update(payload.__dict__)
        entry.options = _options(payload.options, now)
        entry.options.setdefault("task_id", task_id(self._key_prefix, name, occurrence.due))
        headers = dict(entry.options.get("headers") or {})
        headers["periodic_task_name"] = headers["dispatch_entry"] = name
        headers["dispatch_due"] = rfc3339(occurrence.due)
        headers["dispatch_node"] = self._node
        headers["celery_beat_task"] = True  # Celery sets it itself, but not in every 5.5
        entry.options["headers"] = headers
        return entry


def _payload(occurrence: Occurrence) -> ScheduleEntry:
    payload = occurrence.entry.payload
    if not isinstance(payload, ScheduleEntry):
        raise EntryError(f"The payload of {occurrence.entry.name!r} is no ScheduleEntry: {payload!r}")
    return payload


def _options(options: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(options) if options else {}
    if isinstance(result.get("countdown"), numbers.Real):
        result["eta"] = now + timedelta(seconds=float(result.pop("countdown")))
    if isinstance(result.get("expires"), numbers.Real):
        result["expires"] = now + timedelta(seconds=float(result["expires"]))
    result["retry"] = False  # a second try would be a second message
    return result


def _is_outage(error: Exception) -> bool:
    """Whether the broker is at fault rather than the entry; Celery and kombu wrap what was raised first."""
    chain = _chain(error)
    refusals = [each for each in chain if isinstance(each, ResponseError) and not isinstance(each, _OUTAGES)]
    return not refusals and any(isinstance(each, _OUTAGES) for each in chain)


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and those that led to it."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
